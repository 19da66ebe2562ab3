"""The parity gate: what it measures, what it lets pass, and what every engine really computes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from export.tiny import coarse_scan, tiny_run, write_run
from onnx import numpy_helper
from typer.testing import CliRunner

from dlild_client.contract import Contract, parse_contract
from dlild_client.contract.precision import cpu_flags
from dlild_client.volume import Volume
from dlild_export.cli import app
from dlild_export.phantom.cases import measured_name
from dlild_export.serving.engines import (
    Engine,
    engines_of,
    openvino_avx2_engine,
    openvino_engine,
    torch_engine,
)
from dlild_export.serving.onnx import run_network
from dlild_export.serving.parity import DEFAULT_MEASURED, gather_scans, measure_parity
from dlild_export.training.loop import load_network


@pytest.fixture(scope="module")
def contract(repository: Path) -> Contract:
    return parse_contract((repository / "contract.json").read_text("utf-8"))


@pytest.fixture(scope="module")
def scans() -> dict[str, Volume]:
    return {"coarse": coarse_scan()}


def by_hu(lesion_hu: float, precision: str = "x") -> Engine:
    """Return an engine that calls air outside, and lung denser than `lesion_hu` ground-glass."""

    def run(window: np.ndarray) -> np.ndarray:
        labels = np.where(window < -1000, 0, np.where(window < lesion_hu, 1, 2))
        return (np.arange(6)[:, None, None, None] == labels[0]).astype(np.float16)[None]

    return Engine("by-hu", precision, lambda: run)


def test_engines_that_agree_pass(contract, scans) -> None:
    figures = measure_parity([by_hu(-500), by_hu(-500)], scans, contract, "d" * 64)

    reference, other = figures.rows
    assert figures.passes
    assert figures.failures() == []
    assert 0 < reference.dl_ild_percent < 100
    assert (other.difference, other.labels_differ_percent) == (0.0, 0.0)
    assert other.seconds > 0


def test_an_engine_that_differs_is_named_with_its_figures(contract, scans) -> None:
    figures = measure_parity([by_hu(-500), by_hu(-300, "worse")], scans, contract, "d" * 64)

    row = figures.rows[1]
    assert not figures.passes
    assert row.difference < -0.1
    assert row.labels_differ_percent > 0
    (failure,) = figures.failures()
    assert failure.startswith("by-hu worse on coarse: DL-ILD ")
    assert f"differs by {row.difference:+.2f} points, at most 0.05 pass" in failure


def test_no_lung_and_no_scan_do_not_pass(contract, scans) -> None:
    blind = by_hu(-500)
    background = np.eye(6, dtype=np.float16)[0][None, :, None, None, None]
    nothing = Engine(
        "blind", "x", lambda: lambda w: np.broadcast_to(background, (1, 6, *w.shape[2:]))
    )

    figures = measure_parity([blind, nothing], scans, contract, "d" * 64)

    assert not figures.passes
    assert "DL-ILD nan" in figures.failures()[0]
    assert json.loads(figures.to_json())["rows"][1]["dl_ild_percent"] is None
    assert not measure_parity([blind], {}, contract, "d" * 64).passes


def _changed_at(hu: float, change: Callable[[np.ndarray], object]) -> Engine:
    """Return `by_hu(-500)` with a change to its output wherever a window is filled with `hu`."""
    plain = by_hu(-500).load()

    def run(window: np.ndarray) -> np.ndarray:
        probabilities = plain(window)
        if (window == hu).all():
            change(probabilities)
        return probabilities

    return Engine("changed", "x", lambda: run)


@pytest.mark.parametrize(("window", "hu"), [("air", -1024.0), ("soft tissue", 40.0)])
def test_what_is_no_number_in_a_window_of_one_value_does_not_pass(
    contract, scans, window: str, hu: float
) -> None:
    divides_by_zero = _changed_at(hu, lambda p: p[:, 2:, :1].fill(np.nan))

    figures = measure_parity([by_hu(-500), divides_by_zero], scans, contract, "d" * 64)

    assert not figures.passes
    assert figures.failures() == [
        f"changed x on a window of {window}: some probabilities are not numbers"
    ]
    stored = json.loads(figures.to_json())
    assert [row["passes"] for row in stored["constant"]].count(False) == 1


def test_another_probability_in_a_window_of_one_value_does_not_pass(contract, scans) -> None:
    def lungs(probabilities: np.ndarray) -> None:
        probabilities[:, 0], probabilities[:, 1] = 0.5, 0.5

    figures = measure_parity([by_hu(-500), _changed_at(-1024.0, lungs)], scans, contract, "d" * 64)

    assert figures.failures() == [
        "changed x on a window of air: a probability differs by 0.500, at most 0.1 pass"
    ]
    assert "Windows of air and soft tissue: probabilities differ by 0.5000" in figures.to_markdown()


def test_what_is_no_number_anywhere_in_a_scan_does_not_pass(contract, scans) -> None:
    plain = by_hu(-500).load()

    def run(window: np.ndarray) -> np.ndarray:
        probabilities = plain(window)
        # Outside the lungs, where no label shows it.
        probabilities[0][:, (window[0, 0] < -1000)] = np.nan
        return probabilities

    figures = measure_parity(
        [by_hu(-500), Engine("holes", "x", lambda: run)], scans, contract, "d" * 64
    )

    assert "holes x on coarse: some probabilities are not numbers" in figures.failures()


def test_the_tables_say_what_was_measured(contract, scans) -> None:
    figures = measure_parity([by_hu(-500), by_hu(-300, "worse")], scans, contract, "d" * 64)

    stored = json.loads(figures.to_json())
    table = figures.to_markdown()

    assert stored["weights_sha256"] == "d" * 64
    assert (stored["passes"], stored["limit_points"]) == (False, 0.05)
    assert [row["passes"] for row in stored["rows"]] == [True, False]
    for row in figures.rows:
        assert f"| {row.engine} {row.precision} | {row.dl_ild_percent:.2f} |" in table


def test_every_engine_computes_what_torch_does() -> None:
    weights, engines = engines_of(tiny_run())
    assert weights == tiny_run() / "model.onnx"
    names = [(engine.name, engine.precision) for engine in engines]
    fp32 = [("torch", "fp32"), ("onnxruntime", "fp32"), ("openvino", "fp32")]
    assert names[:3] == fp32
    rng = np.random.default_rng(0)
    # Other shapes than the export's, and more windows than one where an engine takes them.
    for shape in ((1, 1, 16, 24, 32), (1, 1, 8, 8, 16), (3, 1, 8, 8, 16)):
        window = rng.uniform(-1024, 400, shape).astype(np.float16)
        expected = engines[0].load()(window).astype(np.float32)
        assert expected.std() > 0.01
        np.testing.assert_allclose(expected.sum(axis=1), 1, atol=5e-3)
        for engine in engines[1:]:
            if engine.name == "openvino" and shape[0] > 1:
                continue
            tolerance = 5e-3 if engine.precision == "fp32" else 0.1
            probabilities = engine.load()(window)
            assert probabilities.dtype == np.float16
            np.testing.assert_allclose(probabilities, expected, atol=tolerance)


def test_other_weights_do_not_compute_the_same(tmp_path: Path) -> None:
    other = torch_engine(run_network(write_run(tmp_path / "run", 2)))
    window = np.random.default_rng(0).uniform(-1024, 400, (1, 1, 16, 16, 16)).astype(np.float16)
    run: Callable[[np.ndarray], np.ndarray] = engines_of(tiny_run())[1][1].load()

    assert np.abs(run(window).astype(float) - other.load()(window)).max() > 0.05


def test_the_calibration_is_in_every_engine(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", 1)
    before = run_network(run).head.bias.detach().clone()
    (run / "calibration.json").write_text('{"class_biases": [0, 0, 0.5, 0.5, 0.5, 0.5]}')

    difference = run_network(run).head.bias.detach() - before

    expected = torch.tensor([0.0, 0.0, 0.5, 0.5, 0.5, 0.5])
    torch.testing.assert_close(difference, expected, atol=0.01, rtol=0)


def test_every_weight_of_the_file_is_exact_in_bf16_and_the_network_stays_what_it_was() -> None:
    graph = onnx.load(tiny_run() / "model.onnx").graph
    convolutions = [n for n in graph.node if n.op_type in {"Conv", "ConvTranspose"}]
    names = {name for node in convolutions for name in node.input[1:]}
    weights = [numpy_helper.to_array(i) for i in graph.initializer if i.name in names]
    assert len(weights) == 2 * len(convolutions)
    for values in weights:
        rounded = torch.from_numpy(values.copy()).to(torch.bfloat16).float().numpy()
        np.testing.assert_array_equal(values, rounded)

    window = np.random.default_rng(0).uniform(-1024, 400, (1, 1, 16, 16, 16)).astype(np.float16)
    trained = torch_engine(load_network(tiny_run() / "checkpoint.pt")).load()(window)
    exported = torch_engine(run_network(tiny_run())).load()(window)
    np.testing.assert_allclose(exported.astype(float), trained.astype(float), atol=0.03)
    assert trained.astype(float).std() > 0.05


def test_bf16_is_called_native_only_where_the_cpu_has_it(tmp_path: Path) -> None:
    cpu = tmp_path / "cpuinfo"
    cpu.write_text("model name\t: Some\nflags\t\t: fpu avx512_bf16 sse\n")

    assert {"avx512_bf16", "sse"} <= cpu_flags(cpu)
    assert cpu_flags(tmp_path / "none") == frozenset()


def test_the_command_ends_with_one_line_where_there_are_no_weights(tmp_path: Path) -> None:
    for wrong in (tmp_path, tmp_path / "model.onnx"):
        result = CliRunner().invoke(
            app, ["parity", str(wrong), "--contract", "model_repository/contract.json"]
        )
        assert result.exit_code == 3
        assert result.stderr.startswith("error: ")
        assert result.stderr.count("\n") == 1


def test_the_released_network_is_right_with_the_kernels_for_avx2(weights: Path) -> None:
    rng = np.random.default_rng(5)
    window = rng.normal(-850, 60, (1, 1, 64, 64, 64))
    window[..., 24:40] += 350
    window[..., :8] = -1000
    window = window.astype(np.float16)
    expected = openvino_engine(weights, "fp32").load()(window)
    found = openvino_avx2_engine(weights).load()(window)
    np.testing.assert_allclose(found, expected, atol=0.01)


@pytest.mark.slow
def test_the_parity_gate_has_a_phantom_of_measured_texture(contract) -> None:
    scans = gather_scans([], [], contract, DEFAULT_MEASURED)
    (grid,) = scans.values()
    assert list(scans) == [measured_name(seed) for seed in DEFAULT_MEASURED]
    assert grid.spacing_mm == contract.grid.spacing_mm
    assert grid.array.min() < -800
