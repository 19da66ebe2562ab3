"""The index of a cohort: one page for a folder of `dlild batch`, flagged scans first.

::

    OUT/index.html           the index
    OUT/reports/NAME.html    the report of a scan
    OUT/reports/NAME.jpg     its thumbnail

The page shows the id of a scan, and not its path, which may name a patient.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from PIL import Image

from dlild_client.report.languages import Language, check_language, flag_words, words
from dlild_client.report.page import render, write_report
from dlild_client.report.pictures import JPEG_QUALITY
from dlild_client.results.files import cannot_be_written, write_atomically
from dlild_client.results.overlay import draw_panels, lung_classes
from dlild_client.results.result import Result

INDEX, REPORTS, READINGS = "index.html", "reports", "readings"
THUMBNAIL_WIDTH = 216
"""In pixels: twice what is shown, for sharp screens."""


@dataclass(frozen=True)
class Entry:
    """One scan of the index.

    Attributes
    ----------
    name : str
        Its id, or the key where it has none.
    status : str
        `scored`, `rejected`, `failed`.
    score : float or None
        DL-ILD in percent.
    classes : tuple of float or None
        Percent of all lung, by lesion class.
    flags : tuple of (str, str)
        Code and meaning.
    message : str
        Why it was not scored.
    report, thumbnail : str or None
        Relative addresses, where the files exist.
    """

    name: str
    status: str
    score: float | None
    classes: tuple[float | None, ...]
    flags: tuple[tuple[str, str], ...]
    message: str
    report: str | None
    thumbnail: str | None

    @property
    def order(self) -> tuple[int, int, float]:
        """Flagged scans first, then those that were not scored; high scores before low ones."""
        group = 1 if self.score is None else 0 if self.flags else 2
        return group, -len(self.flags), -(self.score or 0.0)


def write_scan_report(result: Result, folder: Path, name: str, language: str = "en") -> None:
    """Write report and thumbnail of a scan of a batch.

    Parameters
    ----------
    result : Result
    folder : Path
        Of the batch.
    name : str
        File name without its suffix; it stands on the reading sheet as the scan's id.
    language : {"en", "zh"}

    Raises
    ------
    DlildError
        The folder cannot be written.
    """
    reports = folder / REPORTS
    _, coronal = draw_panels(result.image, result.labels, lung_classes(result))
    middle = coronal[len(coronal) // 2]
    size = (THUMBNAIL_WIDTH, max(1, round(THUMBNAIL_WIDTH * middle.height / middle.width)))
    try:
        reports.mkdir(exist_ok=True)
        small = middle.resize(size, Image.Resampling.LANCZOS)
        small.save(reports / f"{name}.jpg", quality=JPEG_QUALITY)
        write_report(result, reports / f"{name}.html", language, scan_id=name)
    except OSError as error:
        raise cannot_be_written(folder, error) from None


def write_index(folder: Path, rows: Iterable[Mapping[str, str]], language: str = "en") -> Path:
    """Write the index of a batch from the rows of its `results.csv`.

    Parameters
    ----------
    folder : Path
        Of the batch.
    rows : iterable of mapping
        Cells by column.
    language : {"en", "zh"}

    Returns
    -------
    Path

    Raises
    ------
    BadSettingsError
        No such language.
    DlildError
        The page cannot be written.
    """
    known = check_language(language)
    found = list(rows)
    classes = _lesion_classes(found)
    entries = sorted((_entry(row, folder, classes, known) for row in found), key=lambda e: e.order)
    page = render(
        "index.html.j2",
        known,
        heading=words("index.title", known),
        scripts=("index.js",),
        images="'self' file: data:",
        entries=entries,
        classes=[words(f"class.{name}", known) for name in classes],
    )
    try:
        write_atomically(folder / INDEX, page)
    except OSError as error:
        raise cannot_be_written(folder, error) from None
    return folder / INDEX


def _lesion_classes(rows: list[Mapping[str, str]]) -> list[str]:
    """Names of lesion classes among the columns that this package has words for."""
    columns = rows[0].keys() if rows else ()
    known = ("ground_glass", "reticulation", "honeycombing", "consolidation")
    return [name for name in known if f"{name}_percent" in columns]


def _entry(
    row: Mapping[str, str], folder: Path, classes: Iterable[str], language: Language
) -> Entry:
    name = row["id"] or row["key"]
    stem = next(
        (s for s in (row["id"], row["key"]) if s and (folder / REPORTS / f"{s}.html").is_file()),
        None,
    )
    scored = row["status"] == "scored"
    thumbnail = stem is not None and (folder / REPORTS / f"{stem}.jpg").is_file()
    return Entry(
        name=name,
        status=row["status"],
        score=_number(row["dl_ild_percent"]) if scored else None,
        classes=tuple(_number(row[f"{c}_percent"]) if scored else None for c in classes),
        flags=tuple((code, flag_words(code, {}, language)) for code in row["flags"].split()),
        message="" if scored else f"{row['error']}: {row['message']}",
        report=f"{REPORTS}/{quote(stem)}.html" if stem and scored else None,
        thumbnail=f"{REPORTS}/{quote(stem)}.jpg" if stem and scored and thumbnail else None,
    )


def _number(cell: str) -> float | None:
    try:
        return float(cell)
    except ValueError:
        return None
