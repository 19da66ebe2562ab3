"""A saved progression model on another cohort: how it discriminates, and how it is calibrated."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from scipy import stats as scipy_stats

from dlild_analysis.cohort import Cohort
from dlild_analysis.errors import InputRejectedError, NotDoneError
from dlild_analysis.progression import DIED, assess
from dlild_analysis.stats import cox, survival
from dlild_analysis.stats.arrays import FloatArray, IntArray, normal_quantile
from dlild_analysis.stats.calibration import (
    Calibration,
    DecisionCurve,
    calibrate_survival,
    decision_curve_survival,
)
from dlild_analysis.stats.results import Estimate, to_plain
from dlild_analysis.steps.attempts import NotDone, attempt
from dlild_analysis.steps.data import Data
from dlild_analysis.steps.presentation import style
from dlild_analysis.steps.presentation.table import Table
from dlild_analysis.steps.presentation.text import estimate, not_done, number, p_value, percent
from dlild_analysis.steps.validation.decision_curves import THRESHOLDS

LEAST_EVENTS = 10


@dataclass(frozen=True)
class AtHorizon:
    """The model at one of its horizons.

    Attributes
    ----------
    months : float
        The horizon.
    observed : Estimate
        Kaplan-Meier risk.
    expected : float
        Mean predicted risk.
    observed_over_expected : Estimate
        1 is right; above 1 the model promises too little risk. Calibration in the large is its
        logarithm.
    calibration : Calibration or NotDone
        Curve, Brier score and indices.
    auc : Estimate or NotDone
        Time-dependent.
    decision : DecisionCurve or NotDone
        By Kaplan-Meier.
    """

    months: float
    observed: Estimate
    expected: float
    observed_over_expected: Estimate
    calibration: Calibration | NotDone
    auc: Estimate | NotDone
    decision: DecisionCurve | NotDone


@dataclass(frozen=True)
class ExternalValidation:
    """What a validation found.

    Attributes
    ----------
    cohort, model_study, outcome : str
        The table, the study that the model comes from, and the event that was counted.
    patients, unknown, lacking, outside, used, events : int
        In the table; of unknown outcome; lacking an input; outside the data of the fit; left, and
        their events.
    slope : Estimate or NotDone
        Of the linear predictor in a Cox model: 1 is right, below 1 the risks are too extreme.
    concordance : Estimate or NotDone
        Harrell's C of the linear predictor.
    horizons : tuple of AtHorizon or NotDone
        One for each horizon of the model.
    """

    cohort: str
    model_study: str
    outcome: str
    patients: int
    unknown: int
    lacking: int
    outside: int
    used: int
    events: int
    slope: Estimate | NotDone
    concordance: Estimate | NotDone
    horizons: tuple[AtHorizon | NotDone, ...]
    warnings: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Write the validation as JSON holds it."""
        plain: dict[str, Any] = to_plain(self)
        return plain


@dataclass(frozen=True, eq=False)
class Predicted:
    """Patients whom the model can predict, with what became of them.

    Attributes
    ----------
    time, event : array of shape (n,)
        Months; 1 where they ended with the event that the model predicts.
    score : array of shape (n,)
        Linear predictor, 0 for a patient at the means of the fit.
    """

    time: FloatArray
    event: IntArray
    score: FloatArray


