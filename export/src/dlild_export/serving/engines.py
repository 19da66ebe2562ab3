"""The engines that a network may be served by, each as a function of one window."""

from __future__ import annotations

import functools
import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from dlild_client.contract.precision import INSTRUCTIONS, LIMIT, choose_precision, cpu_flags
from dlild_client.contract.weights import INT8_NETWORK
from dlild_export.serving.onnx import INPUT, OUTPUT, export_run, run_network
from dlild_export.serving.sliding import Network
from dlild_export.training.unet import ServedUNet, UNet

if TYPE_CHECKING:
    from dlild_export.serving.stages import StagedNetwork

Window = npt.NDArray[np.float16]
_AS_WRITTEN = {"LP_TRANSFORMS_MODE": "NO"}
"""Setting of OpenVINO's CPU plugin: no kernels for 8 bits."""
IN_FP32 = "8-bit numbers added up in FP32: this CPU has no kernels for them"
"""Note of an INT8 form that is computed on a CPU which would not be served it."""


@dataclass(frozen=True)
class Engine:
    """An engine at one precision.

    Attributes
    ----------
    name, precision : str
        As the tables have them, such as ``openvino`` and ``bf16``.
    load : callable
        Returns the network, ready to run. Called when its turn comes: one at a time is in memory.
    note : str
        What a reader of the figures must know.
    """

    name: str
    precision: str
    load: Callable[[], Network]
    note: str = ""


def engines_of(weights: Path) -> tuple[Path, list[Engine]]:
    """Return the ONNX file of some weights and the engines to hold against each other.

    Parameters
    ----------
    weights : pathlib.Path
        A run or checkpoint, which is exported if need be; or an ONNX file.

    Returns
    -------
    pathlib.Path
        The ONNX file.
    list of Engine
        The reference first: torch, or ONNX Runtime where there is no checkpoint. Last the INT8 form
        that lies beside the ONNX file.

    Raises
    ------
    FileNotFoundError
        Neither is here.
    """
    if weights.suffix == ".onnx":
        if not weights.is_file():
            raise FileNotFoundError(f"{weights}: no such file")
        quantised = weights.with_name(INT8_NETWORK)
        int8 = [openvino_engine(quantised, "int8")] if quantised.is_file() else []
        return weights, [onnxruntime_engine(weights), *openvino_engines(weights), *int8]
    file = export_run(weights)
    network = run_network(weights)
    return file, [torch_engine(network), onnxruntime_engine(file), *openvino_engines(file)]


def torch_engine(network: UNet) -> Engine:
    """Return torch in fp32: what the training knows."""

    def load() -> Network:
        import torch  # noqa: PLC0415

        served = ServedUNet(network).eval()

        def run(window: Window) -> Window:
            with torch.inference_mode():
                probabilities: Window = served(torch.from_numpy(window)).numpy()
            return probabilities

        return run

    return Engine("torch", "fp32", load)


def onnxruntime_engine(weights: Path, *, precision: str = "fp32", note: str = "") -> Engine:
    """Return ONNX Runtime on the CPU, at the precision that the file itself states."""

    def load() -> Network:
        import onnxruntime  # noqa: PLC0415

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = _threads()
        session = onnxruntime.InferenceSession(
            str(weights), options, providers=["CPUExecutionProvider"]
        )

        def run(window: Window) -> Window:
            probabilities: Window = session.run([OUTPUT], {INPUT: window})[0]
            return probabilities

        return run

    return Engine("onnxruntime", precision, load, note)


def openvino_engines(weights: Path) -> list[Engine]:
    """Return OpenVINO in fp32, with the kernels of this CPU and with those for AVX2, and in bf16.

    bf16 only where this CPU computes in it. The settings are those of the embedded profile.
    """
    flags = cpu_flags()
    engines = [openvino_avx2_engine(weights), openvino_engine(weights, "fp32")]
    if choose_precision(flags) == "bf16":
        native = ", ".join(sorted(INSTRUCTIONS["bf16"] & flags))
        engines.append(openvino_engine(weights, "bf16", f"native ({native})"))
    return engines


def openvino_engine(weights: Path, precision: str, note: str = "") -> Engine:
    """Return OpenVINO at one precision.

    Parameters
    ----------
    weights : pathlib.Path
        The ONNX file; of `int8` a Q/DQ graph, whose other layers are in bf16 where the CPU has it.
        A CPU without kernels for 8 bits computes it in FP32, as it is written.
    precision : str
        `fp32`, `bf16` or `int8`, of the U-Net; what comes before and after it is in FP32.
    note : str
        What a reader of the figures must know.
    """
    if precision == "int8" and choose_precision(cpu_flags(), has_int8=True) != "int8":
        return Engine("openvino", precision, functools.partial(_as_written, weights), IN_FP32)
    hint = {"fp32": "f32", "bf16": "bf16", "int8": choose_precision(cpu_flags())}[precision]

    def load() -> Network:
        from dlild_export.serving.stages import StagedNetwork  # noqa: PLC0415

        network = StagedNetwork(weights, hint, _threads())
        return lambda window: network.infer(window).copy()

    return Engine("openvino", precision, load, note)


def _as_written(weights: Path) -> Network:
    request = openvino_request(weights.read_bytes())
    return lambda window: np.array(request.infer({INPUT: window})[OUTPUT], dtype=np.float16)


def openvino_avx2_engine(weights: Path) -> Engine:
    """Return OpenVINO in fp32 with the kernels that a CPU without AVX-512 gets.

    They are others, and can be wrong where those of this CPU are right: OpenVINO 2026.4 reduced the
    channels of version 6 wrongly. In a process of its own, since oneDNN chooses its kernels once.

    Parameters
    ----------
    weights : pathlib.Path
        The ONNX file.
    """

    def load() -> Network:
        executor = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))
        return lambda window: executor.submit(_run_for_avx2, weights, window).result()

    return Engine("openvino", "fp32", load, "kernels for AVX2")


def _run_for_avx2(weights: Path, window: Window) -> Window:
    return _avx2_network(weights).infer(window).copy()


@functools.cache
def _avx2_network(weights: Path) -> StagedNetwork:
    from dlild_export.serving.stages import StagedNetwork  # noqa: PLC0415

    os.environ[LIMIT] = "AVX2"
    return StagedNetwork(weights, "f32", _threads())


def openvino_request(model: bytes) -> Any:
    """Compile an ONNX model for the CPU in FP32, in one part, with the threads as they are served.

    A Q/DQ graph is computed as it is written: rounded values, multiplied and added up in FP32,
    where kernels for 8 bits would cut sums off on a CPU without VNNI.

    Parameters
    ----------
    model : bytes
        ONNX file; may have further outputs.

    Returns
    -------
    openvino.InferRequest
    """
    import openvino  # noqa: PLC0415

    from dlild_export.serving.stages import compile_cpu  # noqa: PLC0415

    core = openvino.Core()
    return compile_cpu(core, core.read_model(model), "f32", _threads(), **_AS_WRITTEN)


def _threads() -> int:
    return len(os.sched_getaffinity(0))
