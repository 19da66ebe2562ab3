"""ROC curves of the scores and of lung function for progression by the last horizon."""

from __future__ import annotations

import math
from dataclasses import dataclass

from matplotlib.figure import Figure

from dlild_analysis.errors import NotDoneError
from dlild_analysis.stats import roc
from dlild_analysis.stats.results import Estimate
from dlild_analysis.steps.attempts import NotDone, attempt
from dlild_analysis.steps.cutoff import Cutoff
from dlild_analysis.steps.data import MEASURES, PROTECTIVE, Data
from dlild_analysis.steps.presentation import style
from dlild_analysis.steps.presentation.table import Table
from dlild_analysis.steps.presentation.text import (
    DASH,
    estimate,
    interval,
    not_done,
    number,
    p_of,
    p_words,
    percent_estimate,
)
from dlild_analysis.steps.step import Analysis, Drawing, Step


@dataclass(frozen=True)
class MeasureRoc:
    """The ROC curve of one measure."""

    auc: Estimate
    auc_logit_interval: Estimate
    curve: roc.RocCurve
    youden: roc.YoudenCutoff | NotDone


@dataclass(frozen=True)
class Curve:
    """A measure and its ROC curve, negated where a lower value means progression is likelier."""

    name: str
    label: str
    turned_round: bool
    result: MeasureRoc | NotDone


@dataclass(frozen=True)
class Comparison:
    """The score against another measure, in the patients who have both."""

    a: str
    b: str
    label: str
    result: roc.AucComparison | NotDone


@dataclass(frozen=True)
class RocCurves:
    """What the step found."""

    horizon_months: float
    curves: tuple[Curve, ...]
    comparisons: tuple[Comparison, ...]
    cutoff: Cutoff | NotDone


def roc_curves(data: Data, cutoff: Cutoff | NotDone) -> RocCurves:
    """ROC curves of all measures, the paired comparisons, and the cut-off.

    Lung function is negated (a lower value means progression is likelier).
    """
    data.sample((), "binary")
    names = data.available(MEASURES)
    if not names:
        raise NotDoneError("there is no score and no lung function")
    return RocCurves(
        data.study.plan.horizon,
        tuple(
            Curve(name, data.label(name), name in PROTECTIVE, attempt(_curve, data, name))
            for name in names
        ),
        tuple(
            Comparison(
                "score",
                name,
                f"{data.label('score')} minus {data.label(name)}",
                attempt(_compare, data, name),
            )
            for name in names
            if name != "score" and "score" in names
        ),
        cutoff,
    )


def _curve(data: Data, name: str) -> MeasureRoc:
    sample = data.sample((name,), "binary")
    values = data.risk_direction(sample, name)
    return MeasureRoc(
        roc.auc(sample.progressed, values),
        roc.auc(sample.progressed, values, interval="logit"),
        roc.roc_curve(sample.progressed, values),
        attempt(roc.youden_cutoff, sample.progressed, values),
    )


def _compare(data: Data, name: str) -> roc.AucComparison:
    sample = data.sample(("score", name), "binary")
    return roc.compare_auc_paired(
        sample.progressed,
        data.risk_direction(sample, "score"),
        data.risk_direction(sample, name),
    )


def sentences(result: RocCurves, _data: Data) -> list[str]:
    """Report the areas, their comparison and the cut-off."""
    found = [
        f"AUC of {item.label}: {estimate(item.result.auc, 3)}"
        f"{_logit_interval(item.result.auc_logit_interval)}."
        for item in result.curves
        if not isinstance(item.result, NotDone)
    ]
    found += [
        f"{item.label}: {estimate(item.result.difference, 3)}, "
        f"{p_words(item.result.difference.p_value)} (DeLong, paired)."
        for item in result.comparisons
        if not isinstance(item.result, NotDone)
    ]
    cutoff = result.cutoff
    if isinstance(cutoff, NotDone):
        return found
    point = cutoff.operating_point
    tail = (
        ""
        if point is None or isinstance(point, NotDone)
        else f": sensitivity {percent_estimate(point.sensitivity)}, specificity "
        f"{percent_estimate(point.specificity)}"
    )
    found.append(
        f"The cut-off was {number(cutoff.cutoff)} ({cutoff.origin}), with "
        f"{cutoff.high} patients at or above it{tail}."
    )
    return found


