"""From a run to the ONNX file: the same weights give the same bytes, other weights do not."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from export.tiny import tiny_run, write_run
from typer.testing import CliRunner

from dlild_export.cli import app
from dlild_export.data.digest import sha256
from dlild_export.serving.onnx import export_run


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Return a run that a test may change."""
    return shutil.copytree(tiny_run(), tmp_path / "run")


@pytest.mark.slow
def test_the_same_weights_give_the_same_bytes_in_every_process(tmp_path: Path) -> None:
    run = write_run(tmp_path / "elsewhere", 1)
    code = "import sys, pathlib; from dlild_export.serving.onnx import export_run as e; "
    code += "e(pathlib.Path(sys.argv[1]))"
    environment = os.environ | {"PYTHONHASHSEED": "7"}
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, str(run)], env=environment, check=True
    )

    written = (run / "model.onnx").read_bytes()

    assert written == (tiny_run() / "model.onnx").read_bytes()
    assert str(Path(__file__).parents[3]).encode() not in written


def test_a_run_is_exported_once(run: Path) -> None:
    before = (run / "model.onnx").stat().st_mtime_ns

    assert export_run(run) == run / "model.onnx"
    assert export_run(run / "checkpoint.pt") == run / "model.onnx"

    assert (run / "model.onnx").stat().st_mtime_ns == before


def test_a_damaged_file_and_a_new_calibration_are_exported_anew(run: Path) -> None:
    first = sha256(run / "model.onnx")

    (run / "model.onnx").write_bytes(b"damaged")
    mended = sha256(export_run(run))
    (run / "calibration.json").write_text(json.dumps({"class_biases": [0, 0, 0.4, 0, 0, 0]}))
    calibrated = sha256(export_run(run))

    assert mended == first
    assert calibrated != first


def test_the_command_calibrates_and_exports(run: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    hu = rng.integers(-1000, 100, (24, 24, 24)).astype(np.int16)
    # The tiny network calls hardly anything lesion, so that a bias is called for.
    labels = np.full(hu.shape, 2, np.uint8)
    labels[:4] = 255
    np.savez(tmp_path / "000001.npz", hu=hu, labels=labels)

    result = CliRunner().invoke(
        app, ["onnx", str(run), "--calibrate", str(tmp_path), "--count", "1"]
    )

    assert result.exit_code == 0, result.output
    stored = json.loads((run / "calibration.json").read_text())
    digest = sha256(run / "model.onnx")
    assert stored["cases"] == 1
    assert f"class biases {', '.join(map(str, stored['class_biases']))}" in result.stdout
    assert stored["class_biases"][2] > 0
    assert f"sha256 {digest}" in result.stdout
    record = json.loads((run / "model.json").read_text())
    assert (record["class_biases"], record["weights_sha256"]) == (stored["class_biases"], digest)


def test_no_cases_and_no_run_end_in_one_line(run: Path, tmp_path: Path) -> None:
    for arguments, said in (
        ([str(run), "--calibrate", str(tmp_path)], "no cases (*.npz)"),
        ([str(tmp_path)], "no checkpoint here"),
    ):
        result = CliRunner().invoke(app, ["onnx", *arguments])
        assert result.exit_code == 3
        assert said in result.stderr
        assert result.stderr.count("\n") == 1


def test_no_checkpoint_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no checkpoint here; give a folder"):
        export_run(tmp_path)
