"""Pictures of slices: CT, both sides, and where they differ."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from dlild_client.contract import Contract
from dlild_client.results.slice_picture import (
    Pixels,
    draw_classes,
    enlarge,
    grey_pixels,
    panel_size,
    tint,
    to_image,
)
from dlild_export.data.crop import box_of
from dlild_export.data.labels import IGNORE
from dlild_export.readers.compare import SlicePlanes
from dlild_export.readers.outlines import UNNAMED
from dlild_export.readers.slices import Plane

BOTH, FIRST_ONLY, SECOND_ONLY = (0, 158, 115), (213, 94, 0), (0, 114, 178)
"""Colours of lesions that both sides have, and of those that one has."""

_OPACITY = 0.55
_PANEL_WIDTH = 420
_GAP = 6
_HEADER = 22
_MARGIN_MM = 10.0


@dataclass(frozen=True)
class _Unnamed:
    """Lesion that a reader gave no class."""

    label: int = UNNAMED
    lesion: bool = True
    colour: tuple[int, int, int] = (240, 228, 66)


class PictureFolder:
    """Draws slices into a folder.

    Parameters
    ----------
    folder : pathlib.Path
        Made if need be.
    contract : Contract
        Colours of the classes.
    """

    def __init__(self, folder: Path, contract: Contract) -> None:
        self.folder = folder
        self.contract = contract
        self._drawn: set[str] = set()

    def __call__(self, planes: SlicePlanes) -> str:
        """Draw a slice, and return the file's name."""
        self.folder.mkdir(parents=True, exist_ok=True)
        stem = re.sub(r"[^\w.+-]+", "-", planes.title).strip("-")
        name, number = f"{stem}.png", 1
        while name in self._drawn:
            number += 1
            name = f"{stem}-{number}.png"
        self._drawn.add(name)
        draw_slice(planes, self.contract).save(self.folder / name)
        return name


def draw_slice(planes: SlicePlanes, contract: Contract) -> Image.Image:
    """Draw one slice: CT, first side, second side, and their differences side by side.

    The picture is cut to the lungs, and lies as the slice is stored: as the reader saw it.
    """
    box = _box(planes)
    hu = None if planes.hu is None else planes.hu[box]
    first, second = planes.first[box], planes.second[box]
    size = panel_size(first.shape, planes.pixel_mm, _PANEL_WIDTH)
    unknown = np.full((size[1], size[0], 3), 40, np.float32)
    grey = unknown if hu is None else grey_pixels(hu, size)
    panels = [
        grey,
        _coloured(grey, first, size, contract),
        _coloured(grey, second, size, contract),
        _differences(grey, first, second, size, contract),
    ]
    sheet = Image.new("RGB", (4 * (_PANEL_WIDTH + _GAP) - _GAP, size[1] + _HEADER), (14, 17, 22))
    for index, panel in enumerate(panels):
        sheet.paste(to_image(panel), (index * (_PANEL_WIDTH + _GAP), _HEADER))
    figures = planes.figures
    text = (
        f"{planes.title}: {figures.first_percent:.1f} % and {figures.second_percent:.1f} %, Dice "
        f"{figures.dice:.2f}; green both, orange the first only, blue the second only"
    )
    ImageDraw.Draw(sheet).text((4, 3), text, font=ImageFont.load_default(14), fill=(232, 236, 241))
    return sheet


def _box(planes: SlicePlanes) -> tuple[slice, ...]:
    """Cut to what is labelled, with a margin."""
    used = ((planes.first > 0) & (planes.first != IGNORE)) | (planes.second > 0)
    margin = round(_MARGIN_MM / min(planes.pixel_mm))
    return box_of(used, margin) if used.any() else (slice(None), slice(None))


def _coloured(grey: Pixels, labels: Plane, size: tuple[int, int], contract: Contract) -> Pixels:
    pixels = grey.copy()
    lung = [kind for kind in contract.classes if kind.lung]
    draw_classes(pixels, enlarge(labels, size), [*lung, _Unnamed()], _OPACITY)
    return pixels


def _differences(
    grey: Pixels, first: Plane, second: Plane, size: tuple[int, int], contract: Contract
) -> Pixels:
    lesion = [*contract.lesion_labels, UNNAMED]
    known = (first != IGNORE) & (second != IGNORE)
    a, b = (enlarge(np.isin(s, lesion) & known, size) > 0 for s in (first, second))
    pixels = grey.copy()
    for mask, colour in ((a & b, BOTH), (a & ~b, FIRST_ONLY), (b & ~a, SECOND_ONLY)):
        tint(pixels, mask, colour, _OPACITY)
    return pixels
