"""The network as it is served, and the score of a volume by it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from dlild_client.contract import Contract
from dlild_client.contract.precision import choose_precision, cpu_flags
from dlild_client.contract.score import dl_ild_percent
from dlild_client.contract.weights import INT8_NETWORK
from dlild_client.errors import UnreadableFileError
from dlild_client.preparation.prepare import PreparedScan, prepare
from dlild_client.volume import Volume
from dlild_export.data.contracts import find_contract
from dlild_export.data.digest import sha256
from dlild_export.evaluation.metrics import Labels
from dlild_export.serving.engines import (
    Engine,
    onnxruntime_engine,
    openvino_engine,
)
from dlild_export.serving.onnx import WEIGHTS, export_run
from dlild_export.serving.sliding import Network, Windows, blend

EngineName = Literal["openvino", "onnxruntime"]


@dataclass(frozen=True)
class Served:
    """A network, loaded into the engine that it would be served by.

    Attributes
    ----------
    run : callable
        The network on one window.
    engine : str
        Engine and precision, such as `openvino bf16`.
    digest : str
        SHA-256 of the ONNX file.
    contract : Contract
        Grid, windows and classes.
    """

    run: Network
    engine: str
    digest: str
    contract: Contract


def load_served(
    weights: Path, engine: EngineName = "openvino", repository: Path | None = None
) -> Served:
    """Load a network.

    Parameters
    ----------
    weights : pathlib.Path
        An ONNX file, a checkpoint, or the folder of a training run or of a served version.
    engine : str
        `openvino` as the embedded profile runs it: INT8 where such a form lies beside the weights
        and the CPU has VNNI or AMX, bf16 where the CPU has it, fp32 elsewhere.
        `onnxruntime` is the reference, in fp32.
    repository : pathlib.Path, optional
        Model repository whose contract counts; that of the weights, or of this checkout, when left
        out.

    Returns
    -------
    Served

    Raises
    ------
    InputError
        No weights or no contract, or the engine does not take them.
    """
    onnx = find_onnx(weights)
    contract = contract_of(onnx, repository)
    chosen = _engine(onnx, engine)
    try:
        run = chosen.load()
    except Exception as error:
        # Each engine raises errors of its own, some of them bare RuntimeErrors.
        raise UnreadableFileError(f"{onnx}: {engine} cannot load it: {error}") from None
    return Served(run, f"{chosen.name} {chosen.precision}", sha256(onnx), contract)


def find_onnx(weights: Path) -> Path:
    """Return the ONNX file of some weights; a checkpoint is exported first.

    Raises
    ------
    UnreadableFileError
        There are no weights.
    """
    if weights.suffix == ".onnx":
        if not weights.is_file():
            raise UnreadableFileError(f"{weights}: no such file")
        return weights
    try:
        return export_run(weights)
    except FileNotFoundError as error:
        served = weights / WEIGHTS
        if served.is_file():
            return served
        raise UnreadableFileError(str(error)) from None
    except OSError as error:
        raise UnreadableFileError(f"{weights}: {error}") from None
    except Exception as error:
        # torch raises whatever its reader met.
        raise UnreadableFileError(f"{weights}: not a checkpoint of the training: {error}") from None


def contract_of(onnx: Path, repository: Path | None = None) -> Contract:
    """Read the contract of a repository, of the one that holds the weights, or of this checkout.

    Raises
    ------
    UnreadableFileError
        There is none.
    ContractError
        It is not one that this package understands.
    """
    holding = (p for p in onnx.resolve().parents if (p / "contract.json").is_file())
    return find_contract(repository or next(holding, None))


def _engine(onnx: Path, name: EngineName) -> Engine:
    if name == "onnxruntime":
        return onnxruntime_engine(onnx)
    # As the embedded profile chooses.
    int8 = onnx.with_name(INT8_NETWORK)
    precision = choose_precision(cpu_flags(), has_int8=int8.is_file())
    if precision == "int8":
        return openvino_engine(int8, precision)
    return openvino_engine(onnx, "fp32" if precision == "f32" else precision)


@dataclass(frozen=True, eq=False)
class Scored:
    """What the product says of a scan.

    Attributes
    ----------
    grid : Volume
        HU on the model grid.
    labels : ndarray of uint8, shape (z, y, x)
        Label map on the whole grid, 0 outside the lung box.
    flags : tuple of str
        Doubts of the client.
    windows : int
        Windows that the network saw.
    inference_s : float
        Network and blending.
    """

    grid: Volume
    labels: Labels
    flags: tuple[str, ...]
    windows: int
    inference_s: float

    def volume_ml(self, labels: tuple[int, ...]) -> float:
        """Return the volume of some classes."""
        return float(np.isin(self.labels, labels).sum()) * self.grid.voxel_volume_mm3 / 1000

    def dl_ild_percent(self, contract: Contract) -> float:
        """Return 100 x lesion volume / lung volume; NaN where no lung was found."""
        lesion, lung = contract.lesion_labels, contract.lung_labels
        return dl_ild_percent(self.volume_ml(lesion), self.volume_ml(lung))


def score_volume(volume: Volume, run: Network, contract: Contract) -> Scored:
    """Score a scan: the client's grid, lung box and windows, the server's blending.

    Parameters
    ----------
    volume : Volume
        HU in any orientation and spacing.
    run : callable
        The network on one window.
    contract : Contract

    Returns
    -------
    Scored

    Raises
    ------
    InputError
        The client refuses the scan.
    """
    prepared = prepare(volume, contract)
    start = time.perf_counter()
    windows = Windows(prepared.grid, prepared.box, prepared.plan, contract, prepared.seen)
    labels = _on_grid(blend(run, windows), prepared)
    seconds = time.perf_counter() - start
    return Scored(prepared.grid, labels, prepared.flags, len(prepared.plan.origins), seconds)


def _on_grid(labels: Labels, prepared: PreparedScan) -> Labels:
    """Lay the labels of the box on the grid; those beyond its end are no part of the scan."""
    out = np.zeros(prepared.grid.shape, dtype=np.uint8)
    box = prepared.box
    region = tuple(slice(a, b) for a, b in zip(box.start, box.stop, strict=True))
    shape = out[region].shape
    out[region] = labels[tuple(slice(0, n) for n in shape)]
    return out
