"""The flow of patients, in sentences, as a table and as a figure."""

from __future__ import annotations

import textwrap
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text

from dlild_analysis.pipeline import Analysis
from dlild_analysis.report import style
from dlild_analysis.report.table import Table
from dlild_analysis.report.text import DASH, joined

BOX = {"boxstyle": "round,pad=0.5", "facecolor": "white", "edgecolor": style.GREY, "linewidth": 0.8}
ARROW = {"arrowstyle": "-|>", "color": style.GREY, "linewidth": 0.8}


def sentences(values: dict[str, Any]) -> list[str]:
    """Tell who was left out on the way from the table to the main models."""
    told = [head(values)]
    for item in values["models"]:
        if not item["main"]:
            continue
        words = f"{item['label']}: {item['n']} of {item['eligible']} patients"
        if item["because"]:
            told.append(f"{words}, but it was not done, because {item['because']}.")
        elif item["missing"]:
            told.append(f"{words}; missing: {missing(item)}.")
        else:
            told.append(f"{words}.")
    return told


def head(values: dict[str, Any]) -> str:
    """Tell how the table became the cohort, and whose outcome is known."""
    table, left = values["table"], values["left_out"]
    total = sum(item["patients"] for item in left)
    words = f"The table had {table['patients']} patients in {table['rows']} rows"
    if total:
        reasons = joined([f"{item['patients']}: {item['reason']}" for item in left])
        words += f"; {total} were left out ({reasons}), so that {values['cohort']} remained"
    outcome, horizon = values["outcome"], values["horizon"]
    return (
        f"{words}. The outcome of {outcome['known']} was known, {outcome['events']} with the "
        f"event, and of {horizon['known']} the status at {horizon['months']:g} months."
    )


def missing(item: dict[str, Any]) -> str:
    """Name what the patients lack; a patient may lack several."""
    return joined([f"{gap['label']} {gap['patients']}" for gap in item["missing"]])


def table(analysis: Analysis) -> Table | None:
    """From the table to each model."""
    values = analysis.flow
    if not values:
        return None
    first, outcome, horizon = values["table"], values["outcome"], values["horizon"]
    rows = [(f"In the table ({first['rows']} rows)", str(first["patients"]), DASH, DASH)]
    rows += [
        (f"Left out: {item['reason']}", f"\N{MINUS SIGN}{item['patients']}", DASH, DASH)
        for item in values["left_out"]
    ]
    rows += [
        ("In the cohort", str(values["cohort"]), DASH, DASH),
        ("Outcome known", str(outcome["known"]), str(outcome["events"]), DASH),
        (
            f"Status at {horizon['months']:g} months known",
            str(horizon["known"]),
            str(horizon["progressed"]),
            DASH,
        ),
    ]
    rows += [
        (
            item["label"] + (f" (not done, because {item['because']})" if item["because"] else ""),
            f"{item['n']} of {item['eligible']}",
            str(item["events"]),
            missing(item) or DASH,
        )
        for item in values["models"]
    ]
    return Table(
        "table16_flow",
        "Flow of patients from the table to each model",
        ("Stage", "Patients", "Events", "Left out for missing values"),
        rows,
        "A patient who lacks several values is counted at each of them.",
    )


def figure(analysis: Analysis) -> Figure | None:
    """Draw the flow: what remains on the left, who left on the right, the models below."""
    values = analysis.flow
    if not values:
        return None
    stages, models = _stages(values), [item for item in values["models"] if item["main"]]
    made, grid = style.figure(style.TWO_COLUMNS, 1.0 * (len(stages) + 1) + 0.8)
    axes: Axes = grid[0][0]
    axes.set_axis_off()
    axes.set(xlim=(0, 1), ylim=(-1.0, len(stages)))
    before: Text | None = None
    for index, (kept, left) in enumerate(stages):
        y = len(stages) - 1 - index + 0.5
        box = _box(axes, 0.3, y, kept)
        if before is not None:
            _arrow(axes, before, box)
        before = box
        if left:
            _arrow(axes, (0.3, y - 0.5), _box(axes, 0.78, y - 0.5, left, width=44))
    for place, item in enumerate(models):
        state = f"n = {item['n']} of {item['eligible']}\n{item['events']} events"
        if item["because"]:
            state = "not done"
        elif item["missing"]:
            state += f"\nmissing: {missing(item)}"
        model = _box(axes, (place + 0.5) / len(models), -0.6, f"{item['label']}\n{state}", width=20)
        if before is not None:
            _arrow(axes, before, model)
    return made


def _stages(values: dict[str, Any]) -> list[tuple[str, str]]:
    """List what remains, and who leaves before the next stage."""
    table, outcome, horizon = values["table"], values["outcome"], values["horizon"]
    left = "\n".join(f"{item['patients']}: {item['reason']}" for item in values["left_out"])
    unknown = f"{outcome['unknown']}: outcome unknown" if outcome["unknown"] else ""
    return [
        (f"Table: {table['patients']} patients ({table['rows']} rows)", left),
        (f"Cohort: {values['cohort']} patients", unknown),
        (
            (
                f"Outcome known: {outcome['known']} ({outcome['events']} events)\n"
                f"Status at {horizon['months']:g} months known: {horizon['known']} "
                f"({horizon['progressed']} progressed)"
            ),
            "",
        ),
    ]


def _box(axes: Axes, x: float, y: float, text: str, width: int = 52) -> Text:
    lines = [part for line in text.split("\n") for part in textwrap.wrap(line, width)]
    return axes.text(x, y, "\n".join(lines), ha="center", va="center", fontsize=7, bbox=BOX)


def _arrow(axes: Axes, start: Text | tuple[float, float], end: Text) -> None:
    """Draw an arrow from the edge of a box, or from a point, to the edge of another box."""
    ends = {"patchB": end.get_bbox_patch()}
    if isinstance(start, Text):
        ends["patchA"] = start.get_bbox_patch()
        start = start.get_position()
    arrow = axes.annotate("", end.get_position(), start, arrowprops={**ARROW, **ends})
    arrow.set_zorder(1)  # below the boxes
