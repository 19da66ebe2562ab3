"""One scan in any container, transfer syntax or orientation: one DL-ILD, from the real server."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import SimpleITK as sitk
from client.writers import transcode, write_enhanced, write_medium, zip_up
from pydicom.uid import JPEG2000Lossless, RLELossless

from dlild_client import Client
from dlild_client.reading.read import read_volume
from dlild_client.results.files import write_nifti
from dlild_deploy.server import EmbeddedServer

pytestmark = [pytest.mark.server, pytest.mark.slow]


def _compressed(patient: Path, target: Path) -> Path:
    shutil.copytree(patient, target)
    for i, path in enumerate(sorted(target.iterdir())):
        transcode(path, [RLELossless, JPEG2000Lossless][i % 2])
    return target


def _turned(patient: Path, target: Path) -> Path:
    """NIfTI with sagittal slices, from right to left."""
    straight = target.with_name("straight.nii.gz")
    write_nifti(read_volume(patient), straight)
    target = target.with_suffix(".nii.gz")
    sitk.WriteImage(sitk.DICOMOrient(sitk.ReadImage(str(straight)), "IAR"), str(target))
    return target


WRITINGS: dict[str, Callable[[Path, Path], Path]] = {
    "zip": zip_up,
    "medium": write_medium,
    "enhanced": write_enhanced,
    "compressed": _compressed,
    "turned": _turned,
}


def test_the_score_does_not_depend_on_the_writing(
    embedded_server: EmbeddedServer, adult: Path, tmp_path: Path
) -> None:
    with Client(embedded_server.grpc_url) as client:
        straight = client.score(adult)
        scores = {
            name: client.score(write(adult, tmp_path / name)).dl_ild_percent
            for name, write in WRITINGS.items()
        }

    assert scores == pytest.approx(dict.fromkeys(scores, straight.dl_ild_percent), abs=0.05)
