"""The network in FP16, as a strongly typed graph: every tensor's type stands in the file.

TensorRT 11 takes types from the graph and from nowhere else. What FP16 does well is computed in it
(convolutions and what lies between them); what needs range or precision stays in FP32 (the window
of HU and its normalisation, the softmax).
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

HALF_OPERATORS = frozenset({"Conv", "ConvTranspose", "Relu", "MaxPool", "Concat"})
LARGEST_HALF = 65504.0


class HalfError(RuntimeError):
    """A network that FP16 cannot hold."""


def to_half(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy of the served network with FP16 weights and activations.

    Parameters
    ----------
    model : onnx.ModelProto
        FP16 HU in, FP16 probabilities out, FP32 inside.

    Returns
    -------
    onnx.ModelProto
        The same inputs and outputs.

    Raises
    ------
    HalfError
        A weight is beyond the range of FP16.
    """
    half = onnx.ModelProto()
    half.CopyFrom(model)
    graph = half.graph
    in_half = _convert_weights(graph)
    in_half |= {name for node in graph.node if _is_half(node) for name in node.output}
    nodes: list[onnx.NodeProto] = []
    cast: dict[str, str] = {}
    for node in graph.node:
        half_node = _is_half(node)
        for index, name in enumerate(node.input):
            # A cast takes either type, and an input that is left out has none.
            if name and node.op_type != "Cast" and (name in in_half) != half_node:
                wanted = TensorProto.FLOAT16 if half_node else TensorProto.FLOAT
                node.input[index] = _casted(name, wanted, nodes, cast)
        nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)
    del graph.value_info[:]
    onnx.checker.check_model(half, full_check=True)
    return half


def _is_half(node: onnx.NodeProto) -> bool:
    return node.op_type in HALF_OPERATORS


def _convert_weights(graph: onnx.GraphProto) -> set[str]:
    used = {name for node in graph.node if _is_half(node) for name in node.input}
    converted = set()
    for index, initializer in enumerate(graph.initializer):
        if initializer.name not in used:
            continue
        values = numpy_helper.to_array(initializer)
        if not np.abs(values).max() <= LARGEST_HALF:
            raise HalfError(
                f"weights {initializer.name} reach {np.abs(values).max():.4g}, FP16 ends at "
                f"{LARGEST_HALF:.0f}: train with more weight decay, or serve another profile"
            )
        half = numpy_helper.from_array(values.astype(np.float16), initializer.name)
        graph.initializer[index].CopyFrom(half)
        converted.add(initializer.name)
    return converted


def _casted(name: str, wanted: int, nodes: list[onnx.NodeProto], cast: dict[str, str]) -> str:
    """Return the name of a tensor in the other type; its cast is made once."""
    if name not in cast:
        cast[name] = f"{name}_{'half' if wanted == TensorProto.FLOAT16 else 'float'}"
        node = helper.make_node("Cast", [name], [cast[name]], name=f"{cast[name]}_cast", to=wanted)
        nodes.append(node)
    return cast[name]