def validate_model(
    model: Mapping[str, Any], cohort: Cohort
) -> tuple[ExternalValidation, dict[str, Any] | NotDone]:
    """Validate a saved model on a cohort, and recalibrate it there.

    Patients outside the range of the data that the model was fitted on are counted and left out, as
    `predict` refuses them. As in the fit, death counts as the event where it competes.

    Parameters
    ----------
    model : mapping
        From `read_model`.
    cohort : Cohort
        A validated cohort; its study names the columns.

    Returns
    -------
    validation : ExternalValidation
        What was found.
    recalibrated : dict or NotDone
        The model with its slope and baseline fitted to this cohort, to be saved as a new file.

    Raises
    ------
    InputRejectedError
        The cohort lacks an input of the model.
    NotDoneError
        No patient can be predicted, or none had the event.

    References
    ----------
    .. [1] McLernon DJ, Giardiello D, Van Calster B, et al. Assessing performance and clinical
       usefulness in prediction models with survival outcomes: practical guidance for Cox
       proportional hazards models. Ann Intern Med 2023;176:105-114.
    .. [2] van Houwelingen HC. Validation, calibration, revision and combination of prognostic
       survival models. Stat Med 2000;19:3401-3415.
    """
    data = Data(cohort, assess(cohort))
    known = data.outcome.known
    columns = _inputs(model, data)
    lacking, outside, score = _scores(model, columns)
    use = known & ~lacking & ~outside
    if not use.any():
        raise NotDoneError("no patient has an outcome and inputs within the data of the fit")
    status = data.outcome.status[use]
    event = (status > 0).astype(np.int64)
    people = Predicted(data.outcome.time[use], event, score[use])
    if not event.any():
        raise NotDoneError("no patient had the event")
    warnings = []
    if event.sum() < LEAST_EVENTS:
        warnings.append(f"{event.sum()} events are too few to judge a model")
    trained = str(model.get("training", {}).get("rule", ""))
    if trained and trained != data.outcome.rule:
        warnings.append(
            f"the model predicts {trained}, this cohort's outcome is {data.outcome.rule}"
        )
    scan = model.get("scan_model")
    if scan and cohort.scan_model and scan != cohort.scan_model:
        warnings.append(
            f"the model was fitted on scores of {scan}, these are of {cohort.scan_model}"
        )
    validation = ExternalValidation(
        cohort=cohort.source,
        model_study=str(model.get("training", {}).get("study", "")),
        outcome=data.outcome.title
        + (" or death, whichever comes first" if (status == DIED).any() else ""),
        patients=len(cohort.patients),
        unknown=int((~known).sum()),
        lacking=int((known & lacking).sum()),
        outside=int((known & ~lacking & outside).sum()),
        used=int(use.sum()),
        events=int(event.sum()),
        slope=attempt(_slope, people),
        concordance=attempt(survival.harrell_c, people.time, event, people.score),
        horizons=tuple(
            attempt(_at, model, index, people) for index in range(len(model["baseline"]))
        ),
        warnings=tuple(warnings),
    )
    return validation, attempt(recalibrate, model, people, cohort)


def _inputs(model: Mapping[str, Any], data: Data) -> dict[str, np.ndarray]:
    """Take every input of the model from the cohort, in the model's unit."""
    found = {}
    for item in model["inputs"]:
        name = item["name"]
        values = data.gap if name == "gap" else data.cohort.patients.get(name)
        if values is None:
            raise InputRejectedError(
                f"{data.cohort.source}: the model needs {item['label']!r} ({name}); name its "
                f"column in the study's TOML: {_where(name)}"
            )
        found[name] = np.asarray(values)
    return found


def _where(name: str) -> str:
    places = {"score": "score.column", "visual": "visual.column"}
    if name == "gap":
        return "age, sex, FVC % and DLCO % make the GAP points"
    if name in ("fvc_percent", "dlco_percent"):
        return f"lung_function.{name}"
    return places.get(name, f"covariates.{name}")


def _scores(
    model: Mapping[str, Any], columns: dict[str, np.ndarray]
) -> tuple[np.ndarray, np.ndarray, FloatArray]:
    """Mark patients who lack an input or lie outside the fit, and compute linear predictors."""
    size = len(next(iter(columns.values())))
    lacking, outside = np.zeros(size, dtype=bool), np.zeros(size, dtype=bool)
    for item in model["inputs"]:
        values = columns[item["name"]]
        if item["kind"] == "category":
            absent = np.array([value is None or value != value for value in values])  # noqa: PLR0124
            lacking |= absent
            outside |= ~absent & ~np.isin(values.astype(str), item["levels"])
        else:
            numbers = values.astype(np.float64)
            lacking |= ~np.isfinite(numbers)
            with np.errstate(invalid="ignore"):
                outside |= (numbers < item["low"]) | (numbers > item["high"])
    score = np.zeros(size)
    for term in model["terms"]:
        values = columns[term["name"]]
        x = (
            values.astype(np.float64)
            if term["level"] is None
            else (values.astype(str) == term["level"]).astype(np.float64)
        )
        score += term["beta"] * (x - term["centre"])
    return lacking, outside, score


def _slope(people: Predicted) -> Estimate:
    fit = cox.fit_cox(people.score, people.time, people.event, ["linear predictor"])
    term = fit.terms[0]
    half = normal_quantile(fit.level) * term.std_error
    return Estimate(
        estimate=term.beta,
        ci_low=term.beta - half,
        ci_high=term.beta + half,
        p_value=float(2 * scipy_stats.norm.sf(abs(term.beta - 1) / term.std_error)),
        std_error=term.std_error,
        n=fit.n,
        method="calibration slope: Cox model of the linear predictor; p against 1",
        warnings=fit.warnings,
    )


