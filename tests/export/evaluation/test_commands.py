"""The commands `evaluate` and `repeatability`, with real engines and an untrained network."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from export.coded import SPACING_MM, by_threshold, chest, served
from export.tiny import tiny_run
from typer.testing import CliRunner

from dlild_export.cli import app
from dlild_export.data.digest import sha256
from dlild_export.evaluation.repeatability import (
    CONDITIONS,
    MEASURED_CONDITIONS,
    measure,
    measured_patients,
    patients,
    plain_subject,
    reacquire,
    reacquire_measured,
    sum_up,
    write_repeatability,
)
from dlild_export.phantom import Acquisition

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A contract on voxels of 4 mm."""
    contract = json.loads((ROOT / "model_repository" / "contract.json").read_text("utf-8"))
    contract["grid"]["spacing_mm"] = [SPACING_MM] * 3
    contract["windows"] |= {"minimum": [24] * 3, "maximum": [64] * 3, "maximum_voxels": 200_000}
    folder = tmp_path_factory.mktemp("repository")
    (folder / "contract.json").write_text(json.dumps(contract))
    return folder


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dataset")
    hu, truth = chest()
    for name in ("a", "b"):
        np.savez(folder / f"{name}.npz", hu=hu, labels=truth, info="{}")
    return folder


