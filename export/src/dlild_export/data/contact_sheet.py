"""A contact sheet: what the cases of a dataset look like, at a glance.

Lung window (level -600, width 1500 HU); the patient's right is on the left of the picture.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from dlild_client.contract import Contract
from dlild_client.contract.score import score_labels
from dlild_client.preparation.grid import to_grid
from dlild_client.results.slice_picture import (
    draw_classes,
    enlarge,
    grey_pixels,
    panel_size,
    tint,
    to_image,
)
from dlild_export.data.crop import box_of
from dlild_export.data.labels import IGNORE
from dlild_export.data.layout import read_dataset
from dlild_export.data.prepare import labels_to_grid, prepared_files, read_extras, read_info
from dlild_export.data.scans import label_rule, read_scan

PANEL_WIDTH = 264
CASES_A_ROW = 3
GAP, TITLE, LEGEND = 12, 42, 36
OPACITY = 0.5
MARGIN_MM = 12.0
BACKGROUND, TEXT, DIM = (14, 17, 22), (232, 236, 241), (150, 158, 168)
IGNORED_COLOUR = (120, 120, 120)


@dataclass(frozen=True)
class Tile:
    """One case of the sheet.

    Attributes
    ----------
    title, remark : str
        Two lines above the pictures.
    hu : ndarray, shape (z, y, x)
        On the grid, z to the head, y to the back, x to the left.
    labels : ndarray of uint8, shape (z, y, x)
    spacing_mm : tuple of float
    """

    title: str
    remark: str
    hu: npt.NDArray[np.int16]
    labels: npt.NDArray[np.uint8]
    spacing_mm: tuple[float, float, float]


def read_tiles(
    folder: Path,
    contract: Contract,
    *,
    count: int,
    overrides: Mapping[str, str] | None = None,
) -> Iterator[Tile]:
    """Read cases of a dataset or of a folder of prepared cases, evenly spread.

    Parameters
    ----------
    folder : Path
    contract : Contract
    count : int
        At most so many.
    overrides : mapping of str to str, optional
        Label names, as for `check`.

    Yields
    ------
    Tile
    """
    if any(folder.glob("*.npz")):
        for path in _spread(prepared_files(folder), count):
            info = read_info(path)
            with np.load(path) as stored:
                yield _tile(info, stored["hu"], stored["labels"], info["spacing_mm"], contract)
        return
    dataset = read_dataset(folder)
    rule = label_rule(dataset, contract, overrides)
    extras = read_extras(dataset)
    for case in _spread(list(dataset.cases), count):
        scan = read_scan(dataset, case, rule)
        grid = to_grid(scan.volume, contract)
        labels = labels_to_grid(scan.volume, scan.labels, contract)
        info = {"name": case.name} | extras.get(case.name, {})
        yield _tile(info, grid.array, labels, grid.spacing_mm, contract)


def _spread(items: list[Any], count: int) -> list[Any]:
    indices = np.unique(np.linspace(0, len(items) - 1, min(count, len(items))).round().astype(int))
    return [items[i] for i in indices]


def _tile(
    info: Mapping[str, Any],
    hu: npt.NDArray[np.int16],
    labels: npt.NDArray[np.uint8],
    spacing: Any,
    contract: Contract,
) -> Tile:
    percent = score_labels(labels, contract.classes)
    words = [str(info["name"])]
    if "pattern" in info:
        words.append(str(info["pattern"]).upper())
    words.append("no lung" if np.isnan(percent) else f"DL-ILD {percent:.1f} %")
    remarks = [
        text.format(info[key]) for key, text in _REMARKS.items() if _is_number(info.get(key))
    ]
    z, y, x = (float(s) for s in spacing)
    return Tile("   ".join(words), "   ".join(remarks), hu, labels, (z, y, x))


_REMARKS = {
    "thickness_mm": "{:.3g} mm slices",
    "noise_hu": "noise {:.0f} HU",
    "sharpness": "kernel {:+.1f}",
}


def _is_number(value: object) -> bool:
    return isinstance(value, int | float)


def draw_sheet(tiles: list[Tile], contract: Contract) -> Image.Image:
    """Draw the sheet.

    Parameters
    ----------
    tiles : list of Tile
    contract : Contract
        Classes and colours.

    Returns
    -------
    Image
        RGB.
    """
    rows = [tiles[i : i + CASES_A_ROW] for i in range(0, len(tiles), CASES_A_ROW)]
    drawn = [[_draw_tile(tile, contract) for tile in row] for row in rows]
    heights = [max(picture.height for picture in row) for row in drawn]
    columns = min(len(tiles), CASES_A_ROW)
    width = columns * (2 * PANEL_WIDTH + 2 + 2 * GAP)
    size = (max(width, 780), sum(heights) + len(rows) * (TITLE + 2 * GAP) + LEGEND + GAP)
    sheet = Image.new("RGB", size, BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    top = GAP
    for row, pictures, height in zip(rows, drawn, heights, strict=True):
        for i, (tile, picture) in enumerate(zip(row, pictures, strict=True)):
            left = GAP + i * (2 * PANEL_WIDTH + 2 + 2 * GAP)
            draw.text((left, top), tile.title, font=ImageFont.load_default(16), fill=TEXT)
            draw.text((left, top + 20), tile.remark, font=ImageFont.load_default(13), fill=DIM)
            sheet.paste(picture, (left, top + TITLE))
        top += TITLE + height + 2 * GAP
    _legend(draw, contract, top)
    return sheet


def _draw_tile(tile: Tile, contract: Contract) -> Image.Image:
    """Axial above coronal, each plain on the left and labelled on the right."""
    margin = max(1, round(MARGIN_MM / min(tile.spacing_mm)))
    box = box_of(tile.labels, margin) if tile.labels.any() else (slice(None),) * 3
    hu, labels = tile.hu[box], tile.labels[box]
    lesion = np.isin(labels, contract.lesion_labels)
    shown = lesion if lesion.any() else labels > 0
    z, y = _fullest(shown, 0), _fullest(shown, 1)
    sz, sy, sx = tile.spacing_mm
    # z grows to the head, which belongs at the top of a coronal slice.
    pairs = [
        _panels(hu[z], labels[z], sy, sx, contract),
        _panels(hu[::-1, y], labels[::-1, y], sz, sx, contract),
    ]
    height = sum(plain.height for plain, _ in pairs) + 2
    block = Image.new("RGB", (2 * PANEL_WIDTH + 2, height), BACKGROUND)
    top = 0
    for plain, labelled in pairs:
        block.paste(plain, (0, top))
        block.paste(labelled, (PANEL_WIDTH + 2, top))
        top += plain.height + 2
    return block


def _fullest(mask: npt.NDArray[np.bool_], axis: int) -> int:
    others = tuple(a for a in range(3) if a != axis)
    return int(np.argmax(mask.sum(axis=others)))


def _panels(
    image: npt.NDArray[np.int16],
    labels: npt.NDArray[np.uint8],
    row_mm: float,
    column_mm: float,
    contract: Contract,
) -> tuple[Image.Image, Image.Image]:
    """One slice without and with its labels: lesions tinted, lung outlined."""
    size = panel_size(image.shape, (row_mm, column_mm), PANEL_WIDTH)
    plain = grey_pixels(image, size)
    pixels, large = plain.copy(), enlarge(labels, size)
    tint(pixels, large == IGNORE, IGNORED_COLOUR, OPACITY)
    draw_classes(pixels, large, [kind for kind in contract.classes if kind.lung], OPACITY)
    return to_image(plain), to_image(pixels)


def _legend(draw: ImageDraw.ImageDraw, contract: Contract, top: int) -> None:
    font, left = ImageFont.load_default(15), GAP
    for kind in contract.classes:
        if not kind.lung:
            continue
        # Lung without lesion is drawn as an outline, so its key is hollow.
        fill = kind.colour if kind.lesion else None
        draw.rectangle((left, top + 6, left + 16, top + 22), fill, kind.colour, 2)
        draw.text((left + 24, top + 14), kind.title, font=font, fill=TEXT, anchor="lm")
        left += 24 + round(draw.textlength(kind.title, font=font)) + 26
    note = "window -600/1500 HU, the patient's right on the left"
    draw.text((left, top + 14), note, font=font, fill=DIM, anchor="lm")
