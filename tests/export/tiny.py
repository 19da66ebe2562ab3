"""A run of untrained weights, as small as a U-Net can be, exported once for all tests."""

from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import asdict
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from dlild_client.contract import Release, Releases
from dlild_client.contract.schema import LARGEST_CLASS
from dlild_client.volume import Volume
from dlild_export.data.digest import sha256
from dlild_export.phantom import Pattern, PhantomSpec, make_phantom
from dlild_export.serving.configs import write_configs
from dlild_export.serving.onnx import export_run
from dlild_export.training.loop import TrainConfig
from dlild_export.training.unet import UNet, UNetConfig

TINY = UNetConfig(
    channels=(4, 8, 8, 8),
    centre_hu=-374.0,
    unit_hu=650.0,
    lung_density=False,
    relative_hu=False,
)
"""Edges of a multiple of 8, as the contract has them. Of what these random weights make of other
inputs, scores lie too close together to tell scans apart by them."""


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


def write_repository(folder: Path, repository: Path) -> Path:
    """Copy the model repository, with the tiny run's weights as its only version.

    Voxels are labelled by their largest class: of random weights the lesion classes together are
    the largest almost everywhere, and every scan would score 100 %.
    """
    shutil.copytree(repository, folder, ignore=shutil.ignore_patterns("*.onnx", "__pycache__"))
    served = str(json.loads((folder / "contract.json").read_text("utf-8"))["model"]["version"])
    for version in [p for p in folder.glob("*/*") if p.name.isdecimal()]:
        if version.name == served:
            version.rename(version.with_name("1"))
        else:
            shutil.rmtree(version)
    weights = folder / "ild_unet" / "1" / "model.onnx"
    shutil.copy(tiny_run() / "model.onnx", weights)
    contract = json.loads((folder / "contract.json").read_text("utf-8"))
    digest = sha256(weights)
    contract["model"] |= {"version": 1, "weights_sha256": digest}
    contract["score"] |= {"labels": LARGEST_CLASS, "repeatability": None}
    (folder / "contract.json").write_text(json.dumps(contract, indent=2), "utf-8")
    releases = Releases((1,), {1: Release(digest, labels=LARGEST_CLASS)})
    (folder / "releases.json").write_text(releases.to_json(), "utf-8")
    write_configs(folder)
    return folder


@cache
def coarse_scan() -> Volume:
    """Return a phantom of coarse voxels: as a grid it is small, and has lungs all the same."""
    phantom = make_phantom(PhantomSpec(seed=1, pattern=Pattern.UIP, severity=0.2), spacing_mm=3.0)
    return Volume(np.asarray(phantom.hu), (3.0, 3.0, 3.0))
