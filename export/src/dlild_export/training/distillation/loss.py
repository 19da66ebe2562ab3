"""How far a student's answers are from its teacher's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import avg_pool3d, max_pool3d

from dlild_client.contract.classes import Label
from dlild_export.training.distillation.teacher import Targets
from dlild_export.training.unet import cube_evidence

_CUBE = 2  # voxels along the edge of the cubes on which a lesion is decided
_NEAR = 5  # cubes along the edge of the neighbourhood of a lung that counts as the lung itself
_ANYWHERE = 0.1  # weight of a cube far from the lungs; of one in them, 1
# Weights in the total, so that no part of it is lost beside another.
_SHARES, _EVIDENCE, _MISSED = 10.0, 0.1, 10.0


@dataclass(frozen=True)
class DistillationLoss:
    """A loss, and what it is made of.

    Attributes
    ----------
    total : Tensor, shape ()
        Weighted sum of the parts, to be minimised.
    parts : mapping of str to Tensor, shape ()
        `divergence`: Kullback-Leibler divergence of the student's probabilities from the
        teacher's, most of it in and beside the lungs. `shares`: squared difference of the mean
        probabilities of cubes of 2 voxels. `evidence`: squared difference of the averaged log-odds
        of lesions, in the lungs. `missed`: share of the variance of the teacher's pooled features
        that the student's first block misses; only where blocks are taught.
    """

    total: Tensor
    parts: Mapping[str, Tensor]

    @property
    def measures(self) -> Mapping[str, float]:
        """The parts as numbers."""
        return {name: part.item() for name, part in self.parts.items()}


def distillation_loss(
    logits: Tensor,
    pooled: Tensor,
    targets: Targets,
    *,
    variance: Tensor,
    passes: int,
    over_processes: Callable[[Tensor], Tensor],
) -> DistillationLoss:
    """Return how far a student's answers are from its teacher's.

    Parameters
    ----------
    logits, pooled : Tensor
        As `Student.forward` returns them.
    targets : Targets
        The teacher's.
    variance : Tensor, shape (channels,)
        Of the teacher's pooled features; no channels where all is taught.
    passes : int
        How often the student averages evidence over neighbouring cubes.
    over_processes : callable
        Sums a vector over the processes, gradients included.

    Returns
    -------
    DistillationLoss
    """
    answered, expected = (x.float().log_softmax(dim=1) for x in (logits, targets.logits))
    likely = expected.exp()
    cubes, truth = (avg_pool3d(x, _CUBE) for x in (answered.exp(), likely))
    inside = 1 - truth[:, :1]
    near = max_pool3d(inside, _NEAR, stride=1, padding=_NEAR // 2)
    weight = _ANYWHERE + (1 - _ANYWHERE) * near
    divergence = avg_pool3d((likely * (expected - answered)).sum(1, keepdim=True), _CUBE)
    shares = (cubes - truth).square().sum(1, keepdim=True)
    odds = [_evidence(x, passes) for x in (cubes, truth)]
    evidence = (odds[0] - odds[1]).square()
    missed = (pooled.float() - targets.pooled.float()).square().sum((0, 2, 3, 4)) / variance
    voxels = pooled.new_tensor(float(pooled.shape[1] * pooled[:, :1].numel() or 1))
    sums = over_processes(
        torch.stack(
            (
                (weight * divergence).sum(),
                (weight * shares).sum(),
                weight.sum(),
                (inside * evidence).sum(),
                inside.sum(),
                missed.sum(),
                voxels,
            )
        )
    )
    parts = {
        "divergence": sums[0] / sums[2],
        "shares": sums[1] / sums[2],
        "evidence": sums[3] / (sums[4] + 1.0),
    }
    total = parts["divergence"] + _SHARES * parts["shares"] + _EVIDENCE * parts["evidence"]
    if pooled.shape[1]:
        parts["missed"] = sums[5] / sums[6]
        total = total + _MISSED * parts["missed"]
    return DistillationLoss(total, {name: part.detach() for name, part in parts.items()})


def _evidence(cubes: Tensor, passes: int) -> Tensor:
    """Return the averaged log-odds of lesions from the mean probabilities of cubes."""
    first = Label.GROUND_GLASS
    lung, lesions = cubes[:, first - 1 : first], cubes[:, first:].sum(1, keepdim=True)
    return cube_evidence(lung, lesions, passes)
