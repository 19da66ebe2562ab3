"""Class biases: they make the volumes of the training right, and change nothing else."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from dlild_client.contract.labels import SURE, label_voxels
from dlild_client.contract.schema import LARGEST_CLASS, LESIONS_TOGETHER
from dlild_export.data.contracts import find_contract
from dlild_export.phantom import Pattern, PhantomSpec, make_phantom
from dlild_export.serving.calibration import add_class_biases, find_class_biases, match_volumes
from dlild_export.training.unet import UNet, UNetConfig

CONTRACT = find_contract()
CLASSES = len(CONTRACT.classes)


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cases")
    for seed in (1, 2):
        spec = PhantomSpec(seed=seed, pattern=Pattern.MIXED, severity=0.3)
        phantom = make_phantom(spec, spacing_mm=5.0)
        info = json.dumps({"name": str(seed), "group": str(seed)})
        np.savez(folder / f"{seed}.npz", hu=phantom.hu, labels=phantom.labels, info=info)
    return folder


def _by_hu(window: npt.NDArray[np.float16]) -> npt.NDArray[np.float16]:
    """Tell lung from what is denser by HU alone, and call too little of it consolidation."""
    hu = window[0, 0].astype(np.float32)
    logits = np.full((CLASSES, *hu.shape), -9.0, dtype=np.float32)
    logits[0], logits[1], logits[5] = 0.0, -(hu + 500) / 100, (hu + 200) / 100 - 3
    odds = np.exp(logits - logits.max(axis=0))
    return (odds / odds.sum(axis=0)).astype(np.float16)[None]


def test_biases_come_from_the_cases_that_are_given(cases: Path) -> None:
    seen: list[int] = []
    biases = find_class_biases(
        _by_hu, cases, contract=CONTRACT, stride=8, count=2, progress=seen.append
    )

    assert seen == [1, 2]
    assert len(biases) == CLASSES
    assert biases[0] == 0
    assert biases[2] == 3.0  # no ground-glass at all: as far as a bias may go


@pytest.mark.parametrize("rule", [LARGEST_CLASS, LESIONS_TOGETHER])
def test_a_class_that_is_called_too_seldom_gets_a_bias_that_corrects_it(rule: str) -> None:
    contract = replace(CONTRACT, score=replace(CONTRACT.score, labels=rule))
    rng = np.random.default_rng(0)
    truth = rng.choice(CLASSES, 20_000, p=[0.3, 0.4, 0.1, 0.1, 0.05, 0.05]).astype(np.uint8)
    logits = rng.normal(0, 1, (CLASSES, truth.size)).astype(np.float32)
    logits[truth, np.arange(truth.size)] += 2
    logits[2] -= 1.5

    biases = match_volumes([(logits[:, ::2], truth[::2]), (logits[:, 1::2], truth[1::2])], contract)

    values = np.exp(logits + np.array(biases)[:, None])
    labels, _ = label_voxels(values, contract.classes, rule, sure=SURE * values.sum(axis=0))
    called = np.bincount(labels, minlength=CLASSES)
    assert called == pytest.approx(np.bincount(truth, minlength=CLASSES), rel=0.02)
    assert biases[2] > biases[3] + 1


def test_a_class_that_is_nowhere_true_is_left_alone() -> None:
    truth = np.repeat(np.arange(3, dtype=np.uint8), 100)
    logits = np.zeros((CLASSES, truth.size), dtype=np.float32)
    logits[truth, np.arange(truth.size)] = 5

    assert match_volumes([(logits, truth)], CONTRACT) == (0.0,) * CLASSES


def test_biases_are_added_in_the_last_layer() -> None:
    torch.manual_seed(5)
    network = UNet(UNetConfig(channels=(8, 16))).eval()
    hu = torch.full((1, 1, 8, 8, 8), -800.0)
    with torch.no_grad():
        before = network(hu)
        add_class_biases(network, (0.0, 0.25, 0.5, -0.5, 1.0, -1.0))
        moved = (network(hu) - before).mean(dim=(0, 2, 3, 4))
    torch.testing.assert_close(moved, torch.tensor([0.0, 0.25, 0.5, -0.5, 1.0, -1.0]))
