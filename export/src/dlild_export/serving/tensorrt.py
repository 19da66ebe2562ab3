"""A TensorRT plan of the network, built on the GPU that will run it.

Written against TensorRT 10 and 11. Both read the types from the graph
(`dlild_export.serving.fp16`): in 10 a network is asked for as strongly typed, in 11 all are, and no
builder flag speaks of precision.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from dlild_client.contract import WindowSpec
from dlild_client.contract.weights import PLAN, RECORD
from dlild_client.volume import Volume
from dlild_export.data.contracts import read_contract, read_releases
from dlild_export.data.digest import sha256
from dlild_export.serving.config_text import MAX_BATCH
from dlild_export.serving.cuda import Device
from dlild_export.serving.engines import Engine, Window, onnxruntime_engine
from dlild_export.serving.fp16 import to_half
from dlild_export.serving.onnx import INPUT, OUTPUT, WEIGHTS
from dlild_export.serving.parity import Parity, Progress, measure_parity
from dlild_export.serving.sliding import Network

OLDEST, NEWEST = 10, 11
Shape5 = tuple[int, int, int, int, int]

TIMINGS = "tensorrt.timings"


class TensorRtError(RuntimeError):
    """TensorRT is missing, of another version, or refuses the network."""


@dataclass(frozen=True)
class Profile:
    """Shapes (n, 1, z, y, x) that a plan takes, and the one it is fastest at."""

    least: Shape5
    best: Shape5
    most: Shape5

    @classmethod
    def of(cls, windows: WindowSpec) -> Profile:
        """Read the profile from the contract's window bounds.

        The bounds hold for each axis by itself; that a window has at most `maximum_voxels` is
        nothing a profile can say, so a plan takes memory for its longest edges together.
        """
        least, best, most = windows.minimum, windows.largest_cube(), windows.maximum
        return cls((1, 1, *least), (MAX_BATCH, 1, *best), (MAX_BATCH, 1, *most))


def load_tensorrt() -> Any:
    """Import TensorRT.

    Raises
    ------
    TensorRtError
        It is not here, or of a version that this was not written for.
    """
    try:
        trt = importlib.import_module("tensorrt")
    except ImportError:
        raise TensorRtError(
            "TensorRT's Python module is not here: run this in the Triton container, with the "
            "tensorrt package of the version that the container names"
        ) from None
    if not OLDEST <= _major(trt) <= NEWEST:
        raise TensorRtError(
            f"TensorRT is {trt.__version__}; {OLDEST}.x and {NEWEST}.x are known here"
        )
    return trt


def build_plan(trt: Any, network_bytes: bytes, profile: Profile, cache: Path) -> bytes:
    """Build a plan.

    Parameters
    ----------
    trt : module
        TensorRT.
    network_bytes : bytes
        ONNX file, strongly typed.
    profile : Profile
        Shapes of the windows.
    cache : pathlib.Path
        Timings of earlier builds on this GPU; read where it is there, and written again.

    Returns
    -------
    bytes
        The plan.

    Raises
    ------
    TensorRtError
        The network does not parse, or no plan comes out.
    """
    logger = trt.Logger(trt.Logger.WARNING)
    builder = trt.Builder(logger)
    network = builder.create_network(_network_flags(trt))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(network_bytes):
        said = "; ".join(str(parser.get_error(i)) for i in range(parser.num_errors))
        raise TensorRtError(f"TensorRT does not take the network: {said}")
    config = builder.create_builder_config()
    shapes = builder.create_optimization_profile()
    shapes.set_shape(INPUT, profile.least, profile.best, profile.most)
    config.add_optimization_profile(shapes)
    timings = config.create_timing_cache(cache.read_bytes() if cache.is_file() else b"")
    # Timings of another GPU or version are refused by TensorRT, and measured anew.
    config.set_timing_cache(timings, ignore_mismatch=False)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise TensorRtError("TensorRT built no plan: its own messages above say why")
    cache.write_bytes(bytes(config.get_timing_cache().serialize()))
    return bytes(plan)


def plan_network(trt: Any, plan: bytes, device: Device) -> Network:
    """Return a plan as a function of one window.

    Parameters
    ----------
    trt : module
        TensorRT.
    plan : bytes
        Built on this GPU.
    device : Device
        Entered already.

    Raises
    ------
    TensorRtError
        The plan does not load, or a window is refused.
    """
    runtime = trt.Runtime(trt.Logger(trt.Logger.WARNING))
    engine = runtime.deserialize_cuda_engine(plan)
    if engine is None:
        raise TensorRtError("TensorRT does not load the plan that it built")
    context = engine.create_execution_context()

    def run(window: Window) -> Window:
        # The engine and the runtime live as long as this function does.
        assert engine is not None
        assert runtime is not None
        if not context.set_input_shape(INPUT, window.shape):
            raise TensorRtError(f"the plan does not take windows of shape {window.shape}")
        shape = tuple(context.get_tensor_shape(OUTPUT))
        source = np.ascontiguousarray(window)
        addresses = [device.allocate(source.nbytes), device.allocate(2 * int(np.prod(shape)))]
        try:
            device.send(source, addresses[0])
            for name, address in zip((INPUT, OUTPUT), addresses, strict=True):
                context.set_tensor_address(name, address)
            if not context.execute_async_v3(0):
                raise TensorRtError("TensorRT failed to run the plan")
            return device.fetch(addresses[1], shape, np.float16)
        finally:
            for address in addresses:
                device.free(address)

    return run


def _network_flags(trt: Any) -> int:
    if _major(trt) >= NEWEST:
        return 0
    return 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)


def _major(trt: Any) -> int:
    return int(trt.__version__.partition(".")[0])


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
    plan_sha256 : str
        Digest of the plan.
    windows : dict
        `minimum` and `maximum` (z, y, x) of the windows that the plan takes.
    """

    version: int
    weights_sha256: str
    tensorrt: str
    gpu: str
    build_seconds: float
    plan_bytes: int
    plan_sha256: str
    windows: Mapping[str, Sequence[int]]


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
    if digest != released.weights_sha256:
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
        plan_sha256=hashlib.sha256(plan).hexdigest(),
        windows={
            "minimum": list(contract.windows.minimum),
            "maximum": list(contract.windows.maximum),
        },
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
