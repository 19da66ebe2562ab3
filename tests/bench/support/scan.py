"""The measured scan: a real chest CT where the shared data exist, else a phantom."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dlild_client.contract import Contract, parse_contract
from dlild_client.contract.windows import extract_window
from dlild_client.preparation.prepare import PreparedScan, prepare
from dlild_client.reading.read import read_volume
from dlild_client.volume import Volume
from dlild_export.phantom import Pattern, PhantomSpec, make_phantom
from dlild_export.phantom.dicom import write_dicom_series

ROOT = Path(__file__).resolve().parents[3]
REPOSITORY = ROOT / "model_repository"
REAL_CT = ROOT.parent / "shared" / "data" / "lidc-idri-0314" / "dicom"
PHANTOM_SEED = 2_000_005


@dataclass(frozen=True)
class MeasuredScan:
    """A scan on disk, in memory, and ready to be sent.

    Attributes
    ----------
    name : str
        What it is, for the tables.
    folder : Path
        Its DICOM series.
    volume : Volume
        HU as they were read.
    prepared : PreparedScan
        Grid, lung box and windows.
    contract : Contract
        What it was prepared by.
    """

    name: str
    folder: Path
    volume: Volume
    prepared: PreparedScan
    contract: Contract

    def box_hu(self) -> np.ndarray:
        """HU of the lung box, float32 (z, y, x): what scripts without our windows start from."""
        box = self.prepared.box
        padding = self.contract.hu.padding
        cut = extract_window(self.prepared.grid.array, box, (0, 0, 0), box.shape, padding)
        return cut.astype(np.float32)

    def window_arrays(self) -> list[np.ndarray]:
        """Our windows, float16 (1, 1, z, y, x), in the order in which they are sent."""
        return [hu[None, None] for _, hu in self.prepared.windows(self.contract.hu.padding)]

    def describe(self) -> dict[str, object]:
        """Sizes, as plain values for JSON."""
        plan, box = self.prepared.plan, self.prepared.box
        return {
            "name": self.name,
            "slices": self.volume.shape[0],
            "grid_shape": list(self.prepared.grid.shape),
            "box_shape": list(box.shape),
            "box_int16_bytes": 2 * int(np.prod(box.shape)),
            "aerated_ml": round(self.prepared.aerated_ml, 1),
            "window_shape": list(plan.shape),
            "windows": len(plan.origins),
            "window_voxels": plan.voxels,
        }


def read_own_contract() -> Contract:
    """Read the contract of this project's model repository."""
    return parse_contract((REPOSITORY / "contract.json").read_text("utf-8"))


@contextmanager
def measured_scan() -> Iterator[MeasuredScan]:
    """Read the scan to measure; a phantom's DICOM lives as long as the block."""
    with tempfile.TemporaryDirectory(prefix="dlild-bench-") as place:
        name, folder = "lidc-idri-0314, a real chest CT", REAL_CT
        if not folder.is_dir():
            name, folder = f"phantom, seed {PHANTOM_SEED}", Path(place)
            spec = PhantomSpec(seed=PHANTOM_SEED, pattern=Pattern.UIP, severity=0.25)
            write_dicom_series(make_phantom(spec), folder)
        contract = read_own_contract()
        volume = read_volume(folder)
        yield MeasuredScan(name, folder, volume, prepare(volume, contract), contract)


def network_path(repository: Path = REPOSITORY, version: int | None = None) -> Path:
    """Path of the ONNX file of a version; by default of the one that a repository serves."""
    if version is None:
        contract = json.loads((repository / "contract.json").read_text("utf-8"))
        version = contract["model"]["version"]
    return repository / "ild_unet" / str(version) / "model.onnx"


def own_digest() -> str:
    """SHA-256 of the weights that are measured, as the contract names it."""
    contract = json.loads((REPOSITORY / "contract.json").read_text("utf-8"))
    return str(contract["model"]["weights_sha256"])
