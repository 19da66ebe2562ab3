"""A whole evaluation: with a network that is always right, with a crude one, and with bad cases."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from export.coded import (
    SPACING_MM,
    by_threshold,
    chest,
    coarse_contract,
    coded_case,
    read_class,
    served,
)

from dlild_client.errors import InputError, UnreadableFileError
from dlild_client.volume import Volume
from dlild_export.evaluation import evaluate, write_report
from dlild_export.evaluation.cases import (
    EvaluationCase,
    StoredCase,
    dataset_files,
    only_unseen,
    phantom_cases,
    refuse_trained,
    trained_cases,
)
from dlild_export.evaluation.metrics import ALL_LESIONS, ALL_LUNG
from dlild_export.evaluation.served import contract_of, find_onnx, load_served, score_volume
from dlild_export.phantom import Pattern, PhantomSpec
from dlild_export.release.evaluation_file import read_evaluation

CONTRACT = coarse_contract()


def half_blind(window: np.ndarray) -> np.ndarray:
    """Always right, but for consolidation, which it takes for no lung at all."""
    out = read_class(window)
    out[:, 0] += out[:, 5]
    out[:, 5] = 0
    return out


@pytest.fixture(scope="module")
def cases() -> list[EvaluationCase]:
    return [
        coded_case("all-classes", pattern="mixed", thickness_mm=1.0),
        coded_case("healthy", (), pattern="none", thickness_mm=5.0),
        coded_case("dense", (5, 5, 5), pattern="organising", thickness_mm=1.0),
        EvaluationCase(
            "no-chest",
            Volume(np.full((50, 50, 50), 40, np.int16), (SPACING_MM,) * 3),
            np.zeros((50, 50, 50), np.uint8),
        ),
    ]


@pytest.fixture(scope="module")
def scan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A healthy chest as a file, as a hospital would give it."""
    hu, _ = chest(())
    image = sitk.GetImageFromArray(hu)
    image.SetSpacing((SPACING_MM,) * 3)
    path = tmp_path_factory.mktemp("scan") / "chest.nii.gz"
    sitk.WriteImage(image, path)
    return path


def test_labels_lie_where_the_scan_has_them() -> None:
    hu, truth = chest()

    scored = score_volume(Volume(hu, (SPACING_MM,) * 3), read_class, CONTRACT)

    np.testing.assert_array_equal(scored.grid.array, hu)
    np.testing.assert_array_equal(scored.labels, truth)
    assert scored.dl_ild_percent(CONTRACT) == pytest.approx(
        100 * (truth >= 2).sum() / (truth >= 1).sum()
    )


def test_a_network_that_is_always_right(cases: list[EvaluationCase]) -> None:
    found = evaluate(served(), cases, description="coded chests")

    assert [r.name for r in found.run.results] == ["all-classes", "healthy", "dense"]
    assert found.summary is not None
    assert found.summary.score.mean_absolute_error.value == 0
    for region in found.summary.regions.values():
        assert region.dice.value == region.surface_dice.value == region.pooled_dice == 1
    assert found.summary.regions["reticulation"].dice.cases == 1
    assert found.strata["thickness"]["up to 1.25 mm"].score.cases == 2


def test_what_the_client_refuses_is_listed_and_spoils_the_floor(
    cases: list[EvaluationCase],
) -> None:
    lines: list[str] = []

    found = evaluate(served(), cases, description="", progress=lines.append)

    assert [r.name for r in found.run.refused] == ["no-chest"]
    assert "no lungs found" in found.run.refused[0].reason
    assert len(lines) == 4
    assert found.verdict is not None
    assert "cases not scored" in {t.name for t in found.verdict.targets if not t.met}


def test_what_a_network_misses_shows(cases: list[EvaluationCase]) -> None:
    found = evaluate(served(half_blind), cases[:3], description="")

    assert found.summary is not None
    dense = found.run.results[2]
    assert dense.error_points == pytest.approx(-dense.agreement.true_percent)
    assert found.summary.regions["consolidation"].dice.value == 0
    assert found.summary.regions["ground_glass"].dice.value == 1
    assert found.summary.regions[ALL_LUNG].dice.value < 1
    # The slices that are shown are those where consolidation lies.
    for view in found.run.views["dense"]:
        assert view.truth is not None
        assert ((view.truth == 5) & (view.predicted == 0)).sum() > 100


