"""Patches changed as scanners and patients differ: turned, aerated, blurred, noisy, thick."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from monai.transforms.intensity.array import RandGaussianNoise
from monai.transforms.spatial.dictionary import RandAffined
from torch import Tensor, nn

from dlild_client.contract.classes import HEALTHY_LUNG_HU
from dlild_export.training.breath import move_lung
from dlild_export.training.config import Augmentation

_SHARPEST_BLUR = 0.3  # standard deviation that changes next to nothing, voxels
_MARGIN = 1.25  # of a cube that is turned and stretched, so that it holds the patch


class Augment:
    """Changes a patch; every draw comes from the generator that is given.

    Parameters
    ----------
    config : Augmentation
        Probabilities and strengths.
    """

    def __init__(self, config: Augmentation) -> None:
        self.config = config
        # The coins are thrown here; a transform of MONAI that is called always acts.
        self._affine = RandAffined(
            ("hu", "labels"),
            prob=1,
            rotate_range=(config.turn,) * 3,
            shear_range=(config.shear,) * 6,
            scale_range=(config.stretch,) * 3,
            mode=("bilinear", "nearest"),
            padding_mode="border",
        )
        self._noise = RandGaussianNoise(prob=1, std=config.noise_hu)

    def size(self, patch: int, rng: np.random.Generator) -> int:
        """Decide whether the patch is turned, and return the edge of the cube to cut for it."""
        if rng.random() >= self.config.affine:
            return patch
        return 2 * round(patch * _MARGIN / 2)

    def __call__(
        self, hu: Tensor, labels: Tensor, patch: int, rng: np.random.Generator
    ) -> tuple[Tensor, Tensor]:
        """Make a patch of the cube that was cut.

        Parameters
        ----------
        hu, labels : Tensor, shape (1, size, size, size)
            HU and classes; `size` as `size()` gave it.
        patch : int
            Edge of the patch.
        rng : numpy.random.Generator
            Draws the changes.

        Returns
        -------
        hu : Tensor of float32, shape (1, patch, patch, patch)
        labels : Tensor of uint8, shape (1, patch, patch, patch)
        """
        c = self.config
        if hu.shape[-1] != patch:
            hu, labels = self._turn(hu, labels, patch, rng)
        if rng.random() < c.flip:
            hu, labels = hu.flip(-1), labels.flip(-1)
        if c.prone and rng.random() < c.prone:
            hu, labels = hu.flip(-2), labels.flip(-2)
        if rng.random() < c.aeration:
            # Healthy lung of one patient is as dense as ground-glass of another: HU alone mislead.
            shift_hu = rng.uniform(-c.aeration_hu, c.aeration_hu)
            hu = move_lung(hu, HEALTHY_LUNG_HU, shift_hu)
        hu = hu * (1 + rng.uniform(-c.scale, c.scale)) + rng.uniform(-c.shift_hu, c.shift_hu)
        if c.kernel and rng.random() < c.kernel:
            hu = self._reconstructed(hu, rng)
        if rng.random() < c.smooth:
            hu = blur_slices(hu, rng.uniform(_SHARPEST_BLUR, c.softest))
        if rng.random() < c.sharpen:
            hu = hu + rng.uniform(0.2, c.sharpest) * (hu - blur_slices(hu, rng.uniform(0.5, 1.0)))
        if rng.random() < c.noise:
            self._noise.set_random_state(_seed(rng))
            hu = _plain(self._noise(hu))
        if rng.random() < c.thick:
            hu = thick_slices(hu, int(rng.integers(2, c.thickest + 1)))
        return hu.contiguous(), labels.contiguous()

    def _reconstructed(self, hu: Tensor, rng: np.random.Generator) -> Tensor:
        """Change a patch as another kernel would have shown it, with the noise of that kernel."""
        self._noise.set_random_state(_seed(rng))
        hu = _plain(self._noise(hu))
        width = rng.uniform(-self.config.kernel_width, self.config.kernel_width)
        return show_by_kernel(hu, width) if abs(width) > _SHARPEST_BLUR else hu

    def _turn(
        self, hu: Tensor, labels: Tensor, patch: int, rng: np.random.Generator
    ) -> tuple[Tensor, Tensor]:
        self._affine.set_random_state(_seed(rng))
        self._affine.rand_affine.spatial_size = (patch,) * 3
        moved = self._affine({"hu": hu, "labels": labels})
        return _plain(moved["hu"]), _plain(moved["labels"]).to(torch.uint8)


def blur_slices(hu: Tensor, width: float) -> Tensor:
    """Blur a patch within its slices, as a soft kernel does.

    MONAI's filters take what lies beyond a patch for 0, which is water, and its sharpening adds
    10 to 30 times what a blur takes away: good for photographs, thousands of HU in a lung.

    Parameters
    ----------
    hu : Tensor, shape (1, z, y, x)
        HU.
    width : float
        Standard deviation of the Gaussian, voxels.

    Returns
    -------
    Tensor, shape (1, z, y, x)
    """
    reach = math.ceil(3 * width)
    weights = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / width) ** 2)
    weights = weights / weights.sum()
    padded = nn.functional.pad(hu[None], (reach,) * 4 + (0, 0), mode="replicate")
    blurred = nn.functional.conv3d(padded, weights.view(1, 1, 1, -1, 1))
    return nn.functional.conv3d(blurred, weights.view(1, 1, 1, 1, -1))[0]


def show_by_kernel(hu: Tensor, width: float) -> Tensor:
    """Show a patch through a softer kernel, or through a sharper one.

    Parameters
    ----------
    hu : Tensor, shape (1, z, y, x)
        HU.
    width : float
        Standard deviation in voxels of the blur within the slices; of a negative one the blur is
        undone, to second order (van Cittert 1931): what a blur takes away is added, and what it
        takes from that.

    Returns
    -------
    Tensor, shape (1, z, y, x)
    """
    if width >= 0:
        return blur_slices(hu, width)
    lost = hu - blur_slices(hu, -width)
    return hu + lost + (lost - blur_slices(lost, -width))


def thick_slices(hu: Tensor, factor: int) -> Tensor:
    """Average a patch over some slices and interpolate back, as thick slices are on the grid.

    Parameters
    ----------
    hu : Tensor, shape (1, z, y, x)
        HU.
    factor : int
        Voxels along z that a slice is thick.

    Returns
    -------
    Tensor, shape (1, z, y, x)
    """
    z, y, x = hu.shape[1:]
    slices = nn.functional.avg_pool3d(hu[None], (factor, 1, 1), ceil_mode=True)
    thick: Tensor = nn.functional.interpolate(
        slices, (slices.shape[2] * factor, y, x), mode="trilinear", align_corners=False
    )
    return thick[0, :, :z]


def _seed(rng: np.random.Generator) -> int:
    return int(rng.integers(2**31))


def _plain(tensor: Any) -> Tensor:
    """Strip what MONAI adds to a tensor."""
    plain: Tensor = tensor.as_tensor() if hasattr(tensor, "as_tensor") else tensor
    return plain
