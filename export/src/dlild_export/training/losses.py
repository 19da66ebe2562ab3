"""What the network is taught by: Dice and cross-entropy over the voxels whose truth is known."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor, nn

from dlild_client.contract.classes import Label
from dlild_export.data.labels import IGNORE

_SMOOTH = 1e-5


class StepLoss(Protocol):
    """A loss to be minimised, and what the metrics of a step show of it."""

    @property
    def total(self) -> Tensor:
        """Loss, shape ()."""
        ...

    @property
    def measures(self) -> Mapping[str, float]:
        """Parts of the loss, by name."""
        ...


@dataclass(frozen=True)
class Loss:
    """A loss, and what it is made of.

    Attributes
    ----------
    total : Tensor, shape ()
        Dice loss and cross-entropy together, to be minimised.
    cross_entropy : Tensor, shape ()
        Mean over the known voxels; focal where so configured.
    dice : Tensor, shape (classes,)
        Soft Dice of every class over the batch; NaN where the batch has none of it.
    """

    total: Tensor
    cross_entropy: Tensor
    dice: Tensor

    @property
    def measures(self) -> Mapping[str, float]:
        """Cross-entropy and the Dice of every class."""
        dice = {f"dice_{number}": value for number, value in enumerate(self.dice.tolist())}
        return {"cross_entropy": self.cross_entropy.item(), **dice}


def _alone(sums: Tensor) -> Tensor:
    return sums


def dice_ce_loss(
    logits: Tensor,
    labels: Tensor,
    *,
    class_weights: Tensor | None = None,
    focal_gamma: float = 0.0,
    lesions_together: float = 0.0,
    over_processes: Callable[[Tensor], Tensor] = _alone,
) -> Loss:
    """Return Dice loss (Milletari et al. 2016) over the batch, plus cross-entropy.

    With all voxels known it is MONAI's `DiceCELoss(softmax=True, batch=True)`. It stands here
    because unknown voxels must not count, and because its sums must go over all processes before
    they are divided: a mean of the processes' Dice is not the Dice of their batches together.

    Parameters
    ----------
    logits : Tensor, shape (n, classes, z, y, x)
        Of the network.
    labels : Tensor of integers, shape (n, 1, z, y, x)
        Classes, or 255 where the truth is not known.
    class_weights : Tensor, shape (classes,), optional
        Weights in the cross-entropy.
    focal_gamma : float
        Exponent of the focal loss (Lin et al. 2017); 0 is cross-entropy.
    lesions_together : float
        Weight of the same loss over three classes, outside, lung and all lesions together.
    over_processes : callable
        Sums a vector over the processes, gradients included.

    Returns
    -------
    Loss
    """
    loss = _dice_ce(logits, labels, class_weights, focal_gamma, over_processes)
    if not lesions_together:
        return loss
    first = Label.GROUND_GLASS
    lesions = logits[:, first:].float().logsumexp(dim=1, keepdim=True)
    joined = torch.cat((logits[:, :first].float(), lesions), dim=1)
    named = torch.where(labels == IGNORE, labels, labels.clamp(max=first))
    together = _dice_ce(joined, named, None, focal_gamma, over_processes)
    return replace(loss, total=loss.total + lesions_together * together.total)


def _dice_ce(
    logits: Tensor,
    labels: Tensor,
    class_weights: Tensor | None,
    focal_gamma: float,
    over_processes: Callable[[Tensor], Tensor],
) -> Loss:
    classes = logits.shape[1]
    target = labels[:, 0].long()
    log_probability = torch.log_softmax(logits.float(), dim=1)
    each = nn.functional.nll_loss(
        log_probability, target, class_weights, ignore_index=IGNORE, reduction="none"
    )
    known = target != IGNORE
    weight = known.float() if class_weights is None else class_weights[target * known] * known
    probability = log_probability.exp()
    one_hot = torch.zeros_like(probability).scatter_(1, (target * known)[:, None], 1.0)
    if not known.all():
        probability, one_hot = probability * known[:, None], one_hot * known[:, None]
    hit = probability * one_hot
    if focal_gamma:
        each = each * (1 - hit.sum(dim=1)) ** focal_gamma
    axes = (0, 2, 3, 4)
    parts = (hit.sum(axes), probability.sum(axes), one_hot.sum(axes), each.sum(), weight.sum())
    sums = over_processes(torch.cat([part.reshape(-1) for part in parts]))
    both, predicted, true = sums[: 3 * classes].view(3, classes)
    entropy, weights = sums[3 * classes :]
    dice = (2 * both + _SMOOTH) / (predicted + true + _SMOOTH)
    cross_entropy = entropy / weights.clamp_min(_SMOOTH)
    total = (1 - dice).mean() + cross_entropy
    met = torch.where(true > 0, dice.detach(), torch.nan)
    return Loss(total, cross_entropy.detach(), met)


def over_levels(
    levels: Sequence[Tensor], labels: Tensor, loss: Callable[[Tensor, Tensor], Loss]
) -> Loss:
    """Return the loss over the levels of the decoder, each counting half of the one before.

    Parameters
    ----------
    levels : sequence of Tensor, shape (n, classes, z, y, x)
        Logits, from full resolution down, every level half as large as the one before.
    labels : Tensor of integers, shape (n, 1, z, y, x)
        Truth at full resolution.
    loss : callable
        Loss of one level.

    Returns
    -------
    Loss
        Weighted mean of the totals; the parts are those of full resolution.
    """
    finest = loss(levels[0], labels)
    total, weight = finest.total, 1.0
    for depth, logits in enumerate(levels[1:], start=1):
        step = 2**depth
        total = total + 0.5**depth * loss(logits, labels[..., ::step, ::step, ::step]).total
        weight += 0.5**depth
    return Loss(total / weight, finest.cross_entropy, finest.dice)
