"""The report of a reader study: one JSON file, one HTML page, and a picture of every slice."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from jinja2 import ChoiceLoader, PackageLoader

from dlild_client.contract import Contract
from dlild_export.evaluation.document import plain
from dlild_export.evaluation.page import environment
from dlild_export.evaluation.pictures import bland_altman, scatter
from dlild_export.readers.compare import Comparison, SliceResult

SCHEMA_VERSION = 1
JSON_NAME, PAGE_NAME, PICTURES = "reading.json", "reading.html", "pictures"


@dataclass(frozen=True)
class About:
    """What was compared.

    Attributes
    ----------
    study : str
    labels : str
        Where the label maps come from.
    scans : int
    """

    study: str
    labels: str
    scans: int


def write_reading_report(
    comparisons: Sequence[Comparison],
    about: About,
    contract: Contract,
    out: Path,
    *,
    shown: int = 8,
) -> Path:
    """Write `reading.json` and `reading.html`.

    Parameters
    ----------
    comparisons : sequence of Comparison
    about : About
    contract : Contract
        Titles of the classes.
    out : pathlib.Path
        Folder; made if need be. `pictures/` in it holds the slices that were drawn.
    shown : int
        Slices to show on the page, those with the least Dice first.

    Returns
    -------
    pathlib.Path
        The page.
    """
    out.mkdir(parents=True, exist_ok=True)
    (out / JSON_NAME).write_text(to_json(comparisons, about), "utf-8")
    made = environment()
    assert made.loader is not None
    made.loader = ChoiceLoader([PackageLoader("dlild_export.readers"), made.loader])
    text = made.get_template("reading.html.j2").render(
        about=about,
        titles={c.name: c.title for c in contract.classes},
        comparisons=[
            _Shown(c, _plots(c), _pictures(c, out / PICTURES, shown)) for c in comparisons
        ],
    )
    page = out / PAGE_NAME
    page.write_text(text, "utf-8")
    return page


def to_json(comparisons: Sequence[Comparison], about: About) -> str:
    """Return the text of `reading.json`; a figure without a value is null."""
    document = {
        "schema_version": SCHEMA_VERSION,
        "about": asdict(about),
        "comparisons": [asdict(c) for c in comparisons],
        "research_use_only": True,
    }
    return json.dumps(plain(document), indent=2, allow_nan=False) + "\n"


@dataclass(frozen=True)
class _Shown:
    """A comparison as the page shows it."""

    c: Comparison
    plots: dict[str, str]
    pictures: list[tuple[SliceResult, str]]


def _plots(c: Comparison) -> dict[str, str]:
    known = [
        s for s in c.slices if math.isfinite(s.first_percent) and math.isfinite(s.second_percent)
    ]
    if c.over_slices is None or not known:
        return {}
    values = [s.first_percent for s in known], [s.second_percent for s in known]
    groups = [s.scan for s in known]
    axes: dict[str, Any] = {"labels": (f"{c.first} (%)", f"{c.second} (%)")}
    limits = c.over_slices.score.limits
    return {
        "scatter": scatter(*values, groups, **axes),
        "bland_altman": bland_altman(*values, groups, limits, **axes),
    }


def _pictures(c: Comparison, folder: Path, shown: int) -> list[tuple[SliceResult, str]]:
    drawn = sorted(
        (s for s in c.slices if s.picture and math.isfinite(s.dice)), key=lambda s: s.dice
    )
    found = []
    for s in drawn[:shown]:
        assert s.picture is not None
        content = base64.b64encode((folder / s.picture).read_bytes()).decode()
        found.append((s, f"data:image/png;base64,{content}"))
    return found
