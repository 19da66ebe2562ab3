"""The parts that the network runs in: which there are, in which precision, and that they add up."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import openvino as ov
import pytest
from export.tiny import tiny_run
from onnx import TensorProto, helper

from dlild_client.contract.precision import choose_precision, cpu_flags
from dlild_export.serving.engines import openvino_engine, openvino_request
from dlild_export.serving.stages import (
    CONVOLUTIONS,
    StagedNetwork,
    compile_cpu,
    of_one_window,
    split,
)
from engine import Engine

IN_BF16 = choose_precision(cpu_flags()) == "bf16"
SHAPES = ((1, 1, 32, 40, 32), (1, 1, 48, 32, 64), (1, 1, 32, 40, 32))


@pytest.fixture(scope="module", params=["untrained", "released"])
def network(request: pytest.FixtureRequest, weights: Path) -> Path:
    """Without the lung's density, and with it."""
    return weights if request.param == "released" else tiny_run() / "model.onnx"


def window(shape: tuple[int, ...]) -> np.ndarray:
    hu = np.random.default_rng(1).normal(-870, 60, shape)
    hu[..., shape[-1] // 2 :] += 250
    return hu.astype(np.float16)


def run(stages: list, hu: np.ndarray) -> np.ndarray:
    tensor = ov.Tensor(hu)
    for stage in stages:
        stage.set_input_tensor(tensor)
        stage.infer()
        tensor = stage.get_output_tensor()
    return np.array(tensor.data)


def test_the_u_net_alone_is_in_bf16(network: Path) -> None:
    stages = list(split(ov.Core().read_model(str(network)), "bf16"))

    assert [precision for _, precision in stages] == ["f32", "bf16", "f32"]
    counts = [sum(op.get_type_name() in CONVOLUTIONS for op in m.get_ops()) for m, _ in stages]
    assert counts == [0, 18, 0]
    assert not {"Softmax", "Log", "Interpolate"} & {
        op.get_type_name() for op in stages[1][0].get_ops()
    }


def test_in_fp32_and_without_convolutions_it_is_one_part(network: Path) -> None:
    model = ov.Core().read_model(str(network))
    assert list(split(model, "f32")) == [(model, "f32")]
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT16, [1])
        for name in ("window", "probabilities")
    ]
    node = helper.make_node("Relu", ["window"], ["probabilities"])
    graph = helper.make_model(helper.make_graph([node], "none", ends[:1], ends[1:]))
    other = ov.Core().read_model(graph.SerializeToString())
    assert list(split(other, "bf16")) == [(other, "bf16")]


def test_the_parts_compute_what_the_whole_does_whatever_the_shapes_before(network: Path) -> None:
    core = ov.Core()
    whole = openvino_request(network.read_bytes())
    parts = split(core.read_model(str(network)), "bf16")
    stages = [compile_cpu(core, model, "f32", 2) for model, _ in parts]
    for shape in SHAPES:
        hu = window(shape)
        expected = whole.infer({"window": hu})["probabilities"]
        np.testing.assert_array_equal(run(stages, hu), expected)


def test_a_network_of_one_window_computes_the_bits_of_one_of_any_number(network: Path) -> None:
    whole = openvino_request(network.read_bytes())
    one = StagedNetwork(network, "f32", 2)
    for shape in SHAPES:
        hu = window(shape)
        np.testing.assert_array_equal(one.infer(hu), whole.infer({"window": hu})["probabilities"])


def test_all_but_the_number_of_windows_stays_as_it_is(network: Path) -> None:
    model = ov.Core().read_model(str(network))
    of_one_window(model)
    assert str(model.input(0).get_partial_shape()).startswith("[1,1,")
    assert model.input(0).get_partial_shape().is_dynamic
    assert str(model.output(0).get_partial_shape()[0]) == "1"


@pytest.mark.skipif(not IN_BF16, reason="this CPU has no bf16")
def test_bf16_of_the_u_net_moves_probabilities_little(network: Path) -> None:
    hu = window((1, 1, 64, 64, 64))
    expected = StagedNetwork(network, "f32", 2).infer(hu)
    found = StagedNetwork(network, "bf16", 2).infer(hu)
    assert found.shape == (1, 6, 64, 64, 64)
    assert 0 < np.abs(found.astype(np.float32) - expected).mean() < 0.002


def test_server_and_gate_compute_the_same_bits(network: Path) -> None:
    engine = Engine(network)
    gate = openvino_engine(network, "fp32" if engine.precision == "f32" else engine.precision)
    load = gate.load()
    for shape in SHAPES:
        hu = window(shape)
        np.testing.assert_array_equal(engine.infer(hu), load(hu))


def test_an_answer_that_is_copied_outlives_the_next_call(network: Path) -> None:
    engine = Engine(network)
    first, second = window(SHAPES[0]), np.full(SHAPES[0], -300, np.float16)
    kept, shared = engine.infer(first), engine.infer(first, copy=False)
    expected = kept.copy()
    np.testing.assert_array_equal(shared, expected)
    engine.infer(second)
    np.testing.assert_array_equal(kept, expected)
