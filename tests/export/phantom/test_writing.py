"""Phantoms and planted scans on disk: in every form, gone on with after a stop, never mixed up."""

from __future__ import annotations

import dataclasses
import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from typer.testing import CliRunner

from dlild_client.contract import Contract
from dlild_client.reading.read import read_volume
from dlild_client.results.files import write_nifti
from dlild_export.cli import app
from dlild_export.cli.phantom import phantom as phantom_command
from dlild_export.data.check import check_dataset
from dlild_export.data.faults import DatasetError
from dlild_export.data.labels import IGNORE
from dlild_export.data.prepare import prepare, prepared_files, read_info
from dlild_export.data.scans import LabelledScan
from dlild_export.phantom import Pattern, PhantomSpec, make_phantom, random_spec
from dlild_export.phantom.cases import (
    Planting,
    draw_spec,
    labelled_phantom,
    write_phantoms,
    write_planted,
)
from dlild_export.phantom.dicom import Scanner
from dlild_export.phantom.writing import Writing

SPACING_MM = 5.0


def write(folder: Path, contract: Contract, *seeds: int, **options: Any) -> list[str]:
    specs = [PhantomSpec(seed=s, pattern=Pattern.MIXED, severity=0.2, noise_hu=10) for s in seeds]
    done = write_phantoms(
        folder,
        specs,
        lung_masks=[],
        spacing_mm=SPACING_MM,
        workers=options.pop("workers", 1),
        writing=Writing(**options),
        contract=contract,
    )
    return sorted(done)


def test_nifti_holds_the_phantom_in_the_patients_coordinates(
    contract: Contract, tmp_path: Path
) -> None:
    assert write(tmp_path, contract, 7, form="nnunet") == ["phantom-000007"]

    spec = PhantomSpec(seed=7, pattern=Pattern.MIXED, severity=0.2, noise_hu=10)
    phantom = make_phantom(spec, spacing_mm=SPACING_MM)
    image = sitk.ReadImage(str(tmp_path / "imagesTr" / "phantom-000007_0000.nii.gz"))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), phantom.hu)
    labels = sitk.ReadImage(str(tmp_path / "labelsTr" / "phantom-000007.nii.gz"))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(labels), phantom.labels)
    assert image.GetDirection() == (1, 0, 0, 0, 1, 0, 0, 0, 1)  # LPS: x to the left, y to the back
    centre = image.TransformContinuousIndexToPhysicalPoint([(n - 1) / 2 for n in image.GetSize()])
    assert centre == pytest.approx((0, 0, 0))
    # On disk NIfTI is RAS: its axes run against ours in x and y.
    assert image.GetMetaData("srow_x").split()[0] == "-5"
    assert check_dataset(tmp_path, contract).faults == ()


def test_what_a_phantom_was_made_from_reaches_the_training(
    contract: Contract, tmp_path: Path
) -> None:
    write(tmp_path / "data", contract, 7, form="nnunet")

    (path,) = prepare(tmp_path / "data", tmp_path / "out", contract=contract)

    info = read_info(path)
    assert (info["pattern"], info["severity"], info["seed"]) == ("mixed", 0.2, 7)
    assert info["group"] == "phantom-000007"


def test_the_short_way_to_a_training_leads_to_the_same_case(
    contract: Contract, tmp_path: Path
) -> None:
    write(tmp_path / "data", contract, 7, form="nnunet")
    write(tmp_path / "cache", contract, 7, form="cache")

    (long_way,) = prepare(tmp_path / "data", tmp_path / "out", contract=contract)
    (short_way,) = prepared_files(tmp_path / "cache")
    with np.load(long_way) as a, np.load(short_way) as b:
        np.testing.assert_array_equal(a["hu"], b["hu"])
        np.testing.assert_array_equal(a["labels"], b["labels"])
    keys = ("name", "group", "spacing_mm", "dl_ild_percent", "pattern", "thickness_mm")
    one, other = read_info(long_way), read_info(short_way)
    assert {k: one[k] for k in keys} == {k: other[k] for k in keys}


