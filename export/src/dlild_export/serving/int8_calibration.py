"""Calibrate the INT8 form of a network on phantoms: ranges of its tensors, biases of its head."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper

from dlild_export.serving.engines import openvino_request
from dlild_export.serving.int8 import HEAD, Array, QuantisedUNet, Range
from dlild_export.serving.onnx import INPUT, OUTPUT

Crop = npt.NDArray[np.float16]
Progress = Callable[[str], None]

OUTLIERS = 1e-4
"""Share of the values of a tensor that its range leaves out at either end."""
_SEEN = 14_000  # voxels of a crop that ranges are taken of
_CHANNEL_OUTLIERS = 3 * OUTLIERS  # a channel has fewer of them
_SIGNIFICANT = 256  # steps from one power of 2 to the next that ranges and factors are rounded to


def quantise(
    model: onnx.ModelProto, crops: Sequence[Crop], progress: Progress | None = None
) -> onnx.ModelProto:
    """Make the INT8 form of a served network.

    Parameters
    ----------
    model : onnx.ModelProto
        As `dlild_export.serving.onnx.export_onnx` writes it.
    crops : sequence of ndarray, shape (z, y, x)
        HU to calibrate on.
    progress : callable, optional
        Called with what is about to be done.

    Returns
    -------
    onnx.ModelProto
        Q/DQ graph of the same inputs, outputs and metadata. What the crops measure is rounded, so
        that the last bits of an engine's arithmetic do not show in the file.

    Raises
    ------
    Int8Error
        The graph holds no U-Net of this package.
    """
    say = progress or (lambda _: None)
    network = QuantisedUNet(model)
    say("ranges of the tensors")
    network.equalise(measure_ranges(network, crops))
    say("ranges of the tensors, their channels equalised")
    ranges = measure_ranges(network, crops)
    say("biases of the head")
    network.add_to_head(find_head_biases(model, network.quantised(ranges), crops))
    return network.quantised(ranges)


def measure_ranges(network: QuantisedUNet, crops: Sequence[Crop]) -> dict[str, Range]:
    """Return what each tensor holds, without its outliers; the mean over the crops."""
    request = openvino_request(network.observed().SerializeToString(), "f32")
    found: dict[str, list[tuple[float, float, Array]]] = {name: [] for name in network.tensors}
    for crop in crops:
        outputs = request.infer({INPUT: crop[None, None]})
        for name in network.tensors:
            found[name].append(_ends(outputs[name][0]))
    return {name: _mean_range(values) for name, values in found.items()}


def _ends(values: Array) -> tuple[float, float, Array]:
    """Return the ends of a tensor, shape (channels, z, y, x), and the size of each channel."""
    flat = values.reshape(len(values), -1)
    flat = np.ascontiguousarray(flat[:, :: max(1, flat.shape[1] // _SEEN)])
    low, high = max(1, int(flat.size * OUTLIERS)) - 1, -max(1, int(flat.size * OUTLIERS))
    ordered = np.partition(flat, (low, high % flat.size), axis=None)
    of_channel = flat.shape[1] - max(1, int(flat.shape[1] * _CHANNEL_OUTLIERS))
    sizes = np.partition(np.abs(flat), of_channel, axis=1)[:, of_channel]
    return float(ordered[low]), float(ordered[high]), sizes


def _mean_range(ends: Sequence[tuple[float, float, Array]]) -> Range:
    low, high = (float(rounded(np.mean([cast(float, end[i]) for end in ends]))) for i in (0, 1))
    channels = np.mean([end[2] for end in ends], axis=0)
    return Range(low, high, rounded(channels).astype(np.float32))


def rounded(numbers: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Round to 8 significant bits."""
    mantissa, exponent = np.frexp(np.asarray(numbers, dtype=np.float64))
    values = np.ldexp(np.rint(mantissa * _SIGNIFICANT) / _SIGNIFICANT, exponent)
    return np.asarray(values, dtype=np.float64)


def find_head_biases(
    model: onnx.ModelProto, quantised: onnx.ModelProto, crops: Sequence[Crop]
) -> tuple[float, ...]:
    """Find what INT8 takes from the logits where they decide, one number a class.

    Of each class the mean difference of the logits, weighted by ``p (1 - p)`` of its probability
    p: to first order, that keeps the sum of its probabilities, and so its volume.

    Parameters
    ----------
    model, quantised : onnx.ModelProto
        The network, and its INT8 form.
    crops : sequence of ndarray, shape (z, y, x)
        HU.

    Returns
    -------
    tuple of float
        To be added to the logits of the classes.
    """
    logits = next(n.output[0] for n in model.graph.node if n.input[1:2] == [f"{HEAD}weight"])
    exact, rough = (_with_output(m, logits) for m in (model, quantised))
    sums, weights = 0.0, 0.0
    for crop in crops:
        window = crop[None, None]
        expected = exact.infer({INPUT: window})
        probabilities = expected[OUTPUT][0].astype(np.float64)
        weight = probabilities * (1 - probabilities)
        difference = (
            expected[logits][0].astype(np.float64) - rough.infer({INPUT: window})[logits][0]
        )
        sums = sums + (weight * difference).sum(axis=(1, 2, 3))
        weights = weights + weight.sum(axis=(1, 2, 3))
    biases = np.asarray(sums) / np.maximum(weights, 1.0)
    return tuple(round(float(bias), 3) for bias in biases)


def _with_output(model: onnx.ModelProto, name: str) -> Any:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    copy.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    return openvino_request(copy.SerializeToString(), "f32")
