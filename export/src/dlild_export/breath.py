"""Lung moved along the scale of HU, as a deeper or shallower breath moves it."""

from __future__ import annotations

import torch
from torch import Tensor

AIR_HU = -1000.0
HEALTHY_LUNG_HU = -850.0


def move_lung(hu: Tensor, lung_hu: Tensor | float, shift_hu: Tensor | float) -> Tensor:
    """Make lung denser or darker, and leave what no breath changes: air, water and what is denser.

    Parameters
    ----------
    hu : Tensor
        HU.
    lung_hu : Tensor or float
        Density of healthy lung, HU, between -1000 and 0; one value, or one for each voxel.
    shift_hu : Tensor or float
        What healthy lung is moved by, HU; it stays between air and water. The move falls off to 0
        at air (-1000 HU) and at water (0 HU), in proportion.

    Returns
    -------
    Tensor
        HU, in the order that they had.
    """
    share = torch.minimum((hu - AIR_HU) / (lung_hu - AIR_HU), hu / lung_hu)
    return hu + shift_hu * share.clamp(min=0)
