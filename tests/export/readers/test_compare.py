"""Studies from their files to figures, report and pictures, with answers known beforehand."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from export.coded import ROOT, SPACING_MM, chest, coarse_contract, read_class
from PIL import Image
from typer.testing import CliRunner

from dlild_client.errors import InputError
from dlild_client.volume import Volume
from dlild_export.cli import app
from dlild_export.evaluation.served import score_volume
from dlild_export.readers import compare_study, read_study
from dlild_export.readers.compare import LABEL_MAP, Comparison

CONTRACT = coarse_contract()
SLICES = (17, 20, 22, 30)
"""Those below hold one class of lesion each, the last none."""


def _save(path: Path, array: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = sitk.GetImageFromArray(array)
    image.SetSpacing((SPACING_MM,) * 3)
    sitk.WriteImage(image, str(path))
    return path


def _rectangle(mask: np.ndarray) -> list[list[float]]:
    """Return the box round a mask, with its pixels inside."""
    rows, columns = np.nonzero(mask)
    left, right = columns.min() - 0.5, columns.max() + 0.5
    top, bottom = rows.min() - 0.5, rows.max() + 0.5
    return [[left, top], [right, top], [right, bottom], [left, bottom]]


def _outlined(truth: np.ndarray, slices: tuple[int, ...] = SLICES) -> dict[str, Any]:
    """Outline lungs and lesions of some slices, row by row, as exactly as pixels allow."""
    entries = []
    for k in slices:
        plane, outlines = truth[k], []
        for label, name in ((1, "lung"), (2, "GGO"), (3, "reticulation"), (4, "honeycombing")):
            mask = plane > 0 if label == 1 else plane == label
            for row in np.flatnonzero(mask.any(axis=1)):
                for side in (slice(0, 45), slice(45, 90)):
                    part = np.zeros_like(mask)
                    part[row, side] = mask[row, side]
                    if part.any():
                        outlines.append({"class": name, "points": _rectangle(part)})
        entries.append({"slice": k, "outlines": outlines})
    return {"slices": entries}


@pytest.fixture
def truth() -> np.ndarray:
    return chest((2, 3, 4))[1]


@pytest.fixture
def study(tmp_path: Path, truth: np.ndarray) -> Path:
    """One scan, its label map, and a reader who agrees with it to the pixel."""
    hu, labels = chest((2, 3, 4))
    _save(tmp_path / "scan.nii.gz", hu)
    _save(tmp_path / "result" / "labels.nii.gz", labels)
    (tmp_path / "first.json").write_text(json.dumps(_outlined(truth)))
    return _study(tmp_path, first="first.json")


def _study(folder: Path, *, drop: tuple[str, ...] = (), **readers: Any) -> Path:
    entry = {"name": "one", "result": "result", "scan": "scan.nii.gz", "readers": readers}
    path = folder / "study.json"
    path.write_text(json.dumps({"scan": [{k: v for k, v in entry.items() if k not in drop}]}))
    return path


def _compare(path: Path, **more: Any) -> dict[tuple[str, str], Comparison]:
    return {(c.first, c.second): c for c in compare_study(read_study(path), CONTRACT, **more)}


def test_a_reader_who_agrees_with_the_label_map(study: Path, truth: np.ndarray) -> None:
    found = _compare(study)["first", LABEL_MAP]

    assert found.figures is not None
    assert (found.figures.dice, found.figures.sensitivity, found.figures.precision) == (1, 1, 1)
    chosen = truth[list(SLICES)]
    extent = 100 * (chosen > 1).sum() / (chosen > 0).sum()
    assert found.figures.first_percent == pytest.approx(extent)
    assert found.figures.second_percent == pytest.approx(extent)
    assert [s.slice for s in found.slices] == list(SLICES)
    assert found.slices[-1].first_percent == 0.0
    assert np.isnan(found.slices[-1].dice)
    for name, label in (("ground_glass", 2), ("reticulation", 3), ("honeycombing", 4)):
        area = float((chosen == label).sum()) * SPACING_MM**2
        assert found.figures.classes[name].first_mm2 == pytest.approx(area)
        assert found.figures.classes[name].dice == (
            1.0 if area else pytest.approx(np.nan, nan_ok=True)
        )
    assert found.over_slices is not None
    assert found.over_slices.icc.value == pytest.approx(1.0)
    assert found.over_slices.score.bias.value == 0.0


def test_only_slices_that_were_read_count(study: Path, truth: np.ndarray) -> None:
    labels = truth.copy()
    others = [k for k in range(len(labels)) if k not in SLICES]
    labels[others] = np.where(labels[others] > 0, 5, 0)
    _save(study.parent / "result" / "labels.nii.gz", labels)

    found = _compare(study)["first", LABEL_MAP].figures

    assert found is not None
    assert (found.dice, found.slices) == (1.0, 4)


def test_a_label_map_that_misses_half(study: Path, truth: np.ndarray) -> None:
    labels = truth.copy()
    labels[:, :, :45] = np.minimum(labels[:, :, :45], 1)
    _save(study.parent / "result" / "labels.nii.gz", labels)

    found = _compare(study)["first", LABEL_MAP]

    assert found.figures is not None
    assert found.figures.sensitivity == pytest.approx(0.5)
    assert found.figures.precision == 1.0
    assert found.figures.second_percent == pytest.approx(found.figures.first_percent / 2)
    assert found.over_slices is not None
    assert found.over_slices.score.bias.value < 0


def test_without_an_outlined_lung_that_of_the_label_map_counts(
    study: Path, truth: np.ndarray
) -> None:
    document = _outlined(truth)
    for entry in document["slices"]:
        entry["outlines"] = [o for o in entry["outlines"] if o["class"] != "lung"]
    (study.parent / "second.json").write_text(json.dumps(document))

    found = _compare(_study(study.parent, first="first.json", second="second.json"))

    assert set(found) == {("first", LABEL_MAP), ("second", LABEL_MAP), ("first", "second")}
    assert found["second", LABEL_MAP].figures == found["first", LABEL_MAP].figures


def test_lesions_count_within_the_outlined_lung_only(study: Path, truth: np.ndarray) -> None:
    document = _outlined(truth, (20,))
    whole = [[-0.5, -0.5], [89.5, -0.5], [89.5, 69.5], [-0.5, 69.5]]
    document["slices"][0]["outlines"].append({"class": "consolidation", "points": whole})
    (study.parent / "first.json").write_text(json.dumps(document))

    assert _compare(study)["first", LABEL_MAP].slices[0].first_percent == 100.0


def test_two_readers_are_compared_on_what_both_read(study: Path, truth: np.ndarray) -> None:
    (study.parent / "second.json").write_text(json.dumps(_outlined(truth, (22, 30))))

    found = _compare(_study(study.parent, first="first.json", second="second.json"))

    assert [s.slice for s in found["first", "second"].slices] == [22, 30]
    assert found["second", LABEL_MAP].figures is not None
    assert found["second", LABEL_MAP].figures.slices == 2


def test_extents_of_slices_are_held_against_outlines_and_label_map(study: Path) -> None:
    (study.parent / "second.csv").write_text("slice,extent_percent\n20,70\n30,5\n")

    found = _compare(_study(study.parent, first="first.json", second="second.csv"))

    pair = found["second", LABEL_MAP]
    assert pair.figures is None
    measured = {s.slice: s.second_percent for s in pair.slices}
    outlined = {s.slice: s.first_percent for s in found["first", LABEL_MAP].slices}
    assert measured == pytest.approx({20: outlined[20], 30: 0.0})
    assert [s.first_percent for s in pair.slices] == [70.0, 5.0]
    assert [s.second_percent for s in found["first", "second"].slices] == [70.0, 5.0]


def test_zones_are_held_against_the_results(study: Path) -> None:
    zones = {
        "right_upper": {"lung_ml": 200, "lesion_ml": 50},
        "empty": {"lung_ml": 0, "lesion_ml": 0},
    }
    classes = {c.name: {"label": c.label} for c in CONTRACT.classes if c.lung}
    result = study.parent / "result" / "result.json"
    result.write_text(json.dumps({"classes": classes, "zones": zones}))
    (study.parent / "first.json").write_text(json.dumps({"zones": {"right_upper": 40}}))

    (zone,) = _compare(study)["first", LABEL_MAP].zones
    assert (zone.zone, zone.first_percent, zone.second_percent) == ("right_upper", 40.0, 25.0)

    (study.parent / "first.json").write_text(json.dumps({"zones": {"middle": 40}}))
    with pytest.raises(InputError, match="one: zone 'middle' is none of the result's"):
        _compare(study)
    classes["reticulation"]["label"] = 4
    result.write_text(json.dumps({"classes": classes, "zones": zones}))
    with pytest.raises(InputError, match="class 'reticulation' has label 4 there, but 3"):
        _compare(study)


def test_a_label_image_is_a_reader(study: Path, truth: np.ndarray) -> None:
    read = np.zeros_like(truth)
    read[[20, 24]] = truth[[20, 24]]
    _save(study.parent / "mask.nii.gz", read)

    found = _compare(_study(study.parent, second="mask.nii.gz"))["second", LABEL_MAP]

    assert [s.slice for s in found.slices] == [20, 24]
    assert found.figures is not None
    assert found.figures.dice == 1.0


def test_outlines_in_mm_need_no_ct(study: Path, truth: np.ndarray) -> None:
    document = _outlined(truth) | {"coordinates": "mm"}
    for entry in document["slices"]:
        entry["z_mm"] = entry.pop("slice") * SPACING_MM
        for outline in entry["outlines"]:
            outline["points"] = (np.array(outline["points"]) * SPACING_MM).tolist()
    (study.parent / "first.json").write_text(json.dumps(document))

    found = _compare(_study(study.parent, drop=("scan",), first="first.json"))["first", LABEL_MAP]

    assert found.figures is not None
    assert found.figures.dice == 1.0
    assert found.figures.densities == {}


def test_weights_score_the_ct_instead_of_the_studys_label_map(study: Path) -> None:
    def score(volume: Volume) -> Volume:
        scored = score_volume(volume, read_class, CONTRACT)
        return scored.grid.with_array(scored.labels)

    shutil.rmtree(study.parent / "result")
    path = _study(study.parent, drop=("result",), first="first.json")

    found = _compare(path, score=score)["first", LABEL_MAP].figures
    assert found is not None
    assert found.dice == 1.0
    with pytest.raises(InputError, match="one: no label map: give `result`, or --weights"):
        _compare(path)


def test_a_folder_is_a_study(study: Path, tmp_path: Path) -> None:
    folder = tmp_path / "folder" / "patient 1"
    shutil.copytree(study.parent / "result", folder / "result")
    shutil.copy(study.parent / "scan.nii.gz", folder)
    shutil.copy(study.parent / "first.json", folder / "radiologist.json")

    ((pair, found),) = _compare(folder.parent).items()

    assert pair == ("radiologist", LABEL_MAP)
    assert list(found.scans) == ["patient 1"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("nothing = [", "neither TOML nor JSON"),
        ("name = 'a'", "a study needs a list `scan`"),
        ("scan = []", "a study needs a list `scan`"),
        ("[[scan]]\nresult = 'result'", "scan 1: no readers"),
        ("[[scan]]\nreaders.a = 'first.json'\nct = 'x'", "unknown field 'ct'"),
        ("[[scan]]\nreaders.a = 'none.json'", "reader a: no such file or folder: none.json"),
        ("[[scan]]\nreaders.a = 3", "reader a: 3 is no path"),
        ("[[scan]]\nreaders.a = 'first.json'\n" * 2 + "name = 'scan 1'", "two scans are named"),
        ("[[scan]]\nreaders.a = 'first.json'\nresult = 'empty'", "no labels.nii.gz in it"),
        ("[[scan]]\nreaders.a = 'first.json'\nresult = 'result'", "pixels are the CT's: give its"),
    ],
)
def test_a_study_that_cannot_be_used_ends_in_one_line(study: Path, text: str, said: str) -> None:
    path = study.parent / "study.toml"
    path.write_text(text)
    (study.parent / "empty").mkdir()

    result = CliRunner().invoke(app, ["reading", str(path), "--out", str(study.parent / "out")])

    assert result.exit_code == 3
    assert said in result.stderr
    assert result.stderr.count("\n") == 1


def test_an_outline_far_outside_the_slice_is_reported(study: Path) -> None:
    far = {"slices": [{"slice": 20, "outlines": [{"points": [[900, 9], [950, 9], [950, 40]]}]}]}
    (study.parent / "first.json").write_text(json.dumps(far))
    with pytest.raises(InputError, match="outside the slice of 90 x 70 pixels; are its coord"):
        _compare(study)


def test_one_slice_in_two_files_of_a_reader_is_reported(study: Path) -> None:
    shutil.copy(study.parent / "first.json", study.parent / "again.json")
    with pytest.raises(InputError, match=r"again\.json: the slice at z 68 mm was read in an"):
        _compare(_study(study.parent, first=["first.json", "again.json"]))


def test_the_command_writes_page_json_and_pictures(study: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    repository = tmp_path / "repository"
    repository.mkdir()
    shutil.copy(ROOT / "model_repository" / "contract.json", repository)

    result = CliRunner().invoke(
        app, ["reading", str(study), "--out", str(out), "--repository", str(repository)]
    )

    assert result.exit_code == 0, result.output
    assert "first and label map, extents of 4 slices: bias 0.0 points" in result.stdout
    document = json.loads((out / "reading.json").read_text())
    (comparison,) = document["comparisons"]
    assert comparison["figures"]["dice"] == 1.0
    assert comparison["slices"][-1]["dice"] is None
    pictures = sorted((out / "pictures").glob("*.png"))
    assert sorted(s["picture"] for s in comparison["slices"]) == [p.name for p in pictures]
    assert all(Image.open(p).width > 1000 for p in pictures)
    page = (out / "reading.html").read_text()
    assert page.count("data:image/png") == 3
    assert "Honeycombing" in page