def _logit_interval(value: Estimate) -> str:
    if not math.isfinite(value.ci_low):
        return ""
    return f"; on the logit scale {interval(value.ci_low, value.ci_high, 3)}"


def table(result: RocCurves, _analysis: Analysis) -> Table | None:
    """Areas, their comparison, and the cut-off."""
    rows = [_curve_row(item) for item in result.curves]
    for item in result.comparisons:
        difference = None if isinstance(item.result, NotDone) else item.result.difference
        rows.append((item.label, estimate(difference, 3), p_of(difference), DASH, DASH, DASH))
    return Table(
        "roc",
        "ROC curves and their comparison",
        (
            "Measure",
            "AUC or difference (95 % CI)",
            "P",
            "Youden's cut-off",
            "Sensitivity (95 % CI)",
            "Specificity (95 % CI)",
        ),
        rows,
        f"Progression by {result.horizon_months:g} months. AUC by DeLong (results.json has "
        "the logit-transformed interval too); P of an AUC against 0.5, of a difference by "
        "DeLong's paired test. Sensitivity and specificity are at a cut-off that the same "
        "patients chose.",
    )


def _curve_row(item: Curve) -> tuple[str, ...]:
    label = f"{item.label}{' (low is worse)' if item.turned_round else ''}"
    part = item.result
    if isinstance(part, NotDone):
        return (label, not_done(part), DASH, DASH, DASH, DASH)
    head = (label, estimate(part.auc, 3), p_of(part.auc))
    youden = part.youden
    if isinstance(youden, NotDone):
        return (*head, DASH, DASH, DASH)
    return (
        *head,
        number(-youden.cutoff if item.turned_round else youden.cutoff),
        percent_estimate(youden.point.sensitivity),
        percent_estimate(youden.point.specificity),
    )


def figure(result: RocCurves, _analysis: Analysis) -> Figure | None:
    """ROC curves of all measures."""
    curves = [
        (item.label, item.result) for item in result.curves if not isinstance(item.result, NotDone)
    ]
    if not curves:
        return None
    made, grid = style.figure(style.ONE_COLUMN, 4.3)
    axes = grid[0][0]
    axes.plot([0, 1], [0, 1], color="#bbbbbb", linewidth=0.8, linestyle=(0, (4, 3)))
    for (label, part), colour in zip(curves, style.CYCLE, strict=False):
        x, y = style.shown(part.curve.false_positive_rate, part.curve.true_positive_rate)
        axes.plot(x, y, color=colour, label=f"{label}: {estimate(part.auc)}")
    cutoff = result.cutoff
    point = None if isinstance(cutoff, NotDone) else cutoff.operating_point
    if point is not None and not isinstance(cutoff, NotDone) and not isinstance(point, NotDone):
        axes.plot(
            1 - point.specificity.estimate,
            point.sensitivity.estimate,
            "o",
            color=style.BLUE,
            markersize=5,
            markeredgecolor="white",
            label=f"Cut-off {number(cutoff.cutoff)}",
        )
    axes.set(
        xlabel="1 \N{MINUS SIGN} specificity",
        ylabel="Sensitivity",
        xlim=(-0.01, 1.01),
        ylim=(-0.01, 1.01),
    )
    axes.set_aspect("equal")
    style.legend(axes, "AUC (95 % CI)")
    return made


ROC: Step[RocCurves] = Step(
    "roc",
    "ROC curves",
    compute=lambda analysis, _: roc_curves(analysis.data, analysis.cutoff),
    sentences=sentences,
    tables=(table,),
    figures=(
        Drawing(
            "roc",
            figure,
            "ROC curves for progression by the last horizon; the dot marks the cut-off.",
        ),
    ),
)
