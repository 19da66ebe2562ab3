"""What a clinic can use of the saved model: a table of risks by score, and a nomogram."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dlild_analysis.errors import NotDoneError
from dlild_analysis.prediction import risk
from dlild_analysis.steps.data import Data
from dlild_analysis.steps.model import build_model
from dlild_analysis.steps.presentation import style
from dlild_analysis.steps.presentation.table import Table
from dlild_analysis.steps.presentation.text import joined, percent
from dlild_analysis.steps.step import Analysis, Drawing, Step

ROWS = 9
POINTS = 100.0
CHARACTER = 0.0105
"""Width of a label's character, as a share of the nomogram's axis."""
LINE = 0.25
"""Distance of lines of labels below an axis; axes are 1 apart."""
RISKS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)


@dataclass(frozen=True)
class RiskRow:
    """Risks at one value of the leading input: by horizon, risk, low and high."""

    value: float
    risks: dict[str, tuple[float, float, float]]


@dataclass(frozen=True)
class Axis:
    """One input's axis of the nomogram: what it shows at how many points.

    The marks come first whose labels come first where labels are too near to stand in one line.
    """

    label: str
    ticks: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class RiskTable:
    """What the step found.

    Attributes
    ----------
    input, unit : str
        The input that the table runs over: the score, or the first number.
    others : str
        At which values the other inputs are held.
    rows : tuple of RiskRow
        Rising values, within the data of the fit.
    axes : tuple of Axis
        The nomogram's inputs.
    scales : tuple of Axis
        The nomogram's risks by total points, one for each horizon.
    """

    input: str
    unit: str
    others: str
    rows: tuple[RiskRow, ...]
    axes: tuple[Axis, ...]
    scales: tuple[Axis, ...]


def risk_table(model: dict[str, Any]) -> RiskTable:
    """Tabulate the risks of a model, and lay out its nomogram.

    Points are proportional to the linear predictor: the input with the widest effect within the
    data of the fit has 0 to 100 points.

    Raises
    ------
    NotDoneError
        The model has no input that is a number.
    """
    numbers = [item for item in model["inputs"] if item["kind"] == "number"]
    if not numbers:
        raise NotDoneError("the saved model has no input that is a number")
    lead = next((item for item in numbers if item["name"] == "score"), numbers[0])
    held = {
        item["name"]: item["mean"] if item["kind"] == "number" else item["levels"][0]
        for item in model["inputs"]
    }
    rows = []
    for value in nice_values(lead["low"], lead["high"], ROWS):
        found = risk.risks(model, {**held, lead["name"]: value})
        rows.append(
            RiskRow(
                value,
                {
                    f"{item['horizon_months']:g}": (item["risk"], item["low"], item["high"])
                    for item in found
                },
            )
        )
    others = [
        f"{item['label']} {held[item['name']]:.3g}"
        if item["kind"] == "number"
        else f"{item['label']} {held[item['name']]}"
        for item in model["inputs"]
        if item is not lead
    ]
    axes, least, per_point = _axes(model)
    return RiskTable(
        lead["label"],
        _unit(lead),
        joined(others),
        tuple(rows),
        axes,
        tuple(_scale(base, least, per_point, axes) for base in model["baseline"]),
    )


def nice_values(low: float, high: float, most: int) -> list[float]:
    """List round values within limits, `most` at most."""
    width = high - low
    if width <= 0:
        return [low]
    power = 10.0 ** np.floor(np.log10(width / most))
    step = next(m * power for m in (1, 2, 5, 10, 20, 50) if width / (m * power) <= most - 1)
    first = np.ceil(low / step - 1e-9) * step
    return [float(round(v, 10)) + 0.0 for v in np.arange(first, high + 1e-9 * step, step)]


def heading(item: dict[str, Any]) -> str:
    """Write the name of an input with its unit."""
    unit = _unit(item)
    return f"{item['label']} ({unit})" if unit else str(item["label"])


def _unit(item: dict[str, Any]) -> str:
    return "%" if item["unit"] == "percent" else str(item["unit"])


def _axes(model: dict[str, Any]) -> tuple[tuple[Axis, ...], float, float]:
    """Place every input on its axis; give the least linear predictor, and that of one point."""
    parts: list[tuple[str, list[tuple[str, float]]]] = []
    for item in model["inputs"]:
        terms = [term for term in model["terms"] if term["name"] == item["name"]]
        if item["kind"] == "number":
            nice = nice_values(item["low"], item["high"], 8)
            ends = [value for value in (item["low"], item["high"]) if value not in nice]
            values = [(f"{v:.4g}", v) for v in nice] + [(f"{v:.3g}", v) for v in ends]
            ticks = [(text, terms[0]["beta"] * value) for text, value in values]
            parts.append((heading(item), ticks))
        else:
            effect = {term["level"]: term["beta"] for term in terms}
            levels = [(level, effect.get(level, 0.0)) for level in item["levels"]]
            parts.append((item["label"], levels))
    widest = max(max(e for _, e in ticks) - min(e for _, e in ticks) for _, ticks in parts)
    if widest <= 0:
        raise NotDoneError("no input of the saved model has an effect")
    per_point = widest / POINTS
    least = sum(min(effect for _, effect in ticks) for _, ticks in parts)
    least -= sum(term["beta"] * term["centre"] for term in model["terms"])
    axes = []
    for label, ticks in parts:
        lowest = min(effect for _, effect in ticks)
        axes.append(Axis(label, tuple((text, (e - lowest) / per_point) for text, e in ticks)))
    return tuple(axes), least, per_point


def _scale(base: dict[str, Any], least: float, per_point: float, axes: tuple[Axis, ...]) -> Axis:
    """Place risks by a horizon on the axis of total points."""
    total = sum(max(points for _, points in axis.ticks) for axis in axes)
    ticks = []
    for value in RISKS:
        predictor = np.log(-np.log1p(-value) / base["cumulative_hazard"])
        points = (predictor - least) / per_point
        if 0 <= points <= total:
            ticks.append((f"{100 * value:g}", float(points)))
    return Axis(f"Risk by {base['horizon_months']:g} months (%)", tuple(ticks))


def sentences(result: RiskTable, _data: Data) -> list[str]:
    """Say what table and nomogram are for."""
    others = f" with {result.others}" if result.others else ""
    return [
        (
            f"Risks of the saved model by {result.input}{others} are tabulated; the nomogram adds "
            "up points of every input. Both hold within the data of the fit, for research only."
        )
    ]


def table(result: RiskTable, _analysis: Analysis) -> Table | None:
    """Risks by score."""
    months = list(result.rows[0].risks) if result.rows else []
    return Table(
        "risks",
        "Risk of progression by the saved model",
        (
            f"{result.input} ({result.unit})" if result.unit else result.input,
            *(f"By {month} months (95 % CI)" for month in months),
        ),
        [
            (
                f"{row.value:g}",
                *(
                    f"{percent(value)} ({percent(low)} to {percent(high)})"
                    for value, low, high in row.risks.values()
                ),
            )
            for row in result.rows
        ],
        f"Other inputs: {result.others}." if result.others else "",
    )


def figure(result: RiskTable, _analysis: Analysis) -> Figure | None:
    """Draw the nomogram."""
    total = sum(max(points for _, points in axis.ticks) for axis in result.axes)
    lines = len(result.axes) + len(result.scales) + 2
    made, grid = style.figure(style.TWO_COLUMNS, 0.55 * lines + 0.3)
    axes: Axes = grid[0][0]
    axes.set_axis_off()
    axes.set(xlim=(-0.42, 1.02), ylim=(-lines + 0.4, 0.6))
    tens = tuple((f"{v:g}", float(v)) for v in range(0, 101, 10))
    rows = [(Axis("Points", tens), POINTS), *((axis, POINTS) for axis in result.axes)]
    steps = tuple((f"{v:g}", v) for v in nice_values(0.0, total, 24))
    rows += [(Axis("Total points", steps), total), *((axis, total) for axis in result.scales)]
    for index, (axis, width) in enumerate(rows):
        _draw_axis(axes, axis, -float(index), width)
    return made


def _draw_axis(axes: Axes, axis: Axis, y: float, width: float) -> None:
    axes.text(-0.42, y, axis.label, va="center", fontsize=7)
    if not axis.ticks:
        return
    places = [points / width for _, points in axis.ticks]
    axes.plot([min(places), max(places)], [y, y], color="black", linewidth=0.8)
    for place in places:
        axes.plot([place, place], [y, y + 0.12], color="black", linewidth=0.8)
    texts = [text for text, _ in axis.ticks]
    for text, place, line in zip(texts, places, label_lines(texts, places), strict=True):
        above = line == 0
        axes.text(
            place,
            y + 0.16 if above else y - 0.06 - LINE * (line - 1),
            text,
            ha="center",
            va="bottom" if above else "top",
            fontsize=6,
        )


def label_lines(texts: Sequence[str], places: Sequence[float]) -> list[int]:
    """Choose lines for labels so that none covers another: 0 above the axis, 1, 2 ... below it.

    Parameters
    ----------
    places : sequence of float
        Where the labels are centred, as shares of the axis.

    Returns
    -------
    list of int
        The first line in which each label, in the order given, has room.
    """
    lines: list[int] = []
    spans: list[tuple[int, float, float]] = []
    for text, place in zip(texts, places, strict=True):
        half = 0.5 * CHARACTER * (1 + sum(1 + (ord(char) > 0x2E80) for char in text))
        line = 0
        while any(at == line and place - half < b and a < place + half for at, a, b in spans):
            line += 1
        spans.append((line, place - half, place + half))
        lines.append(line)
    return lines


RISK_TABLE: Step[RiskTable] = Step(
    "risk_table",
    "Risk table and nomogram",
    compute=lambda analysis, _: risk_table(build_model(analysis)),
    sentences=sentences,
    tables=(table,),
    figures=(
        Drawing(
            "nomogram",
            figure,
            "Nomogram of the saved model: read the points of each input, add them, and read the "
            "risk below the total.",
        ),
    ),
)
