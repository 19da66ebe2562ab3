"""What a validation says of a network that is right, and of one that is not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from export.small_cases import HU, write_cases
from torch import Tensor, nn

from dlild_export.data.prepare import prepared_files
from dlild_export.training.cases import ArrayCache, open_case
from dlild_export.training.validation import Validation, confusion, summarise, validate


class Reader(nn.Module):
    """Knows the HU of every class."""

    def forward(self, hu: Tensor) -> Tensor:
        known = torch.tensor(HU, dtype=torch.float32).view(1, -1, 1, 1, 1)
        logits = -(hu - known).abs()
        logits[:, :1] = torch.maximum(logits[:, :1], -(hu + 1000).abs())  # air round the body
        return logits


def _validate(network: nn.Module, folder: Path) -> Validation:
    cases = [open_case(file) for file in prepared_files(folder)]
    device = torch.device("cpu")
    return validate(network, cases, ArrayCache(1e9), window=16, device=device, bf16=False)


def test_a_network_that_is_right(tmp_path: Path) -> None:
    network = Reader().train()

    found = _validate(network, write_cases(tmp_path, 2))

    assert found.dice == pytest.approx([1.0] * 6)
    assert (found.lung_dice, found.lesion_dice) == (1.0, 1.0)
    assert (found.dl_ild_mae, found.dl_ild_bias) == (0.0, 0.0)
    assert network.training


def test_unknown_voxels_do_not_count() -> None:
    truth = np.array([0, 1, 2, 255, 255], np.uint8)
    predicted = np.array([0, 1, 1, 5, 0])

    matrix = confusion(truth, predicted)

    assert matrix.sum() == 3
    assert (matrix[0, 0], matrix[1, 1], matrix[2, 1]) == (1, 1, 1)


def test_errors_of_dl_ild_have_a_sign() -> None:
    over, under = np.zeros((6, 6), int), np.zeros((6, 6), int)
    over[1, 1], over[1, 2] = 80, 20  # 20 % predicted, none true
    under[1, 1], under[3, 3], under[3, 1] = 50, 40, 10  # 40 % predicted, 50 % true

    found = summarise([over, under])

    assert found.dl_ild_mae == pytest.approx(15.0)
    assert found.dl_ild_bias == pytest.approx(5.0)
    assert found.lung_dice == 1.0
    assert found.lesion_dice == pytest.approx(2 * 40 / (60 + 50))
    assert np.isnan(found.dice[5])