def _at(model: Mapping[str, Any], index: int, people: Predicted) -> AtHorizon:
    base = model["baseline"][index]
    horizon = float(base["horizon_months"])
    if people.time.max() < horizon:
        raise NotDoneError(
            f"{horizon:g} months lie beyond the longest follow-up, {people.time.max():.4g}"
        )
    predicted = -np.expm1(-float(base["cumulative_hazard"]) * np.exp(people.score))
    curve = survival.kaplan_meier(people.time, people.event)
    alive = survival.survival_at(curve, [horizon])[0]
    expected = float(predicted.mean())
    arguments = (people.time, people.event)
    return AtHorizon(
        horizon,
        observed=Estimate(
            estimate=1 - alive.estimate,
            ci_low=1 - alive.ci_high,
            ci_high=1 - alive.ci_low,
            std_error=alive.std_error,
            n=people.time.size,
            method=f"risk by {horizon:g}: {curve.method}",
            warnings=alive.warnings,
        ),
        expected=expected,
        observed_over_expected=_ratio(people, 1 - alive.estimate, predicted, horizon),
        calibration=attempt(calibrate_survival, *arguments, predicted, horizon),
        auc=attempt(survival.time_auc, *arguments, people.score, horizon),
        decision=attempt(decision_curve_survival, *arguments, predicted, horizon, THRESHOLDS),
    )


def _ratio(people: Predicted, observed: float, predicted: FloatArray, horizon: float) -> Estimate:
    """Observed over expected risk; the error of its log is that of the difference of the two.

    Both come from the same patients: those at high risk raise both, so that the error of the
    Kaplan-Meier risk alone would be too large.
    """
    if not observed > 0:
        raise NotDoneError("no event by the horizon")
    n, expected = people.time.size, float(predicted.mean())
    pull = survival.risk_influence(people.time, people.event, horizon)
    influence = pull / observed - (predicted - expected) / expected
    log, error = math.log(observed / expected), float(influence.std(ddof=1)) / math.sqrt(n)
    half = normal_quantile(0.95) * error
    return Estimate(
        estimate=math.exp(log),
        ci_low=math.exp(log - half),
        ci_high=math.exp(log + half),
        p_value=float(2 * scipy_stats.norm.sf(abs(log) / error)),
        std_error=error,
        n=n,
        method="observed (Kaplan-Meier) over expected risk; standard error of its log by influence "
        "functions; p against 1",
    )


def recalibrate(model: Mapping[str, Any], people: Predicted, cohort: Cohort) -> dict[str, Any]:
    """Fit the slope of the linear predictor and the baseline hazard of a model anew.

    The covariates keep their weights relative to each other. The new covariance is that of the
    slope alone: the old coefficients are taken as known.

    Raises
    ------
    NotDoneError
        Too few events, an infinite slope, or no horizon within the follow-up.
    """
    if people.event.sum() < LEAST_EVENTS:
        raise NotDoneError(f"{people.event.sum()} events are too few; {LEAST_EVENTS} are needed")
    fit = cox.fit_cox(people.score, people.time, people.event, ["linear predictor"])
    slope, variance = fit.terms[0].beta, float(fit.covariance[0, 0])
    if not (math.isfinite(slope) and math.isfinite(variance)):
        raise NotDoneError("the slope is infinite: the linear predictor ranks the events perfectly")
    mean = float(fit.centre[0])
    beta = np.array([term["beta"] for term in model["terms"]], dtype=np.float64)
    baseline = []
    for base in model["baseline"]:
        horizon = float(base["horizon_months"])
        if not fit.baseline_times[0] <= horizon <= fit.last_time:
            continue
        step = int(np.searchsorted(fit.baseline_times, horizon, side="right")) - 1
        at_mean = float(fit.baseline_hazard[step])
        # From a patient at the mean of the linear predictor to one at its zero.
        hazard = at_mean * math.exp(-slope * mean)
        pull = float(fit.baseline_gradient[step][0]) / at_mean - mean
        baseline.append(
            {
                "horizon_months": horizon,
                "cumulative_hazard": hazard,
                "variance": float(fit.baseline_variance[step]) / at_mean**2 * hazard**2,
                "gradient": [float(v) for v in hazard * pull * beta / (beta @ beta)],
            }
        )
    if not baseline:
        raise NotDoneError("no horizon of the model lies within the follow-up")
    # With b' = s b only s was fitted: cov b' = var(s) b b'.
    return {
        **model,
        "terms": [{**term, "beta": slope * term["beta"]} for term in model["terms"]],
        "covariance": to_plain(variance * np.outer(beta, beta)),
        "baseline": baseline,
        "recalibrated": {
            "cohort": cohort.source,
            "study": cohort.study.title,
            "patients": fit.n,
            "events": fit.events,
            "slope": slope,
            "slope_std_error": math.sqrt(variance),
            "method": "slope and baseline hazard fitted anew (van Houwelingen, Stat Med "
            "2000;19:3401-3415)",
        },
    }