def test_both_forms_are_datasets_of_their_own(contract: Contract, tmp_path: Path) -> None:
    write(tmp_path, contract, 7, form="both", pixel_mm=SPACING_MM, slice_mm=SPACING_MM)

    paths = [
        prepare(tmp_path / form, tmp_path / f"{form}-out", contract=contract)[0]
        for form in ("nnunet", "dicom")
    ]
    with np.load(paths[0]) as a, np.load(paths[1]) as b:
        np.testing.assert_array_equal(a["hu"], b["hu"])
        np.testing.assert_array_equal(a["labels"], b["labels"])


def test_a_stopped_run_goes_on(contract: Contract, tmp_path: Path) -> None:
    write(tmp_path, contract, 7, form="nnunet")
    image = tmp_path / "imagesTr" / "phantom-000007_0000.nii.gz"
    before = image.stat().st_mtime_ns

    assert write(tmp_path, contract, 7, 8, form="nnunet", workers=2) == [
        "phantom-000007",
        "phantom-000008",
    ]

    assert image.stat().st_mtime_ns == before
    assert json.loads((tmp_path / "dataset.json").read_text())["numTraining"] == 2
    assert (tmp_path / "groups.csv").read_text().splitlines() == [
        "case,group",
        "phantom-000007,phantom-000007",
        "phantom-000008,phantom-000008",
    ]


def test_phantoms_of_other_knobs_are_not_taken_for_these(
    contract: Contract, tmp_path: Path
) -> None:
    write(tmp_path, contract, 7)
    spec = PhantomSpec(seed=7, pattern=Pattern.UIP, severity=0.4, noise_hu=10)
    again = write_phantoms(
        tmp_path, [spec], lung_masks=[], spacing_mm=SPACING_MM, workers=1, contract=contract
    )

    with pytest.raises(DatasetError, match="phantom-000007: is there already, made with another "):
        list(again)


