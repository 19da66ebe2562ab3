"""Renders a result: axial and coronal slices with coloured lesions, legend and score.

Radiological convention: the right of the patient is on the left of the picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from dlild_client.contract.schema import Shape
from dlild_client.results.result import Result
from dlild_client.results.slice_picture import (
    DrawnClass,
    draw_classes,
    enlarge,
    grey_pixels,
    panel_size,
    to_image,
)
from dlild_client.volume import Volume

PANEL_WIDTH = 440
GAP = 14
HEADER = 96
LEGEND = 56
LESION_OPACITY = 0.55
MARGIN_MM = 15.0
BACKGROUND = (14, 17, 22)
TEXT = (232, 236, 241)
DIM = (150, 158, 168)

Pixels = npt.NDArray[np.generic]


def draw_overlay(result: Result) -> Image.Image:
    """Render three axial and three coronal slices of a result.

    Parameters
    ----------
    result : Result

    Returns
    -------
    Image
        RGB.
    """
    return _compose(result, *draw_panels(result.image, result.labels, lung_classes(result)))


def lung_classes(result: Result) -> tuple[DrawnClass, ...]:
    """Return the classes that count as lung."""
    return tuple(c for c in result.contract.classes if c.lung)


Panels = tuple[list[Image.Image], list[Image.Image]]
_DRAWN: WeakKeyDictionary[Volume, Panels] = WeakKeyDictionary()
"""Panels of label maps that are in use: overlay, report and summary page show the same ones."""


def draw_panels(image: Volume, labels: Volume, classes: Sequence[DrawnClass]) -> Panels:
    """Render three axial slices, from above down, and three coronal ones, from front to back.

    Parameters
    ----------
    image, labels : Volume
        HU and label map on one grid, LPS.
    classes : sequence of DrawnClass
        Those that count as lung.

    Returns
    -------
    axial, coronal : list of Image
        RGB, `PANEL_WIDTH` wide, cropped to the lungs with a margin; drawn once for a label map,
        and not to be changed.
    """
    if labels not in _DRAWN:
        start, stop = crop_to_lungs(labels)
        hu, kinds = image.array[_box(start, stop)], labels.array[_box(start, stop)]
        spacing = image.spacing_mm
        _DRAWN[labels] = (
            [_axial(hu, kinds, z, spacing, classes) for z in _levels(kinds, 0)[::-1]],
            [_coronal(hu, kinds, y, spacing, classes) for y in _levels(kinds, 1)],
        )
    return _DRAWN[labels]


def crop_to_lungs(labels: Volume) -> tuple[Shape, Shape]:
    """Bounds (z, y, x) of the lungs with a margin, in voxels; of all where nothing is labelled."""
    bounds = []
    for axis, (length, spacing) in enumerate(zip(labels.shape, labels.spacing_mm, strict=True)):
        others = tuple(a for a in range(3) if a != axis)
        used = np.flatnonzero((labels.array != 0).any(axis=others))
        margin = round(MARGIN_MM / spacing)
        low, high = (int(used[0]), int(used[-1]) + 1) if len(used) else (0, length)
        bounds.append((max(0, low - margin), min(length, high + margin)))
    (z0, z1), (y0, y1), (x0, x1) = bounds
    return (z0, y0, x0), (z1, y1, x1)


def _box(start: Shape, stop: Shape) -> tuple[slice, ...]:
    return tuple(slice(a, b) for a, b in zip(start, stop, strict=True))


def _levels(labels: Pixels, axis: int) -> list[int]:
    """Return the indices at a quarter, half and three quarters of the lungs along an axis."""
    others = tuple(a for a in range(3) if a != axis)
    used = np.flatnonzero(np.asarray(labels != 0).any(axis=others))
    low, high = (int(used[0]), int(used[-1])) if len(used) else (0, labels.shape[axis] - 1)
    return [round(low + (high - low) * share) for share in (0.25, 0.5, 0.75)]


def _axial(
    image: Pixels,
    labels: Pixels,
    z: int,
    spacing: tuple[float, float, float],
    classes: Sequence[DrawnClass],
) -> Image.Image:
    # Rows run to the back, columns to the left of the patient: the radiological view.
    return _panel(image[z], labels[z], spacing[1], spacing[2], classes)


def _coronal(
    image: Pixels,
    labels: Pixels,
    y: int,
    spacing: tuple[float, float, float],
    classes: Sequence[DrawnClass],
) -> Image.Image:
    # z increases towards the head, which belongs at the top.
    return _panel(image[::-1, y], labels[::-1, y], spacing[0], spacing[2], classes)


def _panel(
    image: Pixels, labels: Pixels, row_mm: float, column_mm: float, classes: Sequence[DrawnClass]
) -> Image.Image:
    size = panel_size(image.shape, (row_mm, column_mm), PANEL_WIDTH)
    pixels = grey_pixels(image, size)
    draw_classes(pixels, enlarge(labels, size), classes, LESION_OPACITY)
    panel = to_image(pixels)
    _side_marks(panel)
    return panel


def _side_marks(panel: Image.Image) -> None:
    draw, font = ImageDraw.Draw(panel), ImageFont.load_default(18)
    middle = panel.height // 2
    for text, x, anchor in (("R", 6, "lm"), ("L", panel.width - 6, "rm")):
        draw.text(
            (x, middle),
            text,
            font=font,
            fill=TEXT,
            anchor=anchor,
            stroke_width=2,
            stroke_fill=(0, 0, 0),
        )


def _compose(result: Result, axial: list[Image.Image], coronal: list[Image.Image]) -> Image.Image:
    width = 3 * PANEL_WIDTH + 4 * GAP
    heights = [max(p.height for p in row) for row in (axial, coronal)]
    captions = 26
    height = HEADER + sum(heights) + 2 * captions + 3 * GAP + LEGEND
    sheet = Image.new("RGB", (width, height), BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    _header(draw, result, width)
    top = HEADER
    for title, row, tall in (
        ("Axial, from above down", axial, heights[0]),
        ("Coronal, from front to back", coronal, heights[1]),
    ):
        draw.text((GAP, top), title, font=ImageFont.load_default(16), fill=DIM)
        for i, panel in enumerate(row):
            sheet.paste(panel, (GAP + i * (PANEL_WIDTH + GAP), top + captions))
        top += captions + tall + GAP
    _legend(draw, result, top)
    return sheet


def _header(draw: ImageDraw.ImageDraw, result: Result, width: int) -> None:
    draw.text(
        (GAP, 14),
        f"DL-ILD {result.dl_ild_percent:.1f} %",
        font=ImageFont.load_default(40),
        fill=TEXT,
    )
    line = (
        f"lung {result.lung_volume_ml:.0f} mL   lesions {result.lesion_volume_ml:.0f} mL   "
        f"{result.model.name} {result.model.version}, {result.model.engine} "
        f"{result.model.precision}"
    )
    draw.text((GAP, 64), line, font=ImageFont.load_default(17), fill=DIM)
    draw.text(
        (width - GAP, 22),
        "RESEARCH USE ONLY",
        font=ImageFont.load_default(22),
        fill=(255, 176, 86),
        anchor="ra",
    )
    if result.flags:
        flags = "flags: " + ", ".join(f.replace("_", " ") for f in result.flags)
        draw.text(
            (width - GAP, 64),
            flags,
            font=ImageFont.load_default(17),
            fill=(255, 176, 86),
            anchor="ra",
        )


def _legend(draw: ImageDraw.ImageDraw, result: Result, top: int) -> None:
    font, x = ImageFont.load_default(17), GAP
    for kind in result.contract.classes:
        if not kind.lung:
            continue
        share = result.classes[kind.name].percent_of_lung
        # Lung without lesion is drawn as an outline, so its key is hollow.
        fill = kind.colour if kind.lesion else None
        draw.rectangle((x, top + 8, x + 18, top + 26), fill=fill, outline=kind.colour, width=2)
        text = f"{kind.title}  {share:.1f} %"
        draw.text((x + 27, top + 17), text, font=font, fill=TEXT, anchor="lm")
        x += 27 + round(draw.textlength(text, font=font)) + 30
