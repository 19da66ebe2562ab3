"""The loss: MONAI's where all is known, blind where it is not."""

from __future__ import annotations

import pytest
import torch
from monai.losses.dice import DiceCELoss
from torch import nn

from dlild_export.training.losses import dice_ce_loss, over_levels


def _batch(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(seed)
    return torch.randn(2, 6, 4, 6, 8, requires_grad=True), torch.randint(0, 5, (2, 1, 4, 6, 8))


@pytest.mark.parametrize("weights", [None, torch.tensor([0.5, 1.0, 2.0, 3.0, 1.0, 4.0])])
def test_it_is_monais_where_all_is_known(weights: torch.Tensor | None) -> None:
    logits, labels = _batch()
    dice = DiceCELoss(softmax=True, to_onehot_y=True, include_background=True, batch=True)
    entropy = nn.functional.cross_entropy(logits, labels[:, 0], weights)
    expected = dice(logits, labels) - nn.functional.cross_entropy(logits, labels[:, 0]) + entropy

    found = dice_ce_loss(logits, labels.to(torch.uint8), class_weights=weights)

    torch.testing.assert_close(found.total, expected)
    torch.testing.assert_close(found.cross_entropy, entropy)
    assert torch.isnan(found.dice).tolist() == [False] * 5 + [True]  # the batch has no class 5


def test_lesions_together_count_whatever_class_they_are_given() -> None:
    labels = torch.tensor([0, 1, 2, 4, 255])[None, None, :, None, None]
    other = torch.nn.functional.one_hot(torch.tensor([0, 1, 5, 3, 1]), 6)
    missed = torch.nn.functional.one_hot(torch.tensor([0, 1, 1, 1, 1]), 6)

    def extra(classes: torch.Tensor) -> float:
        logits = 20.0 * classes.T[None, :, :, None, None]
        whole = dice_ce_loss(logits, labels, lesions_together=1.0)
        return float(whole.total - dice_ce_loss(logits, labels).total)

    assert extra(other) == pytest.approx(0, abs=1e-4)
    assert extra(missed) > 5


def test_unknown_voxels_do_not_count() -> None:
    logits, labels = _batch()
    known = torch.rand(labels.shape) < 0.6
    partly = torch.where(known, labels, 255)
    weights = torch.tensor([1.0, 2.0, 1.0, 3.0, 1.0, 1.0])

    loss = dice_ce_loss(logits, partly, class_weights=weights, focal_gamma=2.0)
    loss.total.backward()  # type: ignore[no-untyped-call]
    other = torch.where(known, logits, torch.randn_like(logits) * 50)
    same = dice_ce_loss(other, partly, class_weights=weights, focal_gamma=2.0)

    torch.testing.assert_close(loss.total, same.total)
    assert logits.grad is not None
    unknown = (~known).expand_as(logits)
    assert (logits.grad[unknown] == 0).all()
    assert (logits.grad[~unknown] != 0).any()


def test_a_patch_of_which_nothing_is_known_teaches_nothing() -> None:
    logits, labels = _batch()

    loss = dice_ce_loss(logits, torch.full_like(labels, 255))
    loss.total.backward()  # type: ignore[no-untyped-call]

    assert loss.total == 0
    assert logits.grad is not None
    assert (logits.grad == 0).all()


def test_focal_looks_away_from_what_is_sure() -> None:
    logits, labels = _batch()
    probability = torch.softmax(logits, dim=1).gather(1, labels)
    expected = (-probability.log() * (1 - probability) ** 2).mean()

    torch.testing.assert_close(
        dice_ce_loss(logits, labels, focal_gamma=2.0).cross_entropy, expected
    )


def test_sums_over_processes_come_before_the_division() -> None:
    logits, labels = _batch()
    whole = dice_ce_loss(logits, labels).total
    halves: list[torch.Tensor] = []
    for part in range(2):
        dice_ce_loss(
            logits[part, None], labels[part, None], over_processes=lambda s: halves.append(s) or s
        )

    total = halves[0] + halves[1]
    together = dice_ce_loss(logits[:1], labels[:1], over_processes=lambda _: total).total

    torch.testing.assert_close(together, whole)


def test_coarser_levels_count_half_each() -> None:
    fine, labels = _batch()
    coarse = torch.randn(2, 6, 2, 3, 4)

    both = over_levels([fine, coarse], labels, dice_ce_loss)

    expected = dice_ce_loss(fine, labels).total
    expected = expected + 0.5 * dice_ce_loss(coarse, labels[..., ::2, ::2, ::2]).total
    torch.testing.assert_close(both.total, expected / 1.5)
    torch.testing.assert_close(both.dice, dice_ce_loss(fine, labels).dice, equal_nan=True)
