"""The network in INT8: weights and activations of the U-Net in 8 bits, as a Q/DQ graph.

One ONNX file for all engines: `QuantizeLinear` and `DequantizeLinear` stand where a value is
rounded, and an engine that has 8-bit kernels merges them with the convolutions between. What comes
before the U-Net (the lung's density) and after it (the averaged evidence), its first convolution
and its head stay in floating point, and so do the convolutions of `KEPT`.

Weights have one scale for every output channel, activations one for a tensor; they are unsigned
(OpenVINO 2026.4 computes nonsense from signed ones on this CPU, AVX-512 VNNI). So that it fits, all
channels of a tensor are brought to a like range first: a convolution's output channel is divided by
a factor that the next one's input channel is multiplied by, which a ReLU and a maximum between them
leave as it is (cross-layer equalisation, Nagel et al. 2019; the factor is that of SmoothQuant, Xiao
et al. 2023, with an exponent of 0.5).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

Array = npt.NDArray[np.float32]
Ends = tuple[float, float]
"""Between which values lie."""
Message = TypeVar("Message", onnx.NodeProto, onnx.TensorProto)

FIRST, HEAD = "network.down.0.0.", "network.head."
"""Beginnings of the names of the layers that stay in floating point."""
KEPT = ("network.down.0.3.weight", "network.down.1.0.weight", "network.up.1.0.weight")
"""Convolutions that stay in floating point as well: what they take in bears the least rounding.

