"""The flow of patients: from the table to every model."""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text

from dlild_analysis.cohort.cohort import LeftOut
from dlild_analysis.cohort.joins import JoinCount
from dlild_analysis.errors import NotDoneError
from dlild_analysis.progression import DIED, PROGRESSED
from dlild_analysis.steps.attempts import NotDone, attempt
from dlild_analysis.steps.cox.cox import COX
from dlild_analysis.steps.data import Data, Need
from dlild_analysis.steps.logistic.logistic import LOGISTIC
from dlild_analysis.steps.presentation import style
from dlild_analysis.steps.presentation.table import Table
from dlild_analysis.steps.presentation.text import DASH, joined
from dlild_analysis.steps.step import Analysis, Drawing, Gap, ModelStage, Step

BOX = {"boxstyle": "round,pad=0.5", "facecolor": "white", "edgecolor": style.GREY, "linewidth": 0.8}
COLUMNS = 3
LINE = 126
"""Characters that fit into the figure's width, at the size in which models are listed."""

ARROW = {"arrowstyle": "-|>", "color": style.GREY, "linewidth": 0.8}


@dataclass(frozen=True)
class TableStage:
    """The table that was read."""

    file: str
    rows: int
    patients: int


@dataclass(frozen=True)
class OutcomeStage:
    """Patients by what is known of their outcome."""

    known: int
    unknown: int
    events: int
    competing_events: int


@dataclass(frozen=True)
class HorizonStage:
    """Patients by what is known of their status at the last horizon."""

    months: float
    known: int
    unknown: int
    progressed: int


@dataclass(frozen=True)
class PatientFlow:
    """What the step found."""

    table: TableStage
    left_out: tuple[LeftOut, ...]
    cohort: int
    outcome: OutcomeStage
    horizon: HorizonStage
    models: tuple[ModelStage, ...]
    joins: tuple[JoinCount, ...] = ()

    @property
    def head(self) -> str:
        """How the table became the cohort, and whose outcome is known."""
        total = sum(item.patients for item in self.left_out)
        words = f"The table had {self.table.patients} patients in {self.table.rows} rows"
        words += "".join(f"; {join.words}" for join in self.joins)
        if total:
            reasons = joined([f"{item.patients}: {item.reason}" for item in self.left_out])
            words += f"; {total} were left out ({reasons}), so that {self.cohort} remained"
        return (
            f"{words}. The outcome of {self.outcome.known} was known, {self.outcome.events} with "
            f"the event, and of {self.horizon.known} the status at {self.horizon.months:g} months."
        )


def patient_flow(analysis: Analysis) -> PatientFlow:
    """Count the patients at every stage from the table to each model."""
    data = analysis.data
    cohort, outcome = data.cohort, data.outcome
    known = outcome.known
    progressed = data.progressed()
    return PatientFlow(
        TableStage(cohort.source, cohort.flow.rows, cohort.flow.patients or len(cohort.patients)),
        cohort.flow.left_out,
        len(cohort.patients),
        OutcomeStage(int(known.sum()), int((~known).sum()), outcome.events, outcome.competing),
        HorizonStage(
            data.study.plan.horizon,
            int(np.isfinite(progressed).sum()),
            int(np.isnan(progressed).sum()),
            int(np.nansum(progressed)),
        ),
        tuple(_models(analysis)),
        cohort.flow.joins,
    )


def _models(analysis: Analysis) -> list[ModelStage]:
    data, plan = analysis.data, analysis.data.study.plan
    adjusted = data.available(plan.adjust)
    found = []
    needs: tuple[tuple[str, Need, Step[Any]], ...] = (
        ("Cox", "survival", COX),
        ("logistic", "binary", LOGISTIC),
    )
    for kind, need, step in needs:
        result = analysis.of(step)
        for item in () if isinstance(result, NotDone) else result.univariable:
            label, main = f"{kind}: {item.label}", item.name == "score"
            found.append(_model(data, label, (item.name,), need, main=main, fit=item.fit))
        if len(adjusted) > 1:
            fit = result if isinstance(result, NotDone) else result.multivariable
            label = f"{kind}: multivariable"
            found.append(_model(data, label, adjusted, need, main=True, fit=fit))
    saved = data.available(plan.predictors)
    if saved:
        label = "saved model: Cox"
        found.append(_model(data, label, saved, "survival", main=True, with_deaths=True))
    return found + [stage for step in analysis.steps.values() for stage in step.populations(data)]


def _model(
    data: Data,
    label: str,
    names: tuple[str, ...],
    need: Need,
    *,
    main: bool,
    fit: object = None,
    with_deaths: bool = False,
) -> ModelStage:
    """Count the patients of one model: who could enter it, who lacks what, who is left."""
    usable = np.isfinite(data.progressed())
    if need == "survival":
        usable = data.outcome.known
    design = attempt(data.design, names)
    if isinstance(design, NotDone):
        raise NotDoneError(design.not_done_because)
    table, terms = design
    gaps = {
        data.label(term.name): int((usable & table[term.label].isna().to_numpy()).sum())
        for term in terms
    }
    complete = usable & table.notna().all(axis=1).to_numpy()
    events = data.outcome.status == PROGRESSED
    if with_deaths:
        events |= data.outcome.status == DIED
    if need == "binary":
        events = data.progressed() == 1.0
    return ModelStage(
        label,
        main,
        "time to event" if need == "survival" else "status at the horizon",
        eligible=int(usable.sum()),
        missing=tuple(Gap(name, count) for name, count in gaps.items() if count),
        n=int(complete.sum()),
        events=int((complete & events).sum()),
        because=fit.not_done_because if isinstance(fit, NotDone) else "",
    )