def test_vendor_padding_and_tilt(contract: Contract, tmp_path: Path) -> None:
    write(
        tmp_path, contract, 7,
        form="dicom", pixel_mm=4.0, slice_mm=5.0, tilt_deg=12.0, padding_hu=-3024,
    )  # fmt: skip

    slices = sorted((tmp_path / "phantom-000007" / "ct").iterdir())
    first = pydicom.dcmread(slices[0])
    assert first.Rows == first.Columns
    stored = first.pixel_array.astype(int)
    assert stored[0, 0] * first.RescaleSlope + first.RescaleIntercept == -3024
    assert first.PixelPaddingValue == stored[0, 0]
    assert first.GantryDetectorTilt == 12
    assert first.PatientID == "phantom-000007"
    volume = read_volume(tmp_path / "phantom-000007" / "ct")
    assert volume.array.min() == -1024
    assert "gantry_tilt_corrected" in volume.flags


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"pixel_mm": 0.0}, "pixel is 0.0"),
        ({"slice_mm": 40.0}, "slice is 40.0"),
        ({"tilt_deg": 80.0}, "tilt is 80.0"),
        ({"padding_hu": 100}, "padding is 100"),
    ],
)
def test_what_no_scanner_does(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Scanner(**changes)


@pytest.mark.parametrize("changes", [{"form": "png"}, {"seg_kind": "surface"}])
def test_what_is_not_written(changes: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="give "):
        Writing(**changes)


def test_knobs_are_fixed_or_drawn() -> None:
    assert draw_spec(5) == random_spec(5)
    fixed = draw_spec(5, thickness_mm=2.0, nodules=3)
    assert (fixed.thickness_mm, fixed.nodules) == (2.0, 3)
    assert dataclasses.replace(
        fixed, thickness_mm=random_spec(5).thickness_mm, nodules=random_spec(5).nodules
    ) == random_spec(5)
    for seed in range(30):
        assert draw_spec(seed, severity=0.25).pattern is not Pattern.NONE
        assert draw_spec(seed, pattern=Pattern.UIP).severity > 0
        assert draw_spec(seed, severity=0.0).pattern is Pattern.NONE
        assert draw_spec(seed, pattern=Pattern.NONE).severity == 0
        assert draw_spec(seed, lung_hu=(-950, -940)).lung_hu < -939


def test_every_knob_of_a_phantom_has_an_option() -> None:
    # Options leave units out of their names where the help gives them.
    options = {
        name.removesuffix("_hu").removesuffix("_mm")
        for name in inspect.signature(phantom_command).parameters
    }
    knobs = {
        field.name.removesuffix("_hu").removesuffix("_mm")
        for field in dataclasses.fields(PhantomSpec)
    }

    assert knobs - {"seed"} <= options


# ---- planted ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    scan = labelled_phantom(PhantomSpec(seed=31, noise_hu=15), None, SPACING_MM)
    path = tmp_path_factory.mktemp("scans") / "somebody.nii.gz"
    write_nifti(scan.volume, path)
    return path


def test_planted_cases_have_the_severity_asked_for(
    healthy: Path, contract: Contract, tmp_path: Path
) -> None:
    names = list(
        write_planted(
            healthy,
            tmp_path / "data",
            Planting(percents=[0, 10, 40], patterns=[Pattern.UIP, Pattern.ORGANISING]),
            contract=contract,
            writing=Writing(form="nnunet"),
        )
    )

    assert len(names) == 5
    assert not any("somebody" in name for name in names)
    report = check_dataset(tmp_path / "data", contract)
    assert report.faults == ()
    truth = {c.name.split("-", 2)[2]: c.dl_ild_percent for c in report.cases}
    assert truth == pytest.approx(
        {"none-0": 0, "uip-10": 10, "uip-40": 40, "organising-10": 10, "organising-40": 40},
        abs=0.05,
    )
    assert len({c.group for c in report.cases}) == 1


def test_doubtful_tissue_is_unknown_and_no_lesion_is(
    healthy: Path, contract: Contract, tmp_path: Path
) -> None:
    for doubtful in ("lung", "unknown"):
        list(
            write_planted(
                healthy,
                tmp_path / doubtful,
                Planting(percents=[30], patterns=[Pattern.ORGANISING], doubtful=doubtful),
                contract=contract,
                writing=Writing(form="cache"),
            )
        )

    plain, marked = (
        np.load(next((tmp_path / folder).glob("*.npz")))["labels"] for folder in ("lung", "unknown")
    )
    unknown = marked == IGNORE
    assert unknown.any()
    assert np.array_equal(marked[~unknown], plain[~unknown])
    assert (plain[unknown] <= 1).all()


def test_planting_needs_a_chest(contract: Contract, tmp_path: Path, healthy: Path) -> None:
    image = sitk.ReadImage(str(healthy))
    hu = sitk.GetArrayFromImage(image)
    solid = sitk.GetImageFromArray(np.where(hu > -1000, np.maximum(hu, -90), hu))
    solid.CopyInformation(image)
    sitk.WriteImage(solid, str(tmp_path / "solid.nii.gz"))

    outcome = CliRunner().invoke(
        app, ["plant", str(tmp_path / "solid.nii.gz"), str(tmp_path / "out")]
    )

    assert outcome.exit_code == 3
    assert "solid.nii.gz: the largest piece of air" in outcome.stderr.replace("\n", " ")


# ---- commands -----------------------------------------------------------------------------------


def run(*arguments: object) -> Any:
    return CliRunner().invoke(app, [str(a) for a in arguments])


def test_phantom_check_and_contact_sheet(tmp_path: Path) -> None:
    made = run(
        "phantom", tmp_path / "data", "--count", 2, "--first-seed", 4, "--spacing", 5,
        "--pattern", "nsip", "--severity", 0.2, "--thickness", 3, "--lung-hu", -900, -860,
        "--workers", 1,
    )  # fmt: skip
    assert made.exit_code == 0, made.output
    about = json.loads((tmp_path / "data" / "cases.json").read_text())
    assert set(about) == {"phantom-000004", "phantom-000005"}
    for entry in about.values():
        assert (entry["pattern"], entry["severity"], entry["thickness_mm"]) == ("nsip", 0.2, 3.0)
        assert -900 <= entry["lung_hu"] <= -860

    checked = run("check", tmp_path / "data", "--workers", 1)
    assert checked.exit_code == 0, checked.output
    assert "no fault in 2 case(s)" in checked.output
    assert "note: no case has honeycombing" in checked.output

    drawn = run("contact-sheet", tmp_path / "data", tmp_path / "sheet.png")
    assert drawn.exit_code == 0, drawn.output
    sheet = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "sheet.png")))
    # Lesions are tinted: strong colours, which grey values are not.
    assert (np.ptp(sheet.astype(int), axis=-1) > 60).sum() > 1000