Nine tenths of the error of the log-odds come from rounded activations, and most of that from what
these three take in. Two of them alone gain a seventh to a quarter, all three more than half.
"""
_BODY = ("network.down.", "network.up.", "network.upsampling.")
_CONVOLUTIONS = frozenset({"Conv", "ConvTranspose"})
_PASSED = frozenset({"MaxPool", "Concat"})  # carry a value on as it is
_LARGEST, _MOST = 127, 255  # of a weight in 8 bits, and of a value
_LEAST = 1e-4
_LEAST_CHANNEL = 0.05  # of the largest: one that is nearly always 0 is not enlarged without end
_SIGNIFICANT = 256  # steps from one power of 2 to the next


class Int8Error(RuntimeError):
    """A network that is not quantised: the message says why."""


class QuantisedUNet:
    """A served network whose U-Net is prepared for INT8 and written as a Q/DQ graph.

    Parameters
    ----------
    model : onnx.ModelProto
        As `dlild_export.serving.onnx.export_onnx` writes it; stays as it is.

    Attributes
    ----------
    tensors : tuple of str
        Values that are rounded to 8 bits: what the convolutions of the U-Net take in.

    Raises
    ------
    Int8Error
        The graph holds no U-Net whose convolutions bear the names of `training.unet.UNet`.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self._model = onnx.ModelProto()
        self._model.CopyFrom(model)
        graph = self._model.graph
        self._values = {
            tensor.name: numpy_helper.to_array(tensor).copy()
            for tensor in graph.initializer
            if tensor.name.startswith("network.")
        }
        self._producers = {name: node for node in graph.node for name in node.output}
        self._layers = [node for node in graph.node if _is_quantised(node)]
        if not self._layers or f"{HEAD}bias" not in self._values:
            raise Int8Error(
                "the graph has no convolutions of a U-Net of this package; give a file that "
                "`dlild-export onnx` wrote"
            )
        self._inputs = {node.input[1]: self._sources(node.input[0]) for node in self._layers}
        self.tensors = tuple(dict.fromkeys(t for names in self._inputs.values() for t in names))

    def observed(self) -> onnx.ModelProto:
        """Return the network, in floating point, with all tensors to be rounded as outputs."""
        model = self._current()
        for name in self.tensors:
            model.graph.output.append(
                helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
            )
        return model

    def equalise(self, sizes: Mapping[str, Array]) -> dict[str, Array]:
        """Bring the channels of every tensor to a like range; the network computes the same.

        Parameters
        ----------
        sizes : mapping of str to ndarray of float32, shape (channels,)
            How large the values of each channel of a tensor are.

        Returns
        -------
        dict of str to ndarray of float32, shape (channels,)
            What each channel was divided by: powers of 2, so that weights that bf16 holds exactly
            stay so where a convolution is left in floating point. Then none is much larger than 1.
        """
        factors = {}
        for name in self.tensors:
            size = np.maximum(sizes[name], _LEAST_CHANNEL * sizes[name].max())
            factor = np.sqrt(size / np.maximum(self._input_weights(name), _LEAST))
            factor *= (size / factor).max()
            factors[name] = np.exp2(np.rint(np.log2(factor))).astype(np.float32)
            self._divide(name, factors[name])
        return factors

    def gains(self, name: str) -> Array:
        """Return the sum of the squares of the weights that each channel of a tensor meets."""
        sums: list[Array] = [
            (np.moveaxis(self._values[weights], axis, 0)[part] ** 2).sum(axis=(1, 2, 3, 4))
            for weights, axis, part in self._consumers(name)
        ]
        total: Array = np.sum(sums, axis=0)
        return total

    def add_to_head(self, biases: Iterable[float]) -> None:
        """Add a number to the logits of every class."""
        name = f"{HEAD}bias"
        self._values[name] = self._values[name] + np.asarray(tuple(biases), dtype=np.float32)

    def quantised(self, ranges: Mapping[str, Ends], kept: Iterable[str] = ()) -> onnx.ModelProto:
        """Return the Q/DQ graph.

        Parameters
        ----------
        ranges : mapping of str to tuple of float
            Between which the values of each tensor are told apart; what lies beyond is cut off.
        kept : iterable of str
            Names of weights whose convolutions stay in floating point.

        Returns
        -------
        onnx.ModelProto
            The same inputs, outputs and metadata; the same bytes for the same arguments.
        """
        model, skipped = self._current(), frozenset(kept)
        graph = model.graph
        layers = {name for name in self._inputs if name not in skipped}
        passing = {
            n.name
            for layer in self._layers
            if layer.input[1] in layers
            for n in self._passed(layer.input[0])
        }
        steps = self._steps(ranges, layers)
        stored = [t for t in graph.initializer if t.name not in layers]
        nodes: list[onnx.NodeProto] = []
        for node in graph.node:
            quantised = node.op_type in _CONVOLUTIONS and node.input[1] in layers
            if quantised or node.name in passing:
                for index, name in enumerate(node.input):
                    if name in steps:
                        node.input[index] = f"{name}_rounded"
            if quantised:
                node.input[1] = self._add_weights(node, nodes, stored)
            nodes.append(node)
            for name in node.output:
                if name in steps:
                    _add_rounding(name, *steps[name], nodes, stored)
        nodes, stored = [_copy(n) for n in nodes], [_copy(t) for t in stored]
        del graph.node[:], graph.initializer[:]
        graph.node.extend(nodes)
        graph.initializer.extend(stored)
        onnx.checker.check_model(model, full_check=True)
        return model

    def _current(self) -> onnx.ModelProto:
        model = onnx.ModelProto()
        model.CopyFrom(self._model)
        for tensor in model.graph.initializer:
            if tensor.name in self._values:
                tensor.CopyFrom(numpy_helper.from_array(self._values[tensor.name], tensor.name))
        return model

    def _sources(self, name: str) -> list[str]:
        """Name the tensors that a value is made of, in the order of their channels."""
        node = self._producers[name]
        if node.op_type in _PASSED:
            return [source for part in node.input for source in self._sources(part)]
        return [name]

    def _passed(self, name: str) -> list[onnx.NodeProto]:
        """Return the nodes that carry tensors on, as they are, to where a value is read."""
        node = self._producers[name]
        if node.op_type not in _PASSED:
            return []
        return [node, *(found for part in node.input for found in self._passed(part))]

    def _producer(self, name: str) -> onnx.NodeProto:
        """Return the convolution that a tensor comes from."""
        node = self._producers[name]
        return self._producers[node.input[0]] if node.op_type == "Relu" else node

    def _consumers(self, name: str) -> list[tuple[str, int, slice]]:
        """Return weights that take a tensor in, the axis of their inputs, and its part of them."""
        found = []
        for node in self._layers:
            start = 0
            for source in self._inputs[node.input[1]]:
                stop = start + len(self._values[self._producer(source).input[2]])
                if source == name:
                    found.append((node.input[1], _input_axis(node), slice(start, stop)))
                start = stop
        return found

    def _input_weights(self, name: str) -> Array:
        """Return the largest weight, in size, that meets each channel of a tensor."""
        largest: list[Array] = [
            np.abs(np.moveaxis(self._values[weights], axis, 0)[part]).max(axis=(1, 2, 3, 4))
            for weights, axis, part in self._consumers(name)
        ]
        of_all: Array = np.max(largest, axis=0)
        return of_all

    def _divide(self, name: str, factor: Array) -> None:
        """Divide the channels of a tensor, and multiply what takes them in."""
        node = self._producer(name)
        weights, bias = node.input[1:3]
        across = _along(1 - _input_axis(node))
        self._values[weights] = self._values[weights] / factor[across]
        self._values[bias] = self._values[bias] / factor
        for taking, axis, part in self._consumers(name):
            where = tuple(part if i == axis else slice(None) for i in range(5))
            self._values[taking][where] *= factor[_along(axis)]

    def _steps(self, ranges: Mapping[str, Ends], layers: Set[str]) -> dict[str, tuple[float, int]]:
        """Return the step of each tensor that layers take in, and which of the 256 numbers is 0.

        Tensors that are joined share both, or an engine could not join them in 8 bits.
        """
        taken = [self._inputs[name] for name in self._inputs if name in layers]
        ends = {t: (min(ranges[t][0], 0.0), ranges[t][1]) for joined in taken for t in joined}
        for joined in taken:
            low, high = min(ends[t][0] for t in joined), max(ends[t][1] for t in joined)
            ends |= dict.fromkeys(joined, (low, high))
        steps = {name: (high - low) / _MOST for name, (low, high) in ends.items()}
        return {name: (step, round(-ends[name][0] / step)) for name, step in steps.items()}

    def _add_weights(
        self, node: onnx.NodeProto, nodes: list[onnx.NodeProto], stored: list[onnx.TensorProto]
    ) -> str:
        """Store the weights of a layer in 8 bits, and return the name of what is read of them."""
        name, axis = node.input[1], 1 - _input_axis(node)
        values = self._values[name]
        others = tuple(i for i in range(5) if i != axis)
        scale = np.maximum(np.abs(values).max(axis=others), _LEAST * _LEAST) / _LARGEST
        steps = values / scale[_along(axis)]
        whole = keep_sums(steps) if node.op_type == "Conv" else np.rint(steps)
        whole = np.clip(whole, -_LARGEST, _LARGEST).astype(np.int8)
        for suffix, array in (
            ("int8", whole),
            ("scale", scale.astype(np.float32)),
            ("zero", np.zeros(len(scale), dtype=np.int8)),
        ):
            stored.append(numpy_helper.from_array(array, f"{name}_{suffix}"))
        parts = [f"{name}_{suffix}" for suffix in ("int8", "scale", "zero")]
        read = f"{name}_read"
        nodes.append(helper.make_node("DequantizeLinear", parts, [read], name=read, axis=axis))
        return read