def test_views_are_the_radiologists() -> None:
    found = evaluate(served(half_blind), [coded_case("case")], description="")

    axial, coronal = found.run.views["case"]
    assert (axial.plane, coronal.plane) == ("axial", "coronal")
    # Lesions lie at the base, so at the foot of the coronal picture.
    assert coronal.truth is not None
    rows = np.nonzero(coronal.truth >= 2)[0]
    assert rows.mean() > coronal.hu.shape[0] / 2


def test_truth_of_another_shape_is_refused() -> None:
    hu, truth = chest()
    case = EvaluationCase("case", Volume(hu, (SPACING_MM,) * 3), truth[:-2])

    found = evaluate(served(), [case], description="")

    assert "truth has shape" in found.run.refused[0].reason
    assert found.summary is None
    assert found.verdict is None


@pytest.mark.parametrize(
    ("texture", "least"), [("plain", 1), pytest.param("measured", 0.1, marks=pytest.mark.slow)]
)
def test_real_scans_with_lesions_planted(
    texture: str, least: float, scan: Path, tmp_path: Path
) -> None:
    found = evaluate(
        served(by_threshold),
        [],
        description="",
        real=[scan, tmp_path / "absent"],
        planted_percent=[20.0],
        texture=texture,
    )

    (result,) = found.real.results
    assert result.dl_ild_percent == 0
    assert result.lung_difference_percent == pytest.approx(0, abs=3)
    (planted,) = result.planted
    assert planted.true_percent == pytest.approx(20, abs=0.1)
    # A threshold finds some of it, of fine texture less, and takes no healthy lung for it.
    assert least < planted.dl_ild_percent < 25
    assert [r.name for r in found.real.refused] == ["scan 2"]
    assert "no such file" in found.real.refused[0].reason
    assert found.real_verdict is not None
    assert not found.real_verdict.met


def test_page_and_json(cases: list[EvaluationCase], scan: Path, tmp_path: Path) -> None:
    network = served(half_blind)
    found = evaluate(network, cases, description="coded <chests>", real=[scan])

    page = write_report(found, network, tmp_path / "new" / "report", failures=1)

    html = page.read_text("utf-8")
    assert "coded &lt;chests&gt;" in html
    assert html.count("<figure>") == 2  # the worst by error and Dice alike, and the real scan
    # Opens offline: nothing but data inside the page is loaded.
    assert not re.findall(r"""(?:src|href)=["'](?!data:|#)""", html)
    assert "url(" not in html
    document = json.loads(page.with_name("evaluation.json").read_text("utf-8"))
    assert document["schema_version"] == 1
    assert [c["name"] for c in document["cases"]] == ["all-classes", "healthy", "dense"]
    assert document["cases"][1]["agreement"]["regions"][ALL_LESIONS]["dice"] is None
    assert document["not_scored"][0]["name"] == "no-chest"
    assert document["summary"]["regions"]["consolidation"]["dice"]["value"] == 0
    assert {"name", "rule", "value", "met"} <= set(document["floor"]["targets"][0])
    release = read_evaluation(page.with_name("evaluation.json"))
    assert release.weights_sha256 == network.digest
    assert len(release.real_targets) == 2


def test_prepared_scans_are_read_back(tmp_path: Path) -> None:
    hu, truth = chest()
    info = json.dumps({"pattern": "uip", "thickness_mm": 2.5})
    np.savez(tmp_path / "case-1.npz", hu=hu, labels=truth, info=info)

    (file,) = dataset_files(tmp_path, tmp_path / "work", CONTRACT)
    case = StoredCase.open(file).read(CONTRACT)

    assert (case.name, case.pattern, case.thickness_mm) == ("case-1", "uip", 2.5)
    np.testing.assert_array_equal(case.grid.array, hu)
    np.testing.assert_array_equal(case.truth, truth)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({}, r"case\.npz: .*info"),
        ({"info": "[1]"}, r"case\.npz: .*read"),
        ({"info": "{"}, r"case\.npz: .*read"),
        ({"hu": np.zeros((2, 2, 2)), "info": "{}"}, r"case\.npz: .*labels"),
        (
            {"hu": np.zeros((2, 2, 2)), "labels": np.zeros((2, 2, 3), np.uint8), "info": "{}"},
            r"case\.npz: hu has shape",
        ),
        (
            {"hu": np.zeros((2, 2, 2)), "labels": np.zeros((2, 2, 2), np.uint8), "info": "{}"},
            r"case\.npz: the lowest hu",
        ),
    ],
)
def test_what_is_no_prepared_scan(content: dict, words: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "case.npz", **content)

    with pytest.raises((InputError, ValueError), match=words):
        StoredCase.open(tmp_path / "case.npz").read(CONTRACT)


