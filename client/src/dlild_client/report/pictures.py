"""Pictures of a page: HU and label map of a scan, and the montage that is drawn of them."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from dlild_client.errors import UnreadableFileError
from dlild_client.reading.read import read_volume
from dlild_client.report.facts import Facts
from dlild_client.results.overlay import BACKGROUND, GAP, PANEL_WIDTH, draw_panels
from dlild_client.results.stored import OVERLAY, StoredResult
from dlild_client.volume import Volume

JPEG_QUALITY = 85


@dataclass(frozen=True, eq=False)
class Pictures:
    """HU and label map of one scan, on one grid in LPS."""

    image: Volume
    labels: Volume


def read_pictures(stored: StoredResult, scan: Path, series: str | None = None) -> Pictures:
    """Read the scan of a stored result again, and its label map.

    Raises
    ------
    InputError
        One of them cannot be read, or they are not of this result.
    """
    labels = stored.labels()
    return Pictures(stored.image(lambda: read_volume(scan, series=series), labels), labels)


def read_overlay(stored: StoredResult) -> Image.Image | None:
    """Read `overlay.png` of a stored result; None where there is none.

    Raises
    ------
    UnreadableFileError
        It is no picture.
    """
    path = stored.file(OVERLAY)
    if path is None:
        return None
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        raise UnreadableFileError(
            f"{OVERLAY}: not a picture; remove it, or score the scan again"
        ) from None


def compose_montage(pictures: Pictures, facts: Facts) -> Image.Image:
    """Put the axial slices above the coronal ones, in one picture."""
    rows = draw_panels(pictures.image, pictures.labels, facts.classes)
    heights = [max(panel.height for panel in row) for row in rows]
    sheet = Image.new("RGB", (3 * PANEL_WIDTH + 2 * GAP, sum(heights) + GAP), BACKGROUND)
    for row, top in zip(rows, (0, heights[0] + GAP), strict=True):
        for i, panel in enumerate(row):
            sheet.paste(panel, (i * (PANEL_WIDTH + GAP), top))
    return sheet


def data_url(image: Image.Image) -> str:
    """Encode a picture as a JPEG within the page."""
    file = io.BytesIO()
    image.convert("RGB").save(file, "JPEG", quality=JPEG_QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode('ascii')}"
