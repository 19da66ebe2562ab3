"""What tests of the export share: a small labelled chest, datasets of it on disk, one thread."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from export.tiny import write_repository

from dlild_client.contract import Contract
from dlild_export.data.contracts import find_contract
from dlild_export.data.scans import LabelledScan
from dlild_export.phantom import Pattern, PhantomSpec
from dlild_export.phantom.cases import labelled_phantom
from dlild_export.phantom.writing import CaseJob, Writing, write_cases

ROOT = Path(__file__).parents[2]
SPACING_MM = 5.0


@pytest.fixture(scope="session")
def contract() -> Contract:
    """The contract, with a grid of the phantom's voxels so that nothing is resampled."""
    real = find_contract(ROOT / "model_repository")
    return replace(real, grid=replace(real.grid, spacing_mm=(SPACING_MM,) * 3))


@pytest.fixture(scope="session")
def scan() -> LabelledScan:
    """A phantom with every class."""
    spec = PhantomSpec(seed=3, pattern=Pattern.MIXED, severity=0.3, noise_hu=10)
    return labelled_phantom(spec, None, SPACING_MM)


@pytest.fixture(scope="session")
def other_scan() -> LabelledScan:
    spec = PhantomSpec(seed=4, pattern=Pattern.UIP, severity=0.1, noise_hu=10)
    return labelled_phantom(spec, None, SPACING_MM)


@dataclass
class Files:
    """A dataset on disk and the ways to spoil it."""

    folder: Path

    def image(self, name: str = "a") -> Path:
        return self.folder / "imagesTr" / f"{name}_0000.nii.gz"

    def label(self, name: str = "a") -> Path:
        return self.folder / "labelsTr" / f"{name}.nii.gz"

    def edit(self, path: Path, change: Callable[[np.ndarray], np.ndarray]) -> None:
        """Replace the voxels of a NIfTI file, keeping its geometry."""
        before = sitk.ReadImage(str(path))
        array = np.ascontiguousarray(change(sitk.GetArrayFromImage(before)))
        after = sitk.GetImageFromArray(array)
        if array.shape == tuple(before.GetSize()[::-1]):
            after.CopyInformation(before)
        sitk.WriteImage(after, str(path), useCompression=True)

    def move(self, path: Path, change: Callable[[Any], None]) -> None:
        """Change the geometry of a NIfTI file, keeping its voxels."""
        image = sitk.ReadImage(str(path))
        change(image)
        sitk.WriteImage(image, str(path), useCompression=True)

    def drop(self, name: str) -> None:
        """Leave one of the two cases out."""
        self.image(name).unlink()
        self.label(name).unlink()
        self.describe(numTraining=1)

    def describe(self, **changes: Any) -> None:
        """Change entries of dataset.json."""
        path = self.folder / "dataset.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def jobs_of(scans: dict[str, LabelledScan]) -> list[CaseJob]:
    return [CaseJob(n, n, {}, SPACING_MM, lambda s=s: s) for n, s in scans.items()]


@pytest.fixture(scope="session")
def clean(
    tmp_path_factory: pytest.TempPathFactory,
    scan: LabelledScan,
    other_scan: LabelledScan,
    contract: Contract,
) -> Path:
    """Two cases, `a` and `b`, as nnU-Net has them: to be copied, not changed."""
    folder = tmp_path_factory.mktemp("datasets") / "clean"
    jobs = jobs_of({"a": scan, "b": other_scan})
    list(write_cases(folder, jobs, Writing(form="nnunet"), contract, workers=1))
    return folder


@pytest.fixture
def files(clean: Path, tmp_path: Path) -> Files:
    """A copy of `clean` to spoil."""
    folder = tmp_path / "dataset"
    shutil.copytree(clean, folder)
    return Files(folder)


@pytest.fixture
def dicom_writer(tmp_path: Path, contract: Contract) -> Callable[..., Path]:
    """Return a function that writes a scan as the case `a` of a DICOM dataset."""

    def write(scan: LabelledScan, **options: Any) -> Path:
        chosen = {"form": "dicom", "pixel_mm": SPACING_MM, "slice_mm": SPACING_MM} | options
        folder = tmp_path / "dicom-dataset"
        list(write_cases(folder, jobs_of({"a": scan}), Writing(**chosen), contract, workers=1))
        return folder

    return write


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Tiny networks only wait for a second thread, longest where others compute."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def tiny(repository: Path, tmp_path: Path) -> Path:
    """A model repository with untrained weights, of its own for each test."""
    return write_repository(tmp_path / "model_repository", repository)