def test_a_truncated_scan_is_named(tmp_path: Path) -> None:
    (tmp_path / "case.npz").write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(UnreadableFileError, match=r"case\.npz"):
        StoredCase.open(tmp_path / "case.npz")


def test_a_folder_without_scans_is_no_dataset(tmp_path: Path) -> None:
    with pytest.raises(InputError):
        dataset_files(tmp_path, tmp_path / "work", CONTRACT)
    with pytest.raises(UnreadableFileError, match="absent: no such folder"):
        dataset_files(tmp_path / "absent", tmp_path / "work", CONTRACT)


def stored(*names: str) -> list[StoredCase]:
    return [StoredCase(Path(f"{name}.npz"), name, {}) for name in names]


def test_cases_that_were_trained_on_are_left_out() -> None:
    found = only_unseen(stored("a", "b", "c"), frozenset({"a", "x"}))

    assert [c.name for c in found.cases] == ["b", "c"]
    assert found.describe("set") == "2 scans of set; 1 more were trained on and left out"
    assert "do not record" in only_unseen(stored("a"), None).describe("set")
    with pytest.raises(InputError, match="--with-trained"):
        only_unseen(stored("a"), frozenset({"a"}))


def test_phantoms_that_were_trained_on_prove_nothing() -> None:
    refuse_trained(["phantom-000003"], None)
    refuse_trained(["phantom-000003"], frozenset({"phantom-000004"}))
    with pytest.raises(InputError, match=r"trained on \(phantom-000004"):
        refuse_trained(["phantom-000003", "phantom-000004"], frozenset({"phantom-000004"}))


def test_a_run_reports_what_it_was_trained_on(tmp_path: Path) -> None:
    assert trained_cases(tmp_path) is None
    torch.save({"cases": ["a", "b"]}, tmp_path / "checkpoint.pt")

    for weights in (tmp_path, tmp_path / "checkpoint.pt", tmp_path / "model.onnx"):
        assert trained_cases(weights) == {"a", "b"}
    torch.save({}, tmp_path / "checkpoint.pt")
    assert trained_cases(tmp_path) is None


def test_phantoms_are_made_on_the_contracts_grid() -> None:
    spec = PhantomSpec(seed=3, pattern=Pattern.UIP, severity=0.2, thickness_mm=2.0)

    (case,) = phantom_cases([spec], CONTRACT, [])

    assert case.grid.spacing_mm == (SPACING_MM,) * 3
    assert (case.name, case.pattern, case.thickness_mm) == ("phantom-000003", "uip", 2.0)
    assert 100 * (case.truth >= 2).sum() / (case.truth >= 1).sum() == pytest.approx(20, abs=0.1)


def test_weights_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(UnreadableFileError, match="no such file"):
        find_onnx(tmp_path / "model.onnx")
    with pytest.raises(UnreadableFileError, match="no checkpoint"):
        find_onnx(tmp_path)
    (tmp_path / "checkpoint.pt").write_bytes(b"nothing that torch knows")
    with pytest.raises(UnreadableFileError, match="not a checkpoint"):
        find_onnx(tmp_path)
    (tmp_path / "model.onnx").write_bytes(b"nothing that an engine knows")
    (tmp_path / "contract.json").write_text(
        (Path(__file__).parents[3] / "model_repository" / "contract.json").read_text("utf-8")
    )
    for engine in ("openvino", "onnxruntime"):
        with pytest.raises(UnreadableFileError, match=f"{engine} cannot load it"):
            load_served(tmp_path / "model.onnx", engine)  # type: ignore[arg-type]


def test_the_contract_is_that_of_the_weights_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text = (Path(__file__).parents[3] / "model_repository" / "contract.json").read_text("utf-8")
    repository = tmp_path / "repository"
    (repository / "ild_unet" / "1").mkdir(parents=True)
    (repository / "contract.json").write_text(text.replace('"name": "dlild"', '"name": "other"'))

    assert contract_of(repository / "ild_unet" / "1" / "model.onnx").model.name == "other"
    assert contract_of(tmp_path / "run" / "model.onnx").model.name == "dlild"
    assert contract_of(tmp_path / "run" / "model.onnx", repository).model.name == "other"
    with pytest.raises(UnreadableFileError, match="--repository"):
        contract_of(tmp_path / "model.onnx", tmp_path)
