"""Synthetic chests, and DICOM series written from them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_server import FakeServer, cubes_only
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from dlild_client.contract import Contract, WindowSpec, parse_contract
from dlild_client.settings import VARIABLES
from dlild_client.volume import Volume

ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared" / "data"


@pytest.fixture(scope="session")
def contract_text() -> str:
    return (ROOT / "model_repository" / "contract.json").read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def contract(contract_text: str) -> Contract:
    return parse_contract(contract_text)


@pytest.fixture(scope="session")
def small_contract(contract: Contract) -> Contract:
    """The contract with windows that suit small test volumes."""
    return replace(contract, windows=WindowSpec(8, (24, 24, 24), (56, 56, 48), 65536, 0.25, 3))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    if not SHARED.is_dir():
        pytest.skip("no ../shared/data beside the repository: real scans are not tried")
    return SHARED


def make_chest(
    shape: tuple[int, int, int] = (60, 90, 120),
    spacing: tuple[float, float, float] = (4.0, 3.0, 3.0),
) -> Volume:
    """A body with two aerated lungs, a windpipe, a table, and different things in each corner."""
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    hu = np.full(shape, -1000, dtype=np.int16)
    hu[(y / 0.8) ** 2 + (x / 0.9) ** 2 < 1] = 40
    for side in (-1, 1):
        height = 0.75 if side < 0 else 0.65
        lung = (z / height) ** 2 + (y / 0.5) ** 2 + ((x - side * 0.42) / 0.32) ** 2 < 1
        hu[lung] = -820
        # Vessels, which no threshold calls lung, and which tell the sides apart.
        hu[lung & (np.abs(y - 0.1 * side) < 0.04) & (z < 0.2)] = 60
    hu[(y**2 * 9 + x**2 * 16 < 0.01) & (z > 0)] = -1000
    hu[(y > 0.88) & (np.abs(x) < 0.6)] = 200
    return Volume(hu, spacing)


@pytest.fixture(scope="session")
def chest() -> Volume:
    return make_chest()


@pytest.fixture(scope="session")
def chest_maker() -> Callable[..., Volume]:
    return make_chest


@pytest.fixture
def small() -> Volume:
    """A chest of few voxels."""
    return make_chest(shape=(30, 60, 80), spacing=(4.0, 2.5, 2.25))


@pytest.fixture(scope="session")
def scan() -> Volume:
    """Thirty small slices of 4 mm; no two sides of it are alike."""
    rng = np.random.default_rng(3)
    array = rng.integers(-1000, 500, (30, 24, 20)).astype(np.int16)
    return Volume(array, (4.0, 2.0, 3.0))


@dataclass
class SeriesWriter:
    """Writes DICOM files; `edit(dataset, index)` bends each before it is saved."""

    folder: Path
    study: str = field(default_factory=generate_uid)

    def write(
        self,
        volume: Volume,
        name: str = "ct",
        edit: Callable[[Any, int], bool | None] | None = None,
        orientation: tuple[float, ...] = (1, 0, 0, 0, 1, 0),
        step: tuple[float, float, float] | None = None,
    ) -> Path:
        """Write one file a slice; `edit` returning False leaves the slice out."""
        place = self.folder / name
        place.mkdir(parents=True, exist_ok=True)
        series = generate_uid()
        step = step or (0.0, 0.0, volume.spacing_mm[0])
        for i, plane in enumerate(volume.array):
            ds = self._dataset(series, volume, plane, i)
            ds.ImageOrientationPatient = list(orientation)
            ds.ImagePositionPatient = [
                round(o + i * s, 4) for o, s in zip((-150.0, -130.0, -300.0), step, strict=True)
            ]
            if edit is None or edit(ds, i) is not False:
                # Names that say nothing of the order.
                ds.save_as(place / f"{(i * 37) % 1000:04d}-{i}.dcm", enforce_file_format=True)
        return place

    def _dataset(self, series: str, volume: Volume, plane: np.ndarray, index: int) -> FileDataset:
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = CTImageStorage
        meta.MediaStorageSOPInstanceUID = generate_uid()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        ds = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
        ds.SOPClassUID = CTImageStorage
        ds.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
        ds.StudyInstanceUID, ds.SeriesInstanceUID = self.study, series
        ds.PatientName, ds.PatientID = "SECRET^NAME", "SECRET-ID"
        ds.SeriesDescription = "SECRET-DESCRIPTION"
        ds.Modality, ds.ImageType = "CT", ["ORIGINAL", "PRIMARY", "AXIAL"]
        ds.Manufacturer, ds.ConvolutionKernel = "Maker", "B60f"
        ds.SliceThickness = volume.spacing_mm[0]
        ds.PixelSpacing = list(volume.spacing_mm[1:])
        ds.InstanceNumber, ds.SeriesNumber = index + 1, 3
        ds.Rows, ds.Columns = plane.shape
        ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
        ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 1
        ds.RescaleSlope, ds.RescaleIntercept = 1, 0
        ds.PixelData = plane.astype("<i2").tobytes()
        return ds


@pytest.fixture
def series_writer(tmp_path: Path) -> SeriesWriter:
    return SeriesWriter(tmp_path / "dicom")


def set_pixels(ds: Any, values: np.ndarray) -> None:
    """Replace the stored values of a data set."""
    ds.PixelData = values.astype("<i2").tobytes()


@pytest.fixture(scope="session")
def pixel_setter() -> Callable[[Any, np.ndarray], None]:
    return set_pixels


@pytest.fixture(scope="session")
def ct_slices(shared_data: Path) -> Path:
    return shared_data / "ct-transfer-syntaxes"


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings of whoever runs the tests are nothing to them."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def server(contract_text: str) -> Iterator[FakeServer]:
    """A running `FakeServer` on a free port of loopback."""
    fake = FakeServer(cubes_only(contract_text))
    fake.start()
    yield fake
    fake.stop()
