"""A student's blocks by least squares: where their training by gradients begins."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from dlild_export.training.distillation.student import Student, measure_statistics
from dlild_export.training.distillation.teacher import Targets
from dlild_export.training.start import normalised
from dlild_export.training.unet import HEALTHY_HU, UNet

_EDGE = 3  # of the kernel that is fitted
_VOXELS = 2048  # of a patch, evenly chosen, that the fit is to
_RIDGE = 1e-4  # added to the diagonal, as a share of its mean
_BEND = 0.5  # standard deviations between the points from which features are rectified


@torch.no_grad()
def fit_blocks(student: Student, hu: Tensor, targets: Targets) -> None:
    """Fit a student's first block, and its head on a last block that is drawn at random.

    Parameters
    ----------
    student : Student
        With a new first level; changed in place.
    hu : Tensor, shape (n, 1, z, y, x)
        HU of patches.
    targets : Targets
        The teacher's answers to them.
    """
    decoded, network = targets.decoded.float(), student.network
    norms = [norm for _, norm in normalised(network)]
    measure_statistics(student, norms[:1], hu, decoded)
    fit_first_block(network, hu, targets.pooled)
    measure_statistics(student, norms[-2:], hu, decoded)
    fit_head(student, hu, targets)


@torch.no_grad()
def fit_first_block(network: UNet, hu: Tensor, pooled: Tensor) -> None:
    """Fit what lies between the first convolution and the second level to a teacher's features.

    The second convolution becomes the linear regression of the features on the rectified outputs
    of the first one, repeated with other biases as often as there are channels: sums of features
    that are rectified at several points are curved. The 1 x 1 x 1 convolution becomes the
    regression on those.

    Parameters
    ----------
    network : UNet
        With a space-to-depth, whose first convolution and normalisation stay; changed in place.
    hu : Tensor, shape (n, 1, z, y, x)
        HU of patches.
    pooled : Tensor, shape (n, channels, z / 2, y / 2, x / 2)
        Features of the teacher's first level, pooled.
    """
    (first, first_norm), (second, second_norm), (narrowing, last_norm) = normalised(network)[:3]
    times = second.out_channels // pooled.shape[1]
    if not times:
        return
    rows, targets = [], []
    for patch, target in zip(hu, pooled, strict=True):
        seen = first_norm(first(network.inputs(patch[None] - HEALTHY_HU))).relu()
        chosen = torch.linspace(0, target[0].numel() - 1, _VOXELS, device=hu.device).long()
        rows.append(_neighbours(seen[0])[:, chosen].movedim(1, 0).flatten(1))
        targets.append(target.flatten(1)[:, chosen].float().T)
    seen, wanted = torch.cat(rows), torch.cat(targets)
    weight, bias = _regress(seen, wanted)
    fitted = seen @ weight.T
    bends = _BEND * fitted.std(0)
    biases = torch.cat([bias - number * bends for number in range(times)])
    _set(second, second_norm, weight.repeat(times, 1), biases, fitted.repeat(1, times))
    seen = (fitted.repeat(1, times) + biases).relu()
    weight, bias = _regress(seen, wanted)
    fitted = seen @ weight.T
    # Channels that were not fitted count for nothing as yet.
    weight = pad(weight, (0, narrowing.in_channels - weight.shape[1]))
    _set(narrowing, last_norm, weight, bias, fitted)


@torch.no_grad()
def fit_head(student: Student, hu: Tensor, targets: Targets) -> None:
    """Fit the head to a teacher's logits, on the last block as it is.

    Parameters
    ----------
    student : Student
        In evaluation mode; its head is changed in place.
    hu, targets : Tensor, Targets
        As `fit_blocks` takes them.
    """
    head = student.network.head
    rows: list[Tensor] = []
    hook = head.register_forward_pre_hook(lambda _, inputs: rows.append(inputs[0]))
    student(hu, targets.decoded.float())
    hook.remove()
    seen = rows[0].movedim(1, 0).flatten(1).T
    wanted = targets.logits.float()
    for axis in (2, 3, 4):
        wanted = wanted.unfold(axis, 2, 2)
    weight, bias = _regress(seen, wanted.movedim(1, 4).flatten(4).flatten(0, 3))
    assert head.bias is not None
    head.weight.copy_(weight.T.reshape(head.weight.shape))
    head.bias.copy_(bias.view(len(head.bias), -1).mean(1))  # one for the 8 voxels of a cube


def _neighbours(features: Tensor) -> Tensor:
    """Return what a kernel sees of every voxel, shape (channels, z * y * x, edge ** 3)."""
    seen = pad(features, (_EDGE // 2,) * 6)
    for axis in (1, 2, 3):
        seen = seen.unfold(axis, _EDGE, 1)
    return seen.flatten(1, 3).flatten(2)


def _set(
    convolution: nn.Conv3d, norm: nn.BatchNorm3d, weight: Tensor, bias: Tensor, outputs: Tensor
) -> None:
    """Make the first channels of a convolution and its normalisation a linear map.

    Parameters
    ----------
    convolution, norm : torch.nn.Module
        Changed in place.
    weight : Tensor, shape (channels, inputs)
        Of the map.
    bias : Tensor, shape (channels,)
        Of the map.
    outputs : Tensor, shape (samples, channels)
        Of the convolution, whose statistics become those of the normalisation.
    """
    assert norm.running_mean is not None
    assert norm.running_var is not None
    channels = slice(len(weight))
    variance, mean = torch.var_mean(outputs, dim=0)
    convolution.weight[channels] = weight.view(-1, *convolution.weight.shape[1:])
    norm.running_mean[channels], norm.running_var[channels] = mean, variance
    norm.weight[channels] = (variance + norm.eps).sqrt()
    norm.bias[channels] = mean + bias


def _regress(seen: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """Return the weights, shape (outputs, inputs), and the biases of a linear regression."""
    centre, middle = seen.mean(0), wanted.mean(0)
    seen, wanted = seen - centre, wanted - middle
    square = (seen.T @ seen).double()
    square.diagonal().add_(_RIDGE * square.diagonal().mean())
    weight = torch.linalg.solve(square, (seen.T @ wanted).double()).float().T
    return weight, middle - weight @ centre
