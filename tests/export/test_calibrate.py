"""The lesion bias: it makes the mean DL-ILD of the training right, and changes nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from dlild_export.calibrate import add_lesion_bias, find_lesion_bias, lesion_share
from dlild_export.phantom import Pattern, PhantomSpec, make_phantom
from dlild_export.unet import UNet, UNetConfig

SMALL = UNetConfig(channels=(8, 16))


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cases")
    for seed in (1, 2):
        spec = PhantomSpec(seed=seed, pattern=Pattern.MIXED, severity=0.3)
        phantom = make_phantom(spec, spacing_mm=5.0)
        info = json.dumps({"name": str(seed), "group": str(seed)})
        np.savez(folder / f"{seed}.npz", hu=phantom.hu, labels=phantom.labels, info=info)
    return folder


def test_the_lesion_bias_moves_the_score_and_nothing_else(cases: Path) -> None:
    torch.manual_seed(5)
    network = UNet(SMALL).eval()
    with torch.no_grad():
        network.head.weight.zero_()
        # Lung everywhere, with lesion just behind: any bias above 0.35 makes lesion of it.
        network.head.bias.copy_(torch.tensor([0.0, 1.0, 0.65, 0.0, 0.0, 0.0]))

    bias = find_lesion_bias(network, cases, count=2)
    assert bias == pytest.approx(0.0)  # all lung is 30 points short, all lesion 70 too far

    add_lesion_bias(network, 0.4)
    labels = network(torch.zeros(1, 1, 8, 8, 8)).argmax(dim=1)
    assert (labels == 2).all()


def test_lesion_share_counts_lesions_as_lung() -> None:
    logits = np.zeros((6, 1, 1, 3))
    logits[:, 0, 0, 0] = [2, 0, 0, 0, 0, 1.5]  # outside, nearly consolidation
    logits[:, 0, 0, 1] = [0, 2, 0, 1.5, 0, 0]  # lung, nearly reticulation
    logits[:, 0, 0, 2] = [0, 0, 3, 0, 0, 0]

    assert lesion_share(logits, 0.0) == (2, 1)
    assert lesion_share(logits, 1.0) == (3, 3)
