"""The first and last block of a student in one small file, without the levels between."""

from __future__ import annotations

import pickle
from dataclasses import asdict
from pathlib import Path

import torch

from dlild_export.training.provenance import network_config
from dlild_export.training.start import WeightsError, first_level
from dlild_export.training.unet import UNet

BLOCKS = "blocks.pt"


def write_blocks(path: Path, network: UNet) -> None:
    """Write the weights of the first level, FP16, and the network's configuration."""
    weights = network.state_dict()
    level = {name: weights[name] for name in sorted(first_level(weights))}
    stored = {
        "network": asdict(network.config),
        "weights": {k: v.half() if v.is_floating_point() else v for k, v in level.items()},
    }
    unfinished = path.with_suffix(".unfinished")
    torch.save(stored, unfinished)
    unfinished.replace(path)


def read_blocks(path: Path, network: UNet) -> None:
    """Give a network the first level that a file holds.

    Parameters
    ----------
    path : pathlib.Path
        As `write_blocks` wrote it.
    network : UNet
        Changed in place.

    Raises
    ------
    WeightsError
        The file holds no blocks, or those of another configuration.
    """
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)
        config, weights = network_config(stored["network"]), stored["weights"]
    except (OSError, RuntimeError, EOFError, KeyError, TypeError, pickle.UnpicklingError) as error:
        reason = str(error).splitlines()[0]
        raise WeightsError(
            f"{path}: no blocks of a training with --distil blocks: {reason}"
        ) from None
    if config != network.config:
        raise WeightsError(
            f"{path} holds blocks of a network of {config}, and {network.config} is configured"
        )
    network.load_state_dict(network.state_dict() | weights)
