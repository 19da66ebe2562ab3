"""From a released version to its TensorRT plan: built, held against ONNX Runtime, put in place."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import onnx

from dlild_client.volume import Volume
from dlild_export.data.contracts import read_contract, read_releases
from dlild_export.data.digest import sha256
from dlild_export.serving.cuda import Device
from dlild_export.serving.engines import Engine, onnxruntime_engine
from dlild_export.serving.fp16 import to_half
from dlild_export.serving.onnx import WEIGHTS
from dlild_export.serving.parity import Parity, Progress, measure_parity
from dlild_export.serving.tensorrt_plan import Profile, build_plan, plan_network

PLAN, RECORD = "model.plan", "model.plan.json"
TIMINGS = "tensorrt.timings"


class ParityError(RuntimeError):
    """The plan gives another DL-ILD than ONNX Runtime; the message names each difference."""


@dataclass(frozen=True)
class Built:
    """What stands beside a plan, for those who find it.

    Attributes
    ----------
    version : int
        Of the network.
    weights_sha256 : str
        Of the ONNX file that the plan was built from.
    tensorrt, gpu : str
        A plan runs with this version, on this kind of GPU.
    build_seconds : float
        Of TensorRT's builder alone.
    plan_bytes : int
        Size of the plan.
    """

    version: int
    weights_sha256: str
    tensorrt: str
    gpu: str
    build_seconds: float
    plan_bytes: int


def released_weights(repository: Path, version: int | None) -> tuple[int, Path]:
    """Return a version and its ONNX file, whose digest is that of the contract.

    Raises
    ------
    FileNotFoundError
        No such version.
    ValueError
        The file is not what was released.
    """
    releases = read_releases(repository).releases
    number = read_contract(repository).model.version if version is None else version
    released = releases.get(number)
    if released is None:
        have = ", ".join(map(str, sorted(releases)))
        raise FileNotFoundError(f"{repository}: version {number} was never released, only {have}")
    weights = repository / "ild_unet" / str(number) / WEIGHTS
    if not weights.is_file():
        raise FileNotFoundError(f"{weights}: no such file; restore what was released")
    digest = sha256(weights)
    if digest != released["weights_sha256"]:
        raise ValueError(
            f"{weights} has sha256 {digest}, releases.json names {released.weights_sha256}: "
            "restore the file that was released"
        )
    return number, weights


def build_version(
    trt: Any,
    device: Device,
    repository: Path,
    version: int,
    scans: Mapping[str, Volume],
    progress: Progress,
) -> tuple[Built, Parity]:
    """Build the plan of a version, and put it in place where it passes the gate.

    Parameters
    ----------
    trt : module
        TensorRT.
    device : Device
        Entered already.
    repository : pathlib.Path
        Model repository.
    version : int
        Of the network.
    scans : mapping of str to Volume
        HU on the model grid, for the gate.
    progress : callable
        Called with what is about to happen.

    Returns
    -------
    Built, Parity

    Raises
    ------
    TensorRtError, HalfError
        No plan comes out.
    ParityError
        It is not the same network; nothing is written then.
    """
    _, weights = released_weights(repository, version)
    contract = read_contract(repository)
    progress(f"TensorRT {trt.__version__} builds on {device.name}")
    began = time.perf_counter()
    plan = build_plan(
        trt,
        to_half(onnx.load(str(weights))).SerializeToString(),
        Profile.of(contract.windows),
        repository / "ild_unet" / TIMINGS,
    )
    built = Built(
        version=version,
        weights_sha256=sha256(weights),
        tensorrt=trt.__version__,
        gpu=device.name,
        build_seconds=time.perf_counter() - began,
        plan_bytes=len(plan),
    )
    engines = [
        onnxruntime_engine(weights),
        Engine("tensorrt", "fp16", lambda: plan_network(trt, plan, device), built.gpu),
    ]
    parity = measure_parity(engines, scans, contract, built.weights_sha256, progress)
    if not parity.passes:
        raise ParityError("; ".join(parity.failures()) or "no scan was compared")
    record = json.dumps({**asdict(built), "parity": json.loads(parity.to_json())}, indent=2) + "\n"
    _replace(weights.with_name(PLAN), plan)
    _replace(weights.with_name(RECORD), record.encode())
    return built, parity


def _replace(path: Path, content: bytes) -> None:
    unfinished = path.with_name(f".{path.name}.unfinished")
    unfinished.write_bytes(content)
    unfinished.replace(path)
