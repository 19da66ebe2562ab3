"""A run of untrained weights, as small as a U-Net can be, exported once for all tests."""

from __future__ import annotations

import tempfile
from dataclasses import asdict
from functools import cache
from pathlib import Path

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from dlild_export.onnx_export import export_run
from dlild_export.train import TrainConfig
from dlild_export.unet import UNet, UNetConfig

TINY = UNetConfig(channels=(4, 8, 8, 8))
"""Edges of a multiple of 8, as the contract has them."""


def write_run(run: Path, seed: int) -> Path:
    """Write what a training writes, with weights drawn at random."""
    torch.manual_seed(seed)
    network = UNet(TINY).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm3d):
            module.running_var.uniform_(0.05, 0.2)
            module.bias.data.uniform_(0.0, 0.5)
    run.mkdir(parents=True, exist_ok=True)
    config = asdict(TrainConfig(network=TINY))
    torch.save(
        {"step": 0, "config": config, "average": AveragedModel(network).state_dict()},
        run / "checkpoint.pt",
    )
    return run


@cache
def tiny_run(seed: int = 1) -> Path:
    """Return a run that is exported already; tests must not change it."""
    run = write_run(Path(tempfile.mkdtemp(prefix="dlild-tiny-")) / "run", seed)
    export_run(run)
    return run
