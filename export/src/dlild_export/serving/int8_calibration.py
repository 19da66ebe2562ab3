"""Calibrate the INT8 form of a network on phantoms: ranges of its tensors, biases of its head."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper
from scipy import ndimage

from dlild_export.serving.engines import openvino_request
from dlild_export.serving.int8 import HEAD, KEPT, Array, Ends, QuantisedUNet, rounded
from dlild_export.serving.onnx import INPUT, OUTPUT

Crop = npt.NDArray[np.float16]
Progress = Callable[[str], None]

OUTLIERS = 1e-3
"""Share of the values of a channel that its size leaves out."""
SEEN = 6_000
"""Voxels of a crop that are looked at."""
_SURELY_BACKGROUND, _NEAR = 0.95, 5  # probability, and edge of the cube that counts as beside
_FAR = 1e-5  # share of the values that no range holds
_SHARES = tuple(np.geomspace(0.02, 1.0, 20))  # of the largest range, that are tried
_JUDGED = 8_000  # voxels that a range is chosen by


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
    say("what the tensors hold in and beside the lungs")
    samples = sample_tensors(network, crops)
    sizes = {name: np.quantile(np.abs(x), 1 - OUTLIERS, axis=1) for name, x in samples.items()}
    for name, factor in network.equalise(sizes).items():
        samples[name] /= factor[:, None]
    ranges = {name: best_range(x, network.gains(name)) for name, x in samples.items()}
    say("biases of the head")
    network.add_to_head(find_head_biases(model, network.quantised(ranges, KEPT), crops))
    return network.quantised(ranges, KEPT)


def sample_tensors(network: QuantisedUNet, crops: Sequence[Crop]) -> dict[str, Array]:
    """Return what each tensor holds in and beside the lungs.

    The decoder is up to 30 times as far from 0 in bone and in the patient's surroundings, where
    nothing hangs on how far: ranges that hold those values have no steps left for lung.

    Parameters
    ----------
    network : QuantisedUNet
    crops : sequence of ndarray, shape (z, y, x)
        HU.

    Returns
    -------
    dict of str to ndarray of float32, shape (channels, voxels)
        At most 6,000 voxels of each crop, evenly spread.
    """
    request = openvino_request(network.observed().SerializeToString())
    found: dict[str, list[Array]] = {name: [] for name in network.tensors}
    for crop in crops:
        outputs = request.infer({INPUT: crop[None, None]})
        background = np.asarray(outputs[OUTPUT][0, 0], dtype=np.float32)
        near = ndimage.maximum_filter(background < _SURELY_BACKGROUND, _NEAR)
        for name in network.tensors:
            values = outputs[name][0]
            voxels = np.flatnonzero(_coarse(near, values.shape[1:]))
            spread = np.linspace(0, len(voxels) - 1, min(len(voxels), SEEN)).astype(np.intp)
            found[name].append(values.reshape(len(values), -1)[:, voxels[spread]])
    return {name: np.concatenate(parts, axis=1) for name, parts in found.items()}


def _coarse(mask: npt.NDArray[np.bool_], shape: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    """Return where a mask holds anything, on a coarser level of the network."""
    edges = [n // m for n, m in zip(mask.shape, shape, strict=True)]
    (z, y, x), (a, b, c) = shape, edges
    return np.asarray(mask.reshape(z, a, y, b, x, c).any(axis=(1, 3, 5)), dtype=np.bool_)


def best_range(values: Array, gains: Array) -> Ends:
    """Find the range that costs least where 256 steps divide it and what lies beyond is cut off.

    Parameters
    ----------
    values : ndarray of float32, shape (channels, voxels)
    gains : ndarray of float32, shape (channels,)
        What a squared error of a channel counts.

    Returns
    -------
    tuple of float
        The lower end is 0 where no value is less.
    """
    whole = min(0.0, float(np.quantile(values, _FAR))), float(np.quantile(values, 1 - _FAR))
    some = values[:, :: max(1, values.shape[1] // _JUDGED)]
    best = min(_SHARES, key=lambda share: _cost(some, gains, whole[0] * share, whole[1] * share))
    low, high = (float(rounded(end * best)) for end in whole)
    return low, high


def _cost(values: Array, gains: Array, low: float, high: float) -> float:
    step = max(high - low, 1e-6) / 255
    zero = round(-low / step)
    read = (np.clip(np.rint(values / step) + zero, 0, 255) - zero) * step
    return float((gains * ((values - read) ** 2).mean(axis=1)).sum())


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
    return openvino_request(copy.SerializeToString())
