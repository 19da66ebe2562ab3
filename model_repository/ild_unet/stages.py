"""The network on OpenVINO: the U-Net in the chosen precision, all around it in FP32.

In bf16 the lung's density is off by up to 1 HU all over a region, and by 11 where its mean shift
comes to rest elsewhere; every voxel there is shifted, and DL-ILD of three phantoms by 0.04 to 0.08
point. In FP32 density and averaged evidence take no longer, but OpenVINO has one precision for a
model. So the graph is cut at the first and the last convolution, and what a part writes is what
the next one reads: nothing is copied.

This module is the server's and the gates': rendered into ``model_repository/ild_unet``.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray
from openvino import opset13 as operators

CONVOLUTIONS = frozenset({"Convolution", "ConvolutionBackpropData"})


class StagedNetwork:
    """A network that is compiled in up to three parts: before, in and after its U-Net.

    Parameters
    ----------
    model : Path or bytes
        The ONNX file or what it holds, from ``window`` FP16 [N, 1, z, y, x] to ``probabilities``
        FP16 [N, classes, z, y, x].
    precision : str
        Of what is in floating point in the U-Net: ``f32`` or ``bf16``.
    threads : int
        Threads of one inference.
    """

    def __init__(self, model: Path | bytes, precision: str, threads: int) -> None:
        core = ov.Core()
        read = core.read_model(model if isinstance(model, bytes) else str(model))
        of_one_window(read)
        self._requests = [
            compile_cpu(core, stage, stage_precision, threads)
            for stage, stage_precision in split(read, precision)
        ]

    def infer(self, window: NDArray[np.float16]) -> NDArray[np.float16]:
        """Run the network on one window of HU.

        Parameters
        ----------
        window : ndarray of float16, shape (1, 1, z, y, x)
            HU.

        Returns
        -------
        ndarray of float16, shape (1, classes, z, y, x)
            Class probabilities, in memory that the next call writes over.
        """
        tensor = ov.Tensor(np.ascontiguousarray(window), shared_memory=True)
        for request in self._requests:
            request.set_input_tensor(tensor)
            request.infer()
            tensor = request.get_output_tensor()
        # numpy 1.26 lets FP16 slip to FP32, which the next step refuses: the type is said here.
        probabilities: NDArray[np.float16] = np.asarray(tensor.data, dtype=np.float16)
        return probabilities


def of_one_window(model: Any) -> None:
    """Let a model take one window at a time, in place.

    Channels of one window lie one after the other in memory, so that OpenVINO splits and joins them
    where they are; of an unknown number of windows it makes copies. The bits are the same.
    """
    shapes = {entry: entry.get_partial_shape() for entry in model.inputs}
    for shape in shapes.values():
        if shape.rank.is_static and shape.rank.get_length() > 1:
            shape[0] = 1
    model.reshape(shapes)


def compile_cpu(core: Any, model: Any, precision: str, threads: int, **more: object) -> Any:
    """Compile a model as it is served, for one inference at a time, and return its request."""
    settings = {
        "INFERENCE_PRECISION_HINT": precision,
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
        **more,
    }
    return core.compile_model(model, "CPU", settings).create_infer_request()


def split(model: Any, precision: str) -> Iterator[tuple[Any, str]]:
    """Yield the parts of a model in the order that they run in, each with its precision.

    One part where nothing would be gained: in FP32, and without convolutions.
    """
    if precision == "f32" or not _convolutions(model):
        yield model, precision
        return
    before = model.clone()
    yield _part(_first_input(before), before.get_parameters()), "f32"
    unet = model.clone()
    entry = _cut(_first_input(unet))
    yield _part(_logits(unet), [entry]), precision
    after = model.clone()
    entry = _cut(_logits(after))
    for target in after.input().get_target_inputs():
        # Nothing but the edges of the window is asked for, which are those of the logits.
        target.replace_source_output(entry.output(0))
    yield ov.Model(after.get_results(), [entry]), "f32"


def _convolutions(model: Any) -> list[Any]:
    return [op for op in model.get_ordered_ops() if op.get_type_name() in CONVOLUTIONS]


def _first_input(model: Any) -> Any:
    """Return what the first convolution reads: HU, and the lung's density."""
    return _convolutions(model)[0].input_value(0)


def _logits(model: Any) -> Any:
    """Return what the last convolution, the head, writes, without its bias.

    Where the part ends at the convolution, OpenVINO writes what it adds up in FP32; with the bias
    it would be rounded to bf16 first.
    """
    return _convolutions(model)[-1].output(0)


def _part(output: Any, parameters: list[Any]) -> Any:
    return ov.Model([operators.result(output)], parameters)


def _cut(output: Any) -> Any:
    """Put an input of the model in the place of a value, and return it."""
    parameter = operators.parameter(output.get_partial_shape(), output.get_element_type())
    for target in output.get_target_inputs():
        target.replace_source_output(parameter.output(0))
    return parameter
