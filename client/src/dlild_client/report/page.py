"""The report of one scan: one HTML file that asks no host for anything.

Its Content-Security-Policy forbids every request, and allows no script but those that are written
into it, by their digests.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

from dlild_client.report.facts import DENSITY, gather_facts
from dlild_client.report.languages import Language, check_language, words
from dlild_client.report.pictures import Pictures, compose_montage, data_url
from dlild_client.report.reading import sheet_data
from dlild_client.report.viewer import WINDOWS, viewer_data
from dlild_client.results.result import Result
from dlild_client.results.stored import REPORT as REPORT  # noqa: PLC0414


def write_report(
    result: Result,
    path: Path,
    language: str = "en",
    *,
    title: str | None = None,
    scan_id: str | None = None,
) -> None:
    """Write the report of a result that was just scored.

    Parameters
    ----------
    result : Result
    path : Path
        Of the HTML file.
    language, title, scan_id
        As of `report_page`.

    Raises
    ------
    OSError
        The file cannot be written.
    """
    pictures = Pictures(result.image, result.labels)
    page = report_page(result.to_dict(), pictures, language=language, title=title, scan_id=scan_id)
    path.write_text(page, encoding="utf-8")


def report_page(
    document: Mapping[str, Any],
    pictures: Pictures | None = None,
    *,
    language: str = "en",
    title: str | None = None,
    scan_id: str | None = None,
    blind: bool = False,
    montage: Image.Image | None = None,
) -> str:
    """Render the report of a result.

    Parameters
    ----------
    document : mapping
        Fields of `result.json`.
    pictures : Pictures, optional
        HU and label map, for viewer and reading sheet.
    language : {"en", "zh"}
    title : str, optional
        Heading of the page. It names a patient only where the caller does.
    scan_id : str, optional
        Id of the scan on the reading sheet; default: the start of the series' digest.
    blind : bool
        Cover score, flags and label map until a reader has saved a reading.
    montage : Image, optional
        Shown where there are no pictures: `overlay.png`.

    Returns
    -------
    str
        HTML.

    Raises
    ------
    BadSettingsError
        No such language.
    UnreadableFileError
        A field of the document is missing or of a wrong type.
    """
    known = check_language(language)
    facts = gather_facts(document, known)
    scans = []
    if pictures is not None:
        scans = [{"name": None, "data": viewer_data(pictures, facts.classes, blind=blind)}]
        montage = compose_montage(pictures, facts)
    return render(
        "report.html.j2",
        known,
        heading=title or words("title", known),
        scripts=("viewer.js", "reading.js") if scans else (),
        facts=facts,
        scans=scans,
        texts=viewer_texts(known),
        blind=blind,
        # A picture with lesions in it would tell a blind reader.
        montage=None if montage is None or blind else data_url(montage),
        spacing=f"{facts.spacing_mm:g}",
        scan_id=scan_id or facts.series_digest.removeprefix("sha256:")[:12],
        sheet=sheet_data(facts.series_digest, known, [c.name for c in facts.lesion_classes]),
    )


def render(template: str, language: Language, *, scripts: Sequence[str], **values: Any) -> str:
    """Render a template of this package; it may show embedded pictures, and run `scripts` only."""
    return (
        _environment()
        .get_template(template)
        .render(
            t=partial(_translate, language),
            scripts=[_script(name) for name in scripts],
            style=_asset("style.css"),
            windows=WINDOWS,
            density_columns=DENSITY,
            images=values.pop("images", "data:"),
            **values,
        )
    )


def viewer_texts(language: Language) -> dict[str, str]:
    """Texts that the script of the viewer fills in or shows."""
    # Its fields are filled in by the script.
    return {
        "slice_of": words("slice_of", language, index="{index}", count="{count}"),
        "no_viewer": words("no_viewer", language),
    }


def _translate(language: Language, key: str, **values: Any) -> str:
    return words(key, language, **values)


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("dlild_client.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


@cache
def _asset(name: str) -> str:
    return (Path(__file__).parent / "templates" / name).read_text(encoding="utf-8")


@cache
def _script(name: str) -> dict[str, str]:
    """Text of a script, and its digest for the Content-Security-Policy."""
    text = _asset(name)
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")
    return {"text": text, "digest": f"sha256-{digest}"}