def sentences(found: ExternalValidation) -> list[str]:
    """Report the validation."""
    written = [
        (
            f"{found.cohort}: {found.patients} patients; {found.unknown} of unknown outcome, "
            f"{found.lacking} lacking an input and {found.outside} outside the data of the fit "
            f"were left out; {found.used} remained with {found.events} events ({found.outcome})."
        )
    ]
    if not isinstance(found.slope, NotDone):
        written.append(f"Calibration slope {estimate(found.slope)} (1 is right).")
    if not isinstance(found.concordance, NotDone):
        written.append(f"Harrell's C {estimate(found.concordance)}.")
    for item in found.horizons:
        if isinstance(item, NotDone):
            written.append(f"A horizon: {not_done(item)}.")
            continue
        ratio = item.observed_over_expected
        auc = item.auc
        written.append(
            f"By {item.months:g} months {percent(item.observed.estimate)} had the event where the "
            f"model expected {percent(item.expected)}: observed over expected {estimate(ratio)}; "
            f"AUC {estimate(auc)}."
        )
    return [*written, *(f"{text[:1].upper()}{text[1:]}." for text in found.warnings)]


def table(found: ExternalValidation) -> Table:
    """Write the measures by horizon."""
    done = [item for item in found.horizons if not isinstance(item, NotDone)]
    rows: list[tuple[str, ...]] = [
        (
            f"{item.months:g}",
            percent(item.observed.estimate),
            percent(item.expected),
            estimate(item.observed_over_expected),
            p_value(item.observed_over_expected.p_value),
            estimate(item.auc, 3),
            "" if isinstance(item.calibration, NotDone) else estimate(item.calibration.brier, 3),
            "" if isinstance(item.calibration, NotDone) else number(item.calibration.ici, 3),
        )
        for item in done
    ]
    return Table(
        "validation",
        f"Validation of the model of {found.model_study or 'another study'} in {found.cohort}",
        (
            "Months",
            "Observed risk",
            "Expected risk",
            "Observed / expected (95 % CI)",
            "P",
            "AUC (95 % CI)",
            "Brier score (95 % CI)",
            "ICI",
        ),
        rows,
        f"{found.used} patients, {found.events} events. Calibration slope {estimate(found.slope)}; "
        f"Harrell's C {estimate(found.concordance)}. Calibration in the large is the logarithm of "
        "observed / expected. ICI: mean distance of the calibration curve from the line.",
    )


def calibration_figure(found: ExternalValidation) -> Figure | None:
    """Observed against predicted risk, one panel a horizon."""
    done = [
        (item, item.calibration)
        for item in found.horizons
        if not isinstance(item, NotDone) and not isinstance(item.calibration, NotDone)
    ]
    if not done:
        return None
    made, grid = style.figure(style.ONE_COLUMN * len(done), 3.2, 1, len(done))
    for axes, (item, curve) in zip(grid[0], done, strict=True):
        axes.plot([0, 1], [0, 1], color=style.GREY, linewidth=0.8, linestyle=(0, (4, 3)))
        axes.plot(curve.curve_predicted, curve.curve_observed, color=style.BLUE)
        axes.plot(item.expected, item.observed.estimate, "o", color=style.ORANGE)
        axes.set(
            xlabel=f"Predicted risk by {item.months:g} months",
            ylabel="Observed risk",
            xlim=(0, 1),
            ylim=(0, 1),
        )
    return made


def decision_figure(found: ExternalValidation) -> Figure | None:
    """Net benefit over threshold probabilities, one panel a horizon."""
    done = [
        (item.months, item.decision)
        for item in found.horizons
        if not isinstance(item, NotDone) and not isinstance(item.decision, NotDone)
    ]
    if not done:
        return None
    made, grid = style.figure(style.ONE_COLUMN * len(done), 3.2, 1, len(done))
    for axes, (months, curve) in zip(grid[0], done, strict=True):
        axes.plot(curve.thresholds, curve.treat_all, color=style.GREY, label="Treat all")
        axes.axhline(0, color="black", linewidth=0.8, linestyle=(0, (4, 2)), label="Treat none")
        axes.plot(curve.thresholds, curve.model, color=style.BLUE, label="Model")
        top = max(float(np.nanmax(curve.model, initial=0.0)), 0.01)
        axes.set(
            xlabel=f"Threshold probability, {months:g} months",
            ylabel="Net benefit",
            ylim=(-0.25 * top, 1.2 * top),
        )
        style.legend(axes)
    return made
