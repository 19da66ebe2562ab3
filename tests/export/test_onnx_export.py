"""From a run to the ONNX file: the same weights give the same bytes, other weights do not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from torch.optim.swa_utils import AveragedModel

from dlild_export.onnx_export import export_run, sha256
from dlild_export.train import TrainConfig
from dlild_export.unet import UNet, UNetConfig

SMALL = UNetConfig(channels=(4, 8))


def write_checkpoint(run: Path, seed: int) -> Path:
    """Write what a training writes, with untrained weights."""
    torch.manual_seed(seed)
    run.mkdir(parents=True, exist_ok=True)
    average = AveragedModel(UNet(SMALL).eval())
    config = asdict(TrainConfig(network=SMALL))
    torch.save({"config": config, "average": average.state_dict()}, run / "checkpoint.pt")
    return run


def test_the_same_weights_give_the_same_bytes_in_every_process(tmp_path: Path) -> None:
    here, there = (write_checkpoint(tmp_path / name, 1) for name in ("here", "there"))
    code = "import sys, pathlib; from dlild_export.onnx_export import export_run as e; "
    code += "e(pathlib.Path(sys.argv[1]))"
    environment = os.environ | {"PYTHONHASHSEED": "7"}
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, str(there)], env=environment, check=True
    )

    weights = export_run(here)

    assert weights.read_bytes() == (there / "model.onnx").read_bytes()
    assert str(Path(__file__).parents[2]).encode() not in weights.read_bytes()


def test_a_run_is_exported_once(tmp_path: Path) -> None:
    run = write_checkpoint(tmp_path / "run", 1)
    weights = export_run(run)
    written = weights.stat().st_mtime_ns

    assert weights == run / "model.onnx"
    assert export_run(run / "checkpoint.pt") == weights
    assert weights.stat().st_mtime_ns == written


def test_new_weights_calibration_or_damage_are_exported_anew(tmp_path: Path) -> None:
    run = write_checkpoint(tmp_path / "run", 1)
    first = sha256(export_run(run))

    (run / "calibration.json").write_text(json.dumps({"lesion_bias": 0.4}))
    calibrated = sha256(export_run(run))
    (run / "calibration.json").unlink()
    (run / "model.onnx").write_bytes(b"damaged")
    mended = sha256(export_run(run))
    other = sha256(export_run(write_checkpoint(run, 2)))

    assert mended == first
    assert len({first, calibrated, other}) == 3


def test_no_checkpoint_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no checkpoint here; give a folder"):
        export_run(tmp_path)
