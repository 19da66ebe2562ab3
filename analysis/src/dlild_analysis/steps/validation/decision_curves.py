"""Decision curves of cross-validated risks: where acting on them pays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from dlild_analysis.errors import NotDoneError
from dlild_analysis.stats import calibration
from dlild_analysis.stats.arrays import FloatArray
from dlild_analysis.steps.attempts import NotDone, attempt
from dlild_analysis.steps.data import Data
from dlild_analysis.steps.presentation import style
from dlild_analysis.steps.presentation.text import percent
from dlild_analysis.steps.step import Analysis, Drawing, Step
from dlild_analysis.steps.validation.cross_validation import CROSS_VALIDATION
from dlild_analysis.steps.validation.models import fittable_recipes

THRESHOLDS: FloatArray = np.round(np.arange(0.05, 0.651, 0.01), 4)


@dataclass(frozen=True)
class ModelCurve:
    """The decision curve of one model."""

    name: str
    label: str
    n: int
    result: calibration.DecisionCurve | NotDone


@dataclass(frozen=True)
class DecisionCurves:
    """What the step found.

    `prevalence` is the share of progression that the net benefit stands for, where the study gives
    one; None: that of the cohort.
    """

    risks: str
    prevalence: float | None
    curves: tuple[ModelCurve, ...]


def decide(analysis: Analysis) -> DecisionCurves:
    """Decision curves of cross-validated risks."""
    crossed = analysis.of(CROSS_VALIDATION)
    curves, prevalence = [], analysis.data.study.plan.prevalence
    for recipe, sample in fittable_recipes(analysis.data):
        risk = None if isinstance(crossed, NotDone) else crossed.predictions(recipe.name)
        if recipe.name not in ("score", "visual", "full") or risk is None:
            continue
        result = attempt(
            calibration.decision_curve, sample.progressed, risk, THRESHOLDS, prevalence=prevalence
        )
        curves.append(ModelCurve(recipe.name, recipe.label, sample.n, result))
    if not curves:
        raise NotDoneError("no model gave cross-validated risks")
    return DecisionCurves("cross-validated, mean over repeats", prevalence, tuple(curves))


def sentences(result: DecisionCurves, _data: Data) -> list[str]:
    """Report where acting on the risks pays."""
    found = []
    for item in result.curves:
        curve = item.result
        if isinstance(curve, NotDone):
            continue
        better = (curve.model > curve.treat_all + 1e-12) & (curve.model > 1e-12)
        span = curve.thresholds[better]
        found.append(
            f"{item.label}: net benefit above both acting on all and on none "
            + (
                f"at {int(better.sum())} of {better.size} thresholds, between "
                f"{percent(float(span[0]), 0)} and {percent(float(span[-1]), 0)}."
                if span.size
                else "at no threshold."
            )
        )
    if found and result.prevalence is not None:
        found.append(
            "Net benefit is that at a prevalence of progression of "
            f"{percent(result.prevalence)}, as the study gives it; sensitivity and specificity are "
            "those of this cohort, and the risks are not recalibrated to it."
        )
    return found


def figure(result: DecisionCurves, _analysis: Analysis) -> Figure | None:
    """Net benefit over threshold probabilities."""
    curves = [
        (item.label.replace("Cox model, ", ""), item.result)
        for item in result.curves
        if not isinstance(item.result, NotDone)
    ]
    if not curves:
        return None
    made, grid = style.figure(style.ONE_COLUMN, 3.7)
    axes = grid[0][0]
    first = curves[0][1]
    axes.plot(first.thresholds, first.treat_all, color=style.GREY, linewidth=1, label="Treat all")
    axes.axhline(0, color="black", linewidth=0.8, linestyle=(0, (4, 2)), label="Treat none")
    for (label, curve), colour in zip(curves, style.CYCLE, strict=False):
        axes.plot(curve.thresholds, curve.model, color=colour, label=label)
    top = max(float(np.nanmax(curve.model)) for _, curve in curves)
    top = max(top, float(np.nanmax(first.treat_all)), 0.01)
    given = result.prevalence
    words = "" if given is None else f" at a prevalence of {percent(given)}"
    axes.set(
        xlabel="Threshold probability",
        ylabel=f"Net benefit{words}",
        ylim=(-0.25 * top, 1.1 * top),
    )
    style.legend(axes)
    return made


DECISION_CURVES: Step[DecisionCurves] = Step(
    "decision_curves",
    "Decision curves",
    compute=lambda analysis, _: decide(analysis),
    sentences=sentences,
    figures=(Drawing("decision", figure, "Decision curves of cross-validated risks."),),
)