def keep_sums(kernels: Array) -> Array:
    """Round kernels to whole numbers so that their sums are kept.

    Tissue changes little over the 3 voxels of a kernel, so the sum of what rounding takes counts
    more than its parts. As few weights as it takes, those that were rounded furthest, are rounded
    the other way: first in each kernel, so that its sum is off by half at most, then of the kernels
    of an output channel, one weight each, so that their sum is (SQuant, Guo et al., ICLR 2022).

    Parameters
    ----------
    kernels : ndarray of float32, shape (outputs, inputs, z, y, x)

    Returns
    -------
    ndarray of float32, shape (outputs, inputs, z, y, x)
    """
    outputs, inputs = kernels.shape[:2]
    steps = kernels.reshape(outputs * inputs, -1)
    whole = np.rint(steps)
    error = whole - steps
    whole = _turned(whole, error, np.rint(error.sum(axis=1, keepdims=True)))
    left = (whole - steps).sum(axis=1).reshape(outputs, inputs)
    none = np.zeros_like(left)
    one_each = -_turned(none, left, np.rint(left.sum(axis=1, keepdims=True)))
    turned: Array = _turned(whole, whole - steps, one_each.reshape(-1, 1))
    return turned.reshape(kernels.shape)


def _turned(whole: Array, error: Array, surplus: Array) -> Array:
    """Move by one, in each row, as many numbers as its surplus has, those with most of its sign."""
    sign = np.sign(surplus)
    rank = np.argsort(np.argsort(-error * sign, axis=1, kind="stable"), axis=1, kind="stable")
    turned: Array = whole - sign * (rank < np.abs(surplus))
    return turned


def rounded(numbers: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Round to 8 significant bits, so that the last bits of a measurement do not show in a file."""
    mantissa, exponent = np.frexp(np.asarray(numbers, dtype=np.float64))
    values = np.ldexp(np.rint(mantissa * _SIGNIFICANT) / _SIGNIFICANT, exponent)
    return np.asarray(values, dtype=np.float64)


def _add_rounding(
    name: str,
    step: float,
    zero: int,
    nodes: list[onnx.NodeProto],
    stored: list[onnx.TensorProto],
) -> None:
    stored.append(numpy_helper.from_array(np.array(step, dtype=np.float32), f"{name}_scale"))
    stored.append(numpy_helper.from_array(np.array(zero, dtype=np.uint8), f"{name}_zero"))
    terms = [f"{name}_scale", f"{name}_zero"]
    for operator, inside, outside in (
        ("QuantizeLinear", name, f"{name}_uint8"),
        ("DequantizeLinear", f"{name}_uint8", f"{name}_rounded"),
    ):
        nodes.append(helper.make_node(operator, [inside, *terms], [outside], name=outside))


def _is_quantised(node: onnx.NodeProto) -> bool:
    if node.op_type not in _CONVOLUTIONS:
        return False
    return node.input[1].startswith(_BODY) and not node.input[1].startswith(FIRST)


def _input_axis(node: onnx.NodeProto) -> int:
    """Axis of the input channels; that of the output channels is the other of the first two."""
    return 1 if node.op_type == "Conv" else 0


def _along(axis: int) -> tuple[slice | None, ...]:
    """Index that lays a vector along one of five axes."""
    return tuple(slice(None) if i == axis else None for i in range(5))


def _copy(message: Message) -> Message:
    """Copy a part of a message, so that it outlives its place there."""
    copy = type(message)()
    copy.CopyFrom(message)
    return copy