@pytest.fixture(scope="module")
def nnunet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two scans in nnU-Net's layout, with a label name of the group's own."""
    folder = tmp_path_factory.mktemp("nnunet") / "Dataset001_Lungs"
    hu, truth = chest()
    for name, shift in (("patient-a", 0), ("patient-b", 5)):
        for place, array in (
            (f"imagesTr/{name}_0000.nii.gz", hu + np.int16(shift)),
            (f"labelsTr/{name}.nii.gz", truth),
        ):
            (folder / place).parent.mkdir(parents=True, exist_ok=True)
            image = sitk.GetImageFromArray(array)
            image.SetSpacing((SPACING_MM,) * 3)
            sitk.WriteImage(image, folder / place)
    labels = ("background", "lung", "ground_glass", "reticulation", "honeycombing", "white lung")
    description = {
        "channel_names": {"0": "CT"},
        "labels": {name: label for label, name in enumerate(labels)},
        "numTraining": 2,
        "file_ending": ".nii.gz",
    }
    (folder / "dataset.json").write_text(json.dumps(description))
    return folder


def run(*arguments: object):
    return CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
def test_evaluate_a_run_on_a_dataset(
    engine: str, repository: Path, dataset: Path, tmp_path: Path
) -> None:
    weights = tiny_run()

    result = run(
        "evaluate", weights, dataset, "--out", tmp_path, "--repository", repository,
        "--engine", engine,
    )  # fmt: skip

    assert result.exit_code == 0, result.output
    document = json.loads((tmp_path / "evaluation.json").read_text())
    assert document["about"]["weights_sha256"] == sha256(weights / "model.onnx")
    assert document["about"]["engine"].startswith(engine)
    assert len(document["cases"]) == 2
    assert (tmp_path / "evaluation.html").is_file()
    # An untrained network meets no floor.
    assert document["floor"]["met"] is False
    assert "missed" in result.output


@pytest.mark.slow
def test_phantoms_of_measured_texture_are_cases(repository: Path, tmp_path: Path) -> None:
    result = run(
        "evaluate", tiny_run(), "--texture", "measured", "--first-seed", 1000, "--count", 1,
        "--out", tmp_path, "--repository", repository,
    )  # fmt: skip

    assert result.exit_code == 0, result.output
    document = json.loads((tmp_path / "evaluation.json").read_text())
    assert document["about"]["cases"] == "1 phantoms of measured texture, seeds 1000 to 1000"
    (case,) = document["cases"]
    assert case["name"] == "measured-001000"


def test_a_run_is_evaluated_on_what_it_has_not_seen(
    repository: Path, nnunet: Path, tmp_path: Path
) -> None:
    """From a dataset as a group has it; one of its two patients was trained on."""
    seen = tmp_path / "run"
    shutil.copytree(tiny_run(), seen)
    stored = torch.load(seen / "checkpoint.pt", weights_only=True)
    torch.save(stored | {"cases": ["patient-a"]}, seen / "checkpoint.pt")
    # The ONNX file as it is: the checkpoint beside it tells, and nothing is exported again.
    arguments = (
        "evaluate",
        seen / "model.onnx",
        nnunet,
        "--out",
        tmp_path,
        "--repository",
        repository,
    )

    unnamed = run(*arguments)
    named = run(*arguments, "--map", "white lung=consolidation")

    assert unnamed.exit_code == 3
    assert "white lung" in unnamed.output
    assert named.exit_code == 0, named.output
    document = json.loads((tmp_path / "evaluation.json").read_text())
    assert [c["name"] for c in document["cases"]] == ["patient-b"]
    assert "1 more were trained on and left out" in document["about"]["cases"]
    truth = document["cases"][0]["agreement"]["regions"]["consolidation"]["truth_ml"]
    assert truth == pytest.approx((chest()[1] == 5).sum() * SPACING_MM**3 / 1000)


def test_the_floor_can_be_required(repository: Path, dataset: Path, tmp_path: Path) -> None:
    result = run(
        "evaluate", tiny_run(), dataset, "--out", tmp_path, "--repository", repository,
        "--require-floor",
    )  # fmt: skip

    assert result.exit_code == 1
    assert (tmp_path / "evaluation.html").is_file()


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["absent.onnx"], 3, "absent.onnx: no such file"),
        (["RUN", "absent"], 3, "absent: no such folder"),
        (["RUN", "--planted", "5,x"], 2, "list of percentages"),
        (["RUN", "--planted", "5"], 2, "--real"),
        (["RUN", "--engine", "torch"], 2, "torch"),
    ],
)
def test_bad_input_ends_in_one_line(
    arguments: list[str], code: int, words: str, repository: Path, tmp_path: Path
) -> None:
    given = [str(tiny_run()) if a == "RUN" else a for a in arguments]

    result = run("evaluate", *given, "--out", tmp_path, "--repository", repository)

    assert result.exit_code == code
    assert words in " ".join(re.sub(r"[│╭╮╰╯─]", " ", result.output).split())
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("texture", "conditions"),
    [
        pytest.param("plain", CONDITIONS, marks=pytest.mark.slow),
        ("measured", MEASURED_CONDITIONS),
    ],
)
def test_repeatability_of_a_run(
    texture: str, conditions: dict[str, frozenset[str]], repository: Path, tmp_path: Path
) -> None:
    result = run(
        "repeatability", tiny_run(), "--out", tmp_path, "--repository", repository,
        "--patients", 1, "--repeats", 2, "--texture", texture,
    )  # fmt: skip

    assert result.exit_code == 0, result.output
    document = json.loads((tmp_path / "repeatability.json").read_text())
    assert {c["name"]: {*c["changes"]} for c in document["conditions"]} == conditions
    assert len(document["measurements"]) == 2 * len(conditions)
    assert f"texture {texture}" in document["about"]["cases"]
    assert (tmp_path / "repeatability.html").is_file()


@pytest.mark.parametrize("condition", CONDITIONS)
def test_a_condition_changes_what_it_says_and_nothing_else(condition: str) -> None:
    first = Acquisition(seed=1, thickness_mm=2.0, noise_hu=30.0, sharpness=0.2)
    changed = {
        "noise": ("seed",),
        "kernel": ("sharpness",),
        "thickness": ("thickness_mm",),
        "position": ("shift_mm",),
        "inspiration": ("inspiration",),
    }
    fields = {f for change in CONDITIONS[condition] for f in changed[change]}

    drawn = [
        reacquire(first, CONDITIONS[condition], np.random.default_rng(seed)) for seed in range(9)
    ]

    for field in ("seed", "thickness_mm", "noise_hu", "sharpness", "shift_mm", "inspiration"):
        values = {getattr(a, field) for a in drawn}
        assert (len(values) > 1) == (field in fields), field
    again = reacquire(first, CONDITIONS[condition], np.random.default_rng(0))
    assert again == drawn[0]
    # What is not to change stays what it was.
    restored = {f: getattr(first, f) for f in fields}
    assert all(replace(a, **restored) == first for a in drawn)


@pytest.mark.parametrize("condition", MEASURED_CONDITIONS)
def test_a_condition_of_measured_texture_changes_what_it_says(condition: str) -> None:
    first = measured_patients(1, 2)[1].scan
    changed = {
        "noise": {"seed"},
        "kernel": {"blur_mm", "noise_hu", "noise_peak_per_mm"},
        "thickness": {"thickness_mm", "step_mm", "noise_hu"},
        "gaps": {"thickness_mm", "step_mm", "pairs_mm"},
    }
    fields = set().union(*(changed[change] for change in MEASURED_CONDITIONS[condition]))

    drawn = [
        reacquire_measured(first, MEASURED_CONDITIONS[condition], np.random.default_rng(seed))
        for seed in range(9)
    ]

    moved = {f for f in asdict(first) if any(getattr(a, f) != getattr(first, f) for a in drawn)}
    assert moved == fields
    assert all(a.gapped == (a.step_mm == 10) for a in drawn)
    if "thickness" in MEASURED_CONDITIONS[condition]:
        assert all(a.step_mm == a.thickness_mm for a in drawn)


def test_patients_of_measured_texture_are_drawn_by_seed_and_severity() -> None:
    specs = measured_patients(10, 6)

    assert [s.body.seed for s in specs] == list(range(10, 16))
    assert [specs[0].body.severity, specs[-1].body.severity] == pytest.approx([0.02, 0.45])
    assert len({s.body.pattern for s in specs}) == 4
    assert not any(s.scan.gapped for s in specs)
    assert measured_patients(10, 6) == specs


def test_position_moves_by_parts_of_voxels_and_slices() -> None:
    first = Acquisition(seed=1, thickness_mm=5.0)
    shifts = np.abs([
        reacquire(first, frozenset({"position"}), np.random.default_rng(s)).shift_mm
        for s in range(200)
    ])  # fmt: skip

    assert (shifts.max(axis=0) <= (2.5, 0.75, 0.75)).all()
    assert (shifts.max(axis=0) > (2.0, 0.6, 0.6)).all()


def test_patients_span_the_severities_and_all_patterns() -> None:
    specs = patients(10, 8)

    assert [s.seed for s in specs] == list(range(10, 18))
    assert specs[0].severity == pytest.approx(0.02)
    assert specs[-1].severity == pytest.approx(0.6)
    assert len({s.pattern for s in specs}) == 4
    assert patients(10, 1)[0].severity == pytest.approx(0.31)


def test_repeated_scans_of_phantoms(tmp_path: Path) -> None:
    """The truth is held while the scan changes, and a threshold feels the change."""
    network = served(by_threshold)
    specs = [replace(s, noise_hu=25.0) for s in patients(3, 1)]

    found, refused = measure([plain_subject(s) for s in specs], network, repeats=2)
    conditions = {c.name: c for c in sum_up(found)}

    assert refused == []
    assert [*conditions] == [*CONDITIONS]
    for condition in conditions.values():
        assert condition.measured.scans == 2
        # Sampling the truth anew moves it by a little, on these large voxels.
        assert condition.truth_within_sd < 0.5
    assert conditions["noise"].truth_within_sd == 0
    assert conditions["noise"].measured.within_sd.value > 0
    assert set(conditions["all"].bands) == {"over 30 %"}
    page = write_repeatability(found, refused, network, "one patient", tmp_path)
    assert "one patient" in page.read_text("utf-8")
