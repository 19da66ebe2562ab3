"""The report of a comparison: two scans of one patient side by side, in one HTML file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dlild_client.report.facts import Facts, gather_facts
from dlild_client.report.languages import Language, check_language, words
from dlild_client.report.page import render, viewer_texts
from dlild_client.report.pictures import data_url, read_overlay, read_pictures
from dlild_client.report.viewer import MOST_BYTES, viewer_data
from dlild_client.results.compare import Comparison, Difference, Pair


@dataclass(frozen=True)
class Row:
    """One quantity of both scans: title, colour of a class, and its difference."""

    title: str
    colour: tuple[int, int, int] | None
    change: Difference


def comparison_page(
    comparison: Comparison, scans: Sequence[Path] | None = None, language: str = "en"
) -> str:
    """Render the report of a comparison.

    Parameters
    ----------
    comparison : Comparison
    scans : sequence of Path, optional
        The scans that were scored, in the order of the results: the first and the last are shown.
        Without them the page shows each `overlay.png` that lies beside its result.
    language : {"en", "zh"}

    Returns
    -------
    str
        HTML.

    Raises
    ------
    BadSettingsError
        No such language.
    InputError
        A scan cannot be read, or is another one than was scored.
    """
    known = check_language(language)
    facts = [gather_facts(result.document, known) for result in comparison.results]
    shown = (comparison.total.earlier, comparison.total.later)
    names = [words("compare.scan", known, index=i + 1, count=len(facts)) for i in shown]
    views, overlays = [], []
    for name, i in zip(names, shown, strict=True):
        stored = comparison.results[i]
        if scans:
            pictures = read_pictures(stored, scans[i])
            data = viewer_data(pictures, facts[i].classes, most_bytes=MOST_BYTES // len(shown))
            views.append({"name": name, "data": data})
        elif (overlay := read_overlay(stored)) is not None:
            overlays.append({"name": name, "picture": data_url(overlay)})
    total = comparison.total
    return render(
        "comparison.html.j2",
        known,
        heading=words("compare.title", known),
        scripts=("viewer.js",) if views else (),
        names=names,
        facts=facts[-1],
        results=facts,
        pair=total,
        score=total.score,
        classes=_class_rows(total, facts[-1]),
        zones=_zone_rows(total, known),
        flags=_flag_lines(total, known),
        days=comparison.days,
        slope=comparison.slope,
        scans=views,
        overlays=overlays,
        texts=viewer_texts(known),
        spacing=f"{facts[-1].spacing_mm:g}",
    )


def _class_rows(pair: Pair, facts: Facts) -> list[Row]:
    return [
        Row(c.title, c.colour, pair.classes[c.name])
        for c in facts.classes
        if c.name in pair.classes
    ]


def _zone_rows(pair: Pair, language: Language) -> list[Row]:
    return [Row(words(f"zone.{name}", language), None, z) for name, z in pair.zones.items()]


def _flag_lines(pair: Pair, language: Language) -> list[tuple[str, str]]:
    """Code and sentence of what differs between the scans."""
    return [
        (
            code,
            words(
                f"differs.{code}",
                language,
                earlier=_value(values, "earlier"),
                later=_value(values, "later"),
            ),
        )
        for code, values in pair.flags.items()
    ]


def _value(values: Mapping[str, Any], name: str) -> str:
    value = values[name]
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "-"
    return "?" if value is None else str(value)
