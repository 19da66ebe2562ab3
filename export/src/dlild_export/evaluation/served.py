"""The network that is evaluated: its ONNX file, the engine that runs it, and its contract."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dlild_client.contract import Contract
from dlild_client.errors import UnreadableFileError
from dlild_export.contracts import find_contract
from dlild_export.engines import Engine, onnxruntime_engine, openvino_engines
from dlild_export.onnx_export import WEIGHTS, export_run, sha256
from dlild_export.sliding import Network

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
        `openvino` as the embedded profile runs it: bf16 where the CPU has it, fp32 elsewhere.
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
    # The last is bf16 where the CPU has it, as in the embedded profile.
    return onnxruntime_engine(onnx) if name == "onnxruntime" else openvino_engines(onnx)[-1]
