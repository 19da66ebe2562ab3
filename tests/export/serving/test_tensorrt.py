"""TensorRT: what it is asked in 10 and 11, the gate, and the one line where there is none."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from export.fake_tensorrt import FakeDevice, fake_tensorrt
from export.tiny import coarse_scan, tiny_run
from typer.testing import CliRunner

from dlild_export.cli import app
from dlild_export.data.contracts import read_contract
from dlild_export.serving.fp16 import to_half
from dlild_export.serving.tensorrt import (
    ParityError,
    Profile,
    TensorRtError,
    build_plan,
    build_version,
    load_tensorrt,
)

VERSIONS = ("10.8.0.43", "11.2.1.7")


@pytest.fixture(scope="module")
def half() -> bytes:
    return to_half(onnx.load(tiny_run() / "model.onnx")).SerializeToString()


def test_the_profile_is_that_of_the_contract(repository: Path) -> None:
    profile = Profile.of(read_contract(repository).windows)

    assert profile == Profile((1, 1, 64, 64, 64), (1, 1, 160, 160, 160), (1, 1, 192, 192, 224))


@pytest.mark.parametrize(("version", "flags"), [(VERSIONS[0], 2), (VERSIONS[1], 0)])
def test_the_network_is_strongly_typed_and_nothing_that_is_gone_is_asked(
    version, flags, half, repository, tmp_path
) -> None:
    trt = fake_tensorrt(version, FakeDevice())
    profile, cache = Profile.of(read_contract(repository).windows), tmp_path / "timings"

    plan = build_plan(trt, half, profile, cache)

    assert plan == half
    assert trt.asked["flags"] == flags
    assert trt.asked["profiles"] == [("window", profile.least, profile.best, profile.most)]


def test_timings_of_one_build_serve_the_next(half, repository, tmp_path) -> None:
    profile, cache = Profile.of(read_contract(repository).windows), tmp_path / "timings"
    first, second = (fake_tensorrt(VERSIONS[1], FakeDevice()) for _ in range(2))

    build_plan(first, half, profile, cache)
    build_plan(second, half, profile, cache)

    assert first.asked["cache_read"] == b""
    assert second.asked["cache_read"] == b"+timed"
    assert cache.read_bytes() == b"+timed+timed"


def test_what_tensorrt_says_is_in_the_error(half, repository, tmp_path) -> None:
    profile = Profile.of(read_contract(repository).windows)
    refusing = fake_tensorrt(VERSIONS[0], FakeDevice(), parses=False)
    failing = fake_tensorrt(VERSIONS[0], FakeDevice(), builds=False)

    with pytest.raises(TensorRtError, match="does not take the network: operator not known"):
        build_plan(refusing, half, profile, tmp_path / "timings")
    with pytest.raises(TensorRtError, match="built no plan"):
        build_plan(failing, half, profile, tmp_path / "timings")
    assert not (tmp_path / "timings").exists()


@pytest.mark.parametrize("version", VERSIONS)
def test_a_plan_that_passes_the_gate_is_put_in_place(version, tiny) -> None:
    with FakeDevice() as device:
        trt = fake_tensorrt(version, device)
        built, parity = build_version(trt, device, tiny, 1, {"coarse": coarse_scan()}, print)

    folder = tiny / "ild_unet" / "1"
    assert [(row.engine, row.precision) for row in parity.rows] == [
        ("onnxruntime", "fp32"),
        ("tensorrt", "fp16"),
    ]
    record = json.loads((folder / "model.plan.json").read_text())
    assert (folder / "model.plan").stat().st_size == built.plan_bytes == record["plan_bytes"]
    assert (record["tensorrt"], record["version"]) == (version, 1)
    assert record["weights_sha256"] == read_contract(tiny).model.weights_sha256
    assert record["parity"]["passes"] is True


def test_a_plan_that_scores_otherwise_is_not_kept(tiny) -> None:
    with FakeDevice() as device:
        trt = fake_tensorrt(VERSIONS[1], device)
        # Lung without lesion everywhere.
        trt.asked["spoil"] = lambda p: (
            np.ones_like(p) * (np.arange(p.shape[1]) == 1).reshape(1, -1, 1, 1, 1).astype(p.dtype)
        )
        with pytest.raises(ParityError, match=r"tensorrt fp16 on coarse: DL-ILD .* differs by"):
            build_version(trt, device, tiny, 1, {"coarse": coarse_scan()}, print)

    assert sorted(p.name for p in (tiny / "ild_unet" / "1").iterdir()) == ["model.onnx", "model.py"]


def test_without_tensorrt_the_command_says_so_in_one_line(tiny, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    result = CliRunner().invoke(app, ["tensorrt", str(tiny)])

    assert result.exit_code == 2
    assert result.stderr.startswith("error: TensorRT's Python module is not here")
    assert result.stderr.count("\n") == 1


def test_without_a_gpu_the_command_says_so_in_one_line(tiny, monkeypatch) -> None:
    monkeypatch.setattr("dlild_export.serving.cuda._DRIVER", "libcuda-that-is-not-here.so")
    monkeypatch.setitem(sys.modules, "tensorrt", fake_tensorrt(VERSIONS[0], FakeDevice()))
    result = CliRunner().invoke(app, ["tensorrt", str(tiny)])

    assert result.exit_code == 2
    assert result.stderr.startswith("error: no GPU here: the NVIDIA driver")
    assert result.stderr.count("\n") == 1


def test_another_tensorrt_is_refused(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", fake_tensorrt("8.6.1", FakeDevice()))
    with pytest.raises(TensorRtError, match=r"TensorRT is 8\.6\.1; 10\.x and 11\.x are known here"):
        load_tensorrt()


@pytest.fixture
def with_fake(monkeypatch):
    """Put a fake TensorRT and a fake GPU in place of the real ones."""
    device = FakeDevice()
    trt = fake_tensorrt(VERSIONS[0], device)
    monkeypatch.setitem(sys.modules, "tensorrt", trt)
    monkeypatch.setattr("dlild_export.serving.cuda.Device", lambda: device)
    monkeypatch.setattr(
        "dlild_export.serving.parity.gather_scans", lambda *_: {"coarse": coarse_scan()}
    )
    return trt


def test_the_command_reports_time_size_and_parity(tiny, with_fake) -> None:
    result = CliRunner().invoke(app, ["tensorrt", str(tiny)])

    assert result.exit_code == 0, result.output
    assert "| coarse | tensorrt fp16, no GPU at all |" in result.stdout
    assert "model.plan: " in result.stdout
    assert "TensorRT 10.8.0.43, no GPU at all" in result.stdout


def test_weights_that_are_not_the_released_ones_are_refused(tiny, with_fake) -> None:
    with (tiny / "ild_unet" / "1" / "model.onnx").open("ab") as file:
        file.write(b"\0")

    result = CliRunner().invoke(app, ["tensorrt", str(tiny)])
    unknown = CliRunner().invoke(app, ["tensorrt", str(tiny), "--version", "7"])

    assert (result.exit_code, unknown.exit_code) == (3, 3)
    assert "restore the file that was released" in result.stderr
    assert "version 7 was never released, only 1" in unknown.stderr


@pytest.mark.gpu
def test_the_real_tensorrt_builds_a_plan_that_passes_the_gate(tiny) -> None:
    pytest.importorskip("tensorrt", reason="TensorRT's Python module is not installed")
    result = CliRunner().invoke(app, ["tensorrt", str(tiny)])

    assert result.exit_code == 0, result.output
    record = json.loads((tiny / "ild_unet" / "1" / "model.plan.json").read_text())
    assert record["parity"]["passes"] is True
