"""Lung moved along the scale of HU, as a deeper or shallower breath moves it."""

from __future__ import annotations

import torch
from torch import Tensor

AIR_HU = -1000.0
WATER_HU = 0.0


def move_lung(
    hu: Tensor,
    lung: Tensor | float,
    shift: Tensor | float,
    *,
    air: float = AIR_HU,
    water: float = WATER_HU,
) -> Tensor:
    """Make lung denser or darker, and leave what no breath changes: air, water and what is denser.

    Parameters
    ----------
    hu : Tensor
        HU, or any scale that grows evenly with them, on which all that follows is given as well.
    lung : Tensor or float
        Density of healthy lung, between air and water; one value, or one for each voxel.
    shift : Tensor or float
        What healthy lung is moved by; it stays between air and water. The move falls off to 0 at
        air and at water, in proportion.
    air, water : float
        Their values on the scale.

    Returns
    -------
    Tensor
        On the same scale, in the order that the voxels had.
    """
    share = torch.minimum((hu - air) / (lung - air), (water - hu) / (water - lung))
    return hu + shift * share.clamp(min=0)
