"""Readers of a DICOM series: DICOM SEG, and slices that are named as DICOM names them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest

from dlild_client.contract import Contract
from dlild_client.reading.read import read_volume
from dlild_client.results.files import write_nifti
from dlild_export.data.scans import LabelledScan
from dlild_export.data.segments import find_segmentations, read_segmentations
from dlild_export.readers import compare_study, read_study
from dlild_export.readers.compare import LABEL_MAP
from dlild_export.readers.slices import slice_uids

Writer = Callable[..., Path]


def _write_study(folder: Path, case: Path, *readers: Path) -> Path:
    lines = ["[[scan]]", "name = 'a'", f"result = '{folder / 'labels.nii.gz'}'", f"scan = '{case}'"]
    lines.append(f"readers.one = {[str(path) for path in readers]}")
    path = folder / "study.toml"
    path.write_text("\n".join(lines))
    return path


@pytest.mark.parametrize("kind", ["labelmap", "binary"])
def test_a_dicom_seg_is_a_reader(
    scan: LabelledScan, contract: Contract, dicom_writer: Writer, tmp_path: Path, kind: str
) -> None:
    case = dicom_writer(scan, seg_kind=kind) / "a"
    volume = read_volume(case)
    files = find_segmentations(case)
    labels = read_segmentations(files, volume, contract, {})
    write_nifti(volume.with_array(labels), tmp_path / "labels.nii.gz")

    study = read_study(_write_study(tmp_path, case, *files))
    (found,) = compare_study(study, contract)

    assert (found.first, found.second) == ("one", LABEL_MAP)
    assert found.figures is not None
    assert found.figures.dice == 1.0
    assert found.figures.slices == labels.any(axis=(1, 2)).sum()


def test_a_slice_is_found_by_its_uid(
    scan: LabelledScan, contract: Contract, dicom_writer: Writer, tmp_path: Path
) -> None:
    case = dicom_writer(scan) / "a"
    volume = read_volume(case)
    labels = read_segmentations(find_segmentations(case), volume, contract, {})
    write_nifti(volume.with_array(labels), tmp_path / "labels.nii.gz")
    k = int(np.argmax((labels > 1).sum(axis=(1, 2))))
    z_mm = volume.points_mm([k, 0, 0])[2]
    (uid,) = (u for u, z in slice_uids(case).items() if z == pytest.approx(z_mm))
    reader = tmp_path / "reader.json"
    reader.write_text(json.dumps({"slices": [{"sop_instance_uid": uid, "outlines": []}]}))

    (found,) = compare_study(read_study(_write_study(tmp_path, case, reader)), contract)

    (result,) = found.slices
    assert result.z_mm == pytest.approx(z_mm)
    plane = labels[k]
    assert result.second_percent == pytest.approx(100 * (plane > 1).sum() / (plane > 0).sum())
    assert result.first_percent == 0.0


def test_only_images_of_the_series_have_a_position(
    scan: LabelledScan, dicom_writer: Writer
) -> None:
    case = dicom_writer(scan) / "a"
    (case / "notes.txt").write_text("no DICOM")
    images = [p for p in case.rglob("*.dcm") if pydicom.dcmread(p).Modality == "CT"]

    assert len(slice_uids(case)) == len(images) > 0
