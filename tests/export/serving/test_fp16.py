"""The strongly typed FP16 network: what is FP16, and that it still computes the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from export.tiny import coarse_scan, tiny_run
from onnx import TensorProto, numpy_helper

from dlild_export.serving.engines import onnxruntime_engine
from dlild_export.serving.fp16 import HALF_OPERATORS, HalfError, to_half

SEEING = {"Clip", "Sub", "Div", "Softmax"}
LEVEL = {
    "Add", "And", "AveragePool", "Greater", "Less", "Max", "Min", "Mul", "Neg", "Pad", "Resize",
    "Slice",
}  # fmt: skip
LEVEL_WITHOUT_CHANNELS = LEVEL - {"Slice"} | {"Gather", "Unsqueeze"}
"""Of versions that carry metadata: the density is computed without an axis of one channel."""
EVIDENCE = {"Log", "Sigmoid", "Slice"}
"""Of version 7: the evidence for lesions is averaged over neighbouring lung, on cubes."""


@pytest.fixture(scope="module", params=["untrained", "released"])
def served_path(request: pytest.FixtureRequest, weights: Path) -> Path:
    """A network that is not told the level of the lung, and the released one, which is."""
    return weights if request.param == "released" else tiny_run() / "model.onnx"


@pytest.fixture(scope="module")
def served(served_path: Path) -> onnx.ModelProto:
    return onnx.load(served_path)


@pytest.fixture(scope="module")
def half(served) -> onnx.ModelProto:
    return to_half(served)


def test_every_tensor_has_the_type_that_its_operator_wants(half, served_path, weights) -> None:
    typed = onnx.shape_inference.infer_shapes(half, strict_mode=True, data_prop=True).graph
    types = {value.name: value.type.tensor_type.elem_type for value in typed.value_info}
    types |= {
        value.name: value.type.tensor_type.elem_type for value in (*typed.input, *typed.output)
    }
    types |= {tensor.name: tensor.data_type for tensor in typed.initializer}
    met = set()
    for node in typed.node:
        if node.op_type == "Cast":
            continue
        wanted = TensorProto.FLOAT16 if node.op_type in HALF_OPERATORS else TensorProto.FLOAT
        names = [name for name in (*node.input, *node.output) if name]
        floats = {types[name] for name in names} - {
            TensorProto.BOOL,
            TensorProto.INT32,
            TensorProto.INT64,
        }
        assert floats <= {wanted}, node.name
        met.add(node.op_type)
    level = LEVEL_WITHOUT_CHANNELS | EVIDENCE if half.metadata_props else LEVEL
    assert met == HALF_OPERATORS | SEEING | (level if served_path == weights else set())


def test_inputs_and_outputs_stay_and_the_file_halves(served, half) -> None:
    assert half.graph.input == served.graph.input
    assert half.graph.output == served.graph.output
    assert half.ByteSize() < 0.7 * served.ByteSize()
    assert served.graph.initializer[0].data_type == TensorProto.FLOAT


def test_it_computes_what_the_network_does(served_path, half, tmp_path) -> None:
    onnx.save(half, tmp_path / "half.onnx")
    chest = coarse_scan().array[:64, :64, :64].astype(np.float16)[None, None]

    expected = onnxruntime_engine(served_path).load()(chest).astype(np.float32)
    probabilities = onnxruntime_engine(tmp_path / "half.onnx").load()(chest)

    assert probabilities.dtype == np.float16
    np.testing.assert_allclose(probabilities, expected, atol=0.02)
    assert expected.std() > 0.01


def test_weights_beyond_fp16_are_refused(served) -> None:
    spoilt = onnx.ModelProto()
    spoilt.CopyFrom(served)
    tensor = spoilt.graph.initializer[0]
    name = next(node.input[1] for node in spoilt.graph.node if node.op_type == "Conv")
    tensor = next(t for t in spoilt.graph.initializer if t.name == name)
    values = numpy_helper.to_array(tensor).copy()
    values.flat[0] = 70000
    tensor.CopyFrom(numpy_helper.from_array(values, name))

    with pytest.raises(HalfError, match=r"reach 7e\+04, FP16 ends at 65504"):
        to_half(spoilt)
