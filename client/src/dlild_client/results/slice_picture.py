"""Renders one slice: grey values of the lung window, lesions tinted, the lungs outlined."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image

LEVEL_HU, WIDTH_HU = -600.0, 1500.0
"""The lung window."""

Colour = tuple[int, int, int]
Pixels = npt.NDArray[np.float32]
"""Red, green, blue, shape (y, x, 3), 0 to 255."""


class DrawnClass(Protocol):
    """What is drawn of a class: `LabelClass` of the contract, and other descriptions of it."""

    @property
    def label(self) -> int:
        """Its value in the label map."""

    @property
    def lesion(self) -> bool:
        """Whether it is filled; the outline of the lungs has the colour of the others."""

    @property
    def colour(self) -> Colour:
        """Red, green, blue."""


def panel_size(shape: tuple[int, ...], pixel_mm: Sequence[float], width: int) -> tuple[int, int]:
    """Return width and height of the picture of a slice (rows, columns) in true proportions."""
    rows, columns = shape
    return width, max(1, round(width * rows * pixel_mm[0] / (columns * pixel_mm[1])))


def grey_pixels(hu: npt.NDArray[np.generic], size: tuple[int, int]) -> Pixels:
    """Show HU in the lung window, smoothed to a size (width, height)."""
    shown = np.clip((hu.astype(np.float32) - (LEVEL_HU - WIDTH_HU / 2)) / WIDTH_HU, 0, 1) * 255
    smooth = Image.fromarray(shown.astype(np.uint8)).resize(size, Image.Resampling.BICUBIC)
    return np.repeat(np.asarray(smooth, dtype=np.float32)[..., None], 3, axis=2)


def enlarge(labels: npt.NDArray[np.generic], size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """Bring labels to a size (width, height) by nearest neighbour."""
    picture = Image.fromarray(np.ascontiguousarray(labels, dtype=np.uint8))
    return np.asarray(picture.resize(size, Image.Resampling.NEAREST), dtype=np.uint8)


def tint(pixels: Pixels, mask: npt.NDArray[np.bool_], colour: Colour, opacity: float) -> None:
    """Lay a colour over the pixels of a mask."""
    pixels[mask] = (1 - opacity) * pixels[mask] + opacity * np.array(colour)


def draw_classes(
    pixels: Pixels,
    labels: npt.NDArray[np.uint8],
    classes: Sequence[DrawnClass],
    opacity: float,
) -> None:
    """Tint the lesions and outline the lungs, in the colour of lung without lesion.

    Parameters
    ----------
    pixels : ndarray, shape (y, x, 3)
        Changed in place.
    labels : ndarray, shape (y, x)
        As `enlarge` makes them.
    classes : sequence of DrawnClass
        Those that count as lung.
    opacity : float
        Of the lesions, 0 to 1.
    """
    for kind in classes:
        if kind.lesion:
            tint(pixels, labels == kind.label, kind.colour, opacity)
    lungs = np.isin(labels, [kind.label for kind in classes])
    plain = [kind.colour for kind in classes if not kind.lesion]
    pixels[_outline(lungs)] = plain[0] if plain else (232, 236, 241)


def to_image(pixels: Pixels) -> Image.Image:
    """Make a picture of pixels."""
    return Image.fromarray(pixels.astype(np.uint8))


def _outline(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Mask of the border pixels of a mask."""
    inner = mask.copy()
    inner[1:] &= mask[:-1]
    inner[:-1] &= mask[1:]
    inner[:, 1:] &= mask[:, :-1]
    inner[:, :-1] &= mask[:, 1:]
    return mask & ~inner