def sentences(result: PatientFlow, _data: Data) -> list[str]:
    """Report who was left out on the way from the table to the main models."""
    found = [result.head]
    for item in result.models:
        if not item.main:
            continue
        words = f"{item.label}: {item.n} of {item.eligible} patients"
        if item.because:
            words += f", but it was not done, because {item.because}"
        elif item.missing:
            words += f"; missing: {item.gaps}"
        found.append(f"{words}.")
    return found


def table(result: PatientFlow, _analysis: Analysis) -> Table | None:
    """From the table to each model."""
    first, outcome, horizon = result.table, result.outcome, result.horizon
    rows = [(f"In the table ({first.rows} rows)", str(first.patients), DASH, DASH)]
    rows += [
        (f"Left out: {item.reason}", f"\N{MINUS SIGN}{item.patients}", DASH, DASH)
        for item in result.left_out
    ]
    rows += [
        ("In the cohort", str(result.cohort), DASH, DASH),
        ("Outcome known", str(outcome.known), str(outcome.events), DASH),
        (
            f"Status at {horizon.months:g} months known",
            str(horizon.known),
            str(horizon.progressed),
            DASH,
        ),
    ]
    rows += [
        (
            item.label + (f" (not done, because {item.because})" if item.because else ""),
            f"{item.n} of {item.eligible}",
            DASH if item.outcome == "serial measurements" else str(item.events),
            item.gaps or DASH,
        )
        for item in result.models
    ]
    return Table(
        "flow",
        "Flow of patients from the table to each model",
        ("Stage", "Patients", "Events", "Left out"),
        rows,
        "Left out of a model: patients without the value that is named, or for the reason that is "
        "named; who lacks several values is counted at each of them.",
    )


def figure(result: PatientFlow, _analysis: Analysis) -> Figure | None:
    """Draw the flow: what remains on the left, who left on the right, the models below."""
    stages = _stages(result)
    columns = _model_columns(result)
    longest = max((len(lines) for lines in columns), default=0)
    below = 0.45 + 0.125 * longest
    made, grid = style.figure(style.TWO_COLUMNS, 0.85 * len(stages) + below + 0.3)
    axes: Axes = grid[0][0]
    axes.set_axis_off()
    axes.set(xlim=(0, 1), ylim=(-below / 0.85, len(stages)))
    before: Text | None = None
    for index, (kept, left) in enumerate(stages):
        y = len(stages) - 1 - index + 0.5
        box = _box(axes, 0.3, y, kept)
        if before is not None:
            _arrow(axes, before, box)
        before = box
        if left:
            _arrow(axes, (0.3, y - 0.5), _box(axes, 0.78, y - 0.5, left, width=44))
    for index, lines in enumerate(columns):
        x = (index + 0.5) / len(columns)
        model = axes.text(
            x,
            -0.15,
            "\n".join(lines),
            ha="center",
            va="top",
            multialignment="left",
            fontsize=6.2,
            linespacing=1.35,
            bbox=BOX,
        )
        if before is not None:
            _arrow(axes, before, model)
    return made


def _model_columns(result: PatientFlow) -> list[list[str]]:
    """List every model by its kind, with its n, its events and what its patients lack.

    Returns
    -------
    list of list of str
        The lines of each column of the figure.
    """
    kinds: dict[str, list[str]] = {}
    for item in result.models:
        kind, _, name = item.label.partition(": ")
        state = f"n = {item.n} of {item.eligible}"
        state += "" if item.outcome == "serial measurements" else f", {item.events} events"
        if item.because:
            state = "not done"
        elif item.missing:
            state += f" (left out: {item.gaps})"
        kinds.setdefault(_heading(kind), []).append(f"{name}: {state}")
    count = min(len(kinds), COLUMNS)
    columns: list[list[str]] = [[] for _ in range(count)]
    for head, lines in kinds.items():
        shortest = min(columns, key=len)
        shortest += [""] if shortest else []
        shortest += textwrap.wrap(head, LINE // count)
        shortest += [
            part
            for line in lines
            for part in textwrap.wrap(line, LINE // count, initial_indent="\u2022 ")
        ]
    return columns


def _heading(kind: str) -> str:
    """Turn "Cox, interaction" into "Cox models, interaction"."""
    first, rest = re.fullmatch(r"(\w+)(?: model)?(.*)", kind).groups()  # type: ignore[union-attr]
    return f"{first[0].upper()}{first[1:]} models{rest}"


def _stages(result: PatientFlow) -> list[tuple[str, str]]:
    """List what remains, and who leaves before the next stage."""
    table, outcome, horizon = result.table, result.outcome, result.horizon
    left = "\n".join(f"{item.patients}: {item.reason}" for item in result.left_out)
    unknown = f"{outcome.unknown}: outcome unknown" if outcome.unknown else ""
    return [
        (
            f"Table: {table.patients} patients ({table.rows} rows)"
            + "".join(f"\n{join.words}" for join in result.joins),
            left,
        ),
        (f"Cohort: {result.cohort} patients", unknown),
        (
            (
                f"Outcome known: {outcome.known} ({outcome.events} events)\n"
                f"Status at {horizon.months:g} months known: {horizon.known} "
                f"({horizon.progressed} progressed)"
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


FLOW: Step[PatientFlow] = Step(
    "flow",
    "Flow of patients",
    compute=lambda analysis, _: patient_flow(analysis),
    sentences=sentences,
    tables=(table,),
    figures=(
        Drawing(
            "flow",
            figure,
            "Flow of patients from the table to each model; who lacks several values is counted at "
            "each of them.",
        ),
    ),
)
