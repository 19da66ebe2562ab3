"""The thin path of training: phantoms to checkpoint to ONNX, and its parity with torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from dlild_export.calibrate import add_lesion_bias, find_lesion_bias, lesion_share
from dlild_export.dataset import PatchSource, write_phantoms
from dlild_export.phantom import Pattern, PhantomSpec
from dlild_export.train import TrainConfig, learning_rate, load_network, train, warp
from dlild_export.unet import UNet, UNetConfig

SMALL = UNetConfig(channels=(8, 16))


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phantoms")
    specs = [PhantomSpec(seed=s, pattern=Pattern.MIXED, severity=0.3) for s in (1, 2)]
    done = list(write_phantoms(folder, specs, lung_masks=[], spacing_mm=5.0, workers=1))
    assert sorted(done) == [1, 2]
    return folder


def test_patches_have_all_classes(phantoms: Path) -> None:
    source = PatchSource(phantoms, patch=24, seed=0)

    met: set[int] = set()
    for _ in range(60):
        hu, labels = source.draw()
        assert hu.shape == labels.shape == (24, 24, 24)
        met |= set(np.unique(labels).tolist())

    assert met == set(range(6))


def test_no_phantoms_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="dlild-export phantoms"):
        PatchSource(tmp_path, patch=16, seed=0)


def test_a_killed_training_goes_on(phantoms: Path, tmp_path: Path) -> None:
    def config(steps: int) -> TrainConfig:
        return TrainConfig(network=SMALL, steps=steps, patch=16, warm_up_steps=1, bf16=False)

    train(phantoms, tmp_path, config(2))
    seen: list[int] = []
    checkpoint = train(phantoms, tmp_path, config(4), progress=lambda step, _: seen.append(step))

    assert seen == [3, 4]
    assert load_network(checkpoint).config == SMALL


def test_training_learns(phantoms: Path, tmp_path: Path) -> None:
    losses: list[float] = []
    config = TrainConfig(network=SMALL, steps=40, patch=24, warm_up_steps=5, bf16=False)

    train(phantoms, tmp_path, config, progress=lambda _, loss: losses.append(loss))

    # From the loss of a network that knows nothing: it moves slowly at first, but it moves.
    assert np.mean(losses[-10:]) < np.mean(losses[:4]) - 0.15


def test_the_lesion_bias_moves_the_score_and_nothing_else(phantoms: Path) -> None:
    torch.manual_seed(5)
    network = UNet(SMALL).eval()
    with torch.no_grad():
        network.head.weight.zero_()
        # Lung everywhere, with lesion just behind: any bias above 0.35 makes lesion of it.
        network.head.bias.copy_(torch.tensor([0.0, 1.0, 0.65, 0.0, 0.0, 0.0]))

    bias = find_lesion_bias(network, phantoms, count=2)
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


def test_the_learning_rate_rises_and_falls() -> None:
    config = TrainConfig(steps=100, warm_up_steps=10, learning_rate=1.0)
    rates = [learning_rate(step, config) for step in range(100)]

    assert max(rates) == rates[9] == pytest.approx(1.0)
    assert rates[0] == pytest.approx(0.1)
    assert rates[99] < 0.01


def test_warping_keeps_hu_and_labels_together() -> None:
    labels = torch.zeros(1, 1, 24, 24, 24, dtype=torch.int64)
    labels[..., 8:16, 8:16, 8:16] = 1
    hu = labels.float() * 1000

    moved_hu, moved = warp(hu, labels, np.random.default_rng(1))

    assert moved.shape == labels.shape
    assert ((moved_hu > 500) == (moved == 1)).float().mean() > 0.98
