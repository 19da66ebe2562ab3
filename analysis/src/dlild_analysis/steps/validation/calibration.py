"""Calibration of cross-validated risks, and of the Cox model's risks at each horizon."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from dlild_analysis.errors import NotDoneError
from dlild_analysis.stats import calibration, cox
from dlild_analysis.steps.attempts import NotDone, attempt
from dlild_analysis.steps.data import Data
from dlild_analysis.steps.presentation import style
from dlild_analysis.steps.presentation.table import Table
from dlild_analysis.steps.presentation.text import DASH, estimate, not_done, number
from dlild_analysis.steps.step import OWN, Analysis, Drawing, Step
from dlild_analysis.steps.validation.cross_validation import CROSS_VALIDATION
from dlild_analysis.steps.validation.models import fittable_recipes


@dataclass(frozen=True)
class LogisticCalibration:
    """Calibration of a logistic model."""

    name: str
    label: str
    risks: str
    result: calibration.Calibration | NotDone


@dataclass(frozen=True)
class CoxCalibration:
    """Calibration of the Cox model at one horizon."""

    horizon_months: float
    label: str
    risks: str
    result: calibration.Calibration | NotDone


@dataclass(frozen=True)
class Calibrated:
    """What the step found."""

    binary: tuple[LogisticCalibration, ...]
    survival: tuple[CoxCalibration, ...]

    @property
    def models(self) -> tuple[LogisticCalibration | CoxCalibration, ...]:
        """All models."""
        return (*self.binary, *self.survival)


def calibrate(analysis: Analysis) -> Calibrated:
    """Calibrate cross-validated risks, and the Cox model's risks at each horizon."""
    data, crossed = analysis.data, analysis.of(CROSS_VALIDATION)
    binary = []
    for recipe, sample in fittable_recipes(data):
        risk = None if isinstance(crossed, NotDone) else crossed.predictions(recipe.name)
        if recipe.name not in ("score", "full") or risk is None:
            continue
        result = attempt(calibration.calibrate_binary, sample.progressed, risk)
        risks = "cross-validated, mean over repeats"
        binary.append(LogisticCalibration(recipe.name, recipe.label, risks, result))
    survival = [
        CoxCalibration(
            horizon,
            f"Cox model, {horizon:g} months",
            "apparent",
            attempt(_calibrate_cox, data, horizon),
        )
        for horizon in data.study.plan.horizons_months
    ]
    if not binary and all(isinstance(item.result, NotDone) for item in survival):
        raise NotDoneError("no model gave risks")
    return Calibrated(tuple(binary), tuple(survival))


def _calibrate_cox(data: Data, horizon: float) -> calibration.Calibration:
    names = data.available(data.study.plan.adjust) or data.available(("score",))
    sample = data.sample(names, "survival")
    fit = cox.fit_cox(sample.design, sample.time, sample.event)
    risk = cox.predict_cox(fit, sample.design, horizon).risk
    return calibration.calibrate_survival(sample.time, sample.event, risk, horizon)


def sentences(result: Calibrated, _data: Data) -> list[str]:
    """Report slopes and intercepts."""
    return [
        f"{item.label} ({item.risks}): slope {estimate(item.result.slope)}, intercept "
        f"{estimate(item.result.intercept)}, ICI {number(item.result.ici, 3)}."
        for item in result.models
        if not isinstance(item.result, NotDone)
    ]


def table(result: Calibrated, _analysis: Analysis) -> Table | None:
    """Calibration of risks."""
    return Table(
        "calibration",
        "Calibration",
        (
            "Model",
            "Risks",
            "Slope (95 % CI)",
            "Intercept (95 % CI)",
            "ICI",
            "Brier (95 % CI)",
            "Expected / observed",
        ),
        [_row(item) for item in result.models],
        "Right: slope 1, intercept 0. ICI: integrated calibration index, the mean distance of the "
        "curve from the diagonal.",
    )


def _row(item: LogisticCalibration | CoxCalibration) -> tuple[str, ...]:
    part = item.result
    if isinstance(part, NotDone):
        return (item.label, item.risks, not_done(part), DASH, DASH, DASH, DASH)
    return (
        item.label,
        item.risks,
        estimate(part.slope),
        estimate(part.intercept),
        number(part.ici, 3),
        estimate(part.brier, 3),
        f"{number(part.expected, 3)} / {number(part.observed, 3)}",
    )


def figure(result: Calibrated, _analysis: Analysis) -> Figure | None:
    """Calibration curves: cross-validated logistic models, and the Cox model at each horizon."""
    panels = {
        title: [
            (item.label.replace("Cox model, ", ""), item.result)
            for item in items
            if not isinstance(item.result, NotDone)
        ]
        for title, items in (
            ("Logistic, cross-validated", result.binary),
            ("Cox, apparent", result.survival),
        )
    }
    panels = {title: items for title, items in panels.items() if items}
    if not panels:
        return None
    width = style.TWO_COLUMNS if len(panels) == 2 else style.ONE_COLUMN
    made, grid = style.figure(width, 4.1, 1, len(panels))
    for axes, (title, items) in zip(grid[0], panels.items(), strict=True):
        axes.plot([0, 1], [0, 1], color="#bbbbbb", linewidth=0.8, linestyle=(0, (4, 3)))
        for (label, part), colour in zip(items, style.CYCLE, strict=False):
            x, y = style.shown(part.curve_predicted, part.curve_observed)
            slope = number(part.slope.estimate)
            text = f"{label}: slope {slope}, ICI {number(part.ici, 3)}"
            axes.plot(x, np.clip(y, 0, 1), color=colour, label=text)
        axes.set(
            xlabel="Predicted risk",
            ylabel="Observed share (smoothed)",
            xlim=(-0.01, 1.01),
            ylim=(-0.01, 1.01),
        )
        axes.set_aspect("equal")
        style.legend(axes, title)
    return made


CALIBRATION: Step[Calibrated] = Step(
    "calibration",
    "Calibration",
    compute=lambda analysis, _: calibrate(analysis),
    sentences=sentences,
    tables=(table,),
    figures=(
        Drawing(
            "calibration",
            figure,
            "Calibration curves; the dashed diagonal is perfect calibration.",
        ),
    ),
    libraries=(*OWN, "statsmodels"),
)
