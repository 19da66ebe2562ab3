"""What a step of a distillation minimises: patches in, how far the student is from its teacher."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from dlild_export.training.config import TrainConfig, mixed_precision
from dlild_export.training.distillation.least_squares import fit_blocks
from dlild_export.training.distillation.loss import DistillationLoss, distillation_loss
from dlild_export.training.distillation.student import Student, first_norms, measure_statistics
from dlild_export.training.distillation.teacher import Teacher
from dlild_export.training.distributed import World
from dlild_export.training.unet import UNet


class Distillation:
    """Teaches a student by a teacher's answers.

    Parameters
    ----------
    teacher : Teacher
        Answers the patches.
    config : TrainConfig
        Its `distil` is not "none".
    sample : Tensor, shape (n, 1, z, y, x)
        HU of patches of the training, of which the variance of features is measured.
    world : World
        Of the training.
    """

    def __init__(self, teacher: Teacher, config: TrainConfig, sample: Tensor, world: World) -> None:
        self._teacher, self._config, self._world = teacher, config, world
        self._sample = sample.to(world.device)
        # One by one: a batch of them all is more than a small machine has memory for.
        self._answers = teacher.targets(self._sample, [(-1, n) for n in range(len(sample))])
        features = self._answers.pooled.float().movedim(1, 0).flatten(1)
        variance = features.square().mean(1) - features.mean(1).square()
        # A channel that hardly ever differs from 0 would count more than all others.
        self._variance = variance.clamp_min(0.01 * variance.sum() / max(len(variance), 1))

    def model(self, network: UNet, *, new_level: bool) -> Student:
        """Return a network as it is taught.

        Parameters
        ----------
        network : UNet
            To teach.
        new_level : bool
            Its first level was drawn at random, and has no statistics yet. They are measured, and
            where blocks are taught, these are fitted.
        """
        assert self._config.distil != "none"
        student = Student(network, self._config.distil)
        if new_level:
            student.to(self._world.device)
            if self._config.distil == "blocks":
                fit_blocks(student, self._sample, self._answers)
            else:
                norms = first_norms(network)
                measure_statistics(student, norms, self._sample, self._answers.decoded)
        return student

    def __call__(
        self, model: nn.Module, hu: Tensor, _labels: Tensor, keys: Sequence[tuple[int, int]]
    ) -> DistillationLoss:
        """Return the loss of a batch.

        Parameters
        ----------
        model : torch.nn.Module
            The student, or what shares it with other processes.
        hu : Tensor, shape (n, 1, z, y, x)
            HU.
        _labels : Tensor
            Not read.
        keys : sequence of tuple of int
            Names of the patches.
        """
        targets = self._teacher.targets(hu, keys)
        with mixed_precision(self._world.device, wanted=self._config.bf16):
            logits, pooled = model(hu, targets.decoded.float())
        return distillation_loss(
            logits,
            pooled,
            targets,
            variance=self._variance,
            passes=self._config.network.evidence_passes,
            over_processes=self._world.sum,
        )