def test_check_reports_faults_to_people_and_machines(files: Any) -> None:
    content = files.image("a").read_bytes()
    files.image("a").write_bytes(content[: len(content) // 2])

    spoken = run("check", files.folder, "--workers", 1)
    assert spoken.exit_code == 3
    assert "unreadable: imagesTr/a_0000.nii.gz: cut short" in spoken.output.replace("\n", " ")

    written = run("check", files.folder, "--workers", 1, "--json")
    assert written.exit_code == 3
    report = json.loads(written.output)
    assert report["clean"] is False
    assert [(f["kind"], f["case"]) for f in report["faults"]] == [("unreadable", "a")]


def test_labels_are_mapped_on_the_command_line(files: Any) -> None:
    files.describe(
        labels={"background": 0, "Parenchyma (healthy)": 1, "GGO": 2, "Reticular": 3}
        | {"honeycomb": 4, "consolidation": 5}
    )

    refused = run("check", files.folder, "--workers", 1)
    assert refused.exit_code == 3
    assert '--map "Parenchyma (healthy)=…"' in refused.output.replace("\n", " ")
    mapped = run("check", files.folder, "--workers", 1, "--map", "parenchyma healthy=lung")
    assert mapped.exit_code == 0, mapped.output


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["phantom", "x", "--pattern", "copd"], "'copd' is not a valid Pattern"),
        (["phantom", "x", "--severity", "2"], "severity is 2.0"),
        (["phantom", "x", "--format", "png"], "format is 'png'"),
        (["phantom", "x", "--tilt", "50"], "tilt is 50.0"),
        (["check", "x", "--map", "lung"], "their name=our name"),
        (["plant", "x", "y", "--percent", "5,95"], "give 0 to 90"),
        (["plant", "x", "y", "--percent", "many"], "could not convert"),
        (["plant", "x", "y", "--pattern", "none"], "patterns of uip"),
        (["plant", "x", "y", "--texture", "rough"], "texture is 'rough'"),
        (["plant", "x", "y", "--doubtful", "no"], "doubtful is 'no'"),
    ],
)
def test_wrong_usage(arguments: list[str], words: str) -> None:
    outcome = run(*arguments)

    assert outcome.exit_code == 2
    assert words in " ".join(outcome.stderr.replace("│", " ").split())


@pytest.mark.parametrize("command", [["check"], ["contact-sheet"]])
def test_no_dataset(command: list[str], tmp_path: Path) -> None:
    target = [str(tmp_path / "sheet.png")] if command == ["contact-sheet"] else []

    outcome = run(*command, tmp_path / "nowhere", *target)

    assert outcome.exit_code == 3
    assert "nowhere: no such folder" in outcome.output
    assert "Traceback" not in outcome.output


def test_a_dicom_dataset_is_drawn_too(
    scan: LabelledScan, dicom_writer: Callable[..., Path], tmp_path: Path
) -> None:
    drawn = run("contact-sheet", dicom_writer(scan), tmp_path / "sheet.png", "--count", 1)

    assert drawn.exit_code == 0, drawn.output
    assert (tmp_path / "sheet.png").stat().st_size > 10_000
