"""Time to progression: Kaplan-Meier, Cox, restricted means, competing death."""

from __future__ import annotations

from typing import Any

import numpy as np

from dlild_analysis.errors import NotDoneError
from dlild_analysis.pipeline.data import MEASURES, Data, Sample
from dlild_analysis.pipeline.step import attempt
from dlild_analysis.progression import DIED, assess
from dlild_analysis.stats import competing_risks, cox, survival

GROUPS = ("low", "high")


def kaplan_meier(data: Data) -> dict[str, Any]:
    """Kaplan-Meier curves of all patients and by high and low score."""
    everyone = data.sample((), "follow-up", least=2)
    horizons = list(data.study.plan.horizons_months)
    values: dict[str, Any] = {"all": _curve(everyone, np.ones(everyone.n, dtype=bool), horizons)}
    if data.outcome.competing:
        values["warnings"] = [
            "Competing deaths are censored here; read the Aalen-Johansen incidence instead."
        ]
    groups = attempt(_groups, data, horizons)
    values["groups"] = groups
    return values


def _curve(sample: Sample, who: np.ndarray, horizons: list[float]) -> dict[str, Any]:
    curve = survival.kaplan_meier(sample.time[who], sample.event[who])
    return {
        "n": int(who.sum()),
        "events": int(sample.event[who].sum()),
        "curve": curve,
        "survival_at": dict(
            zip([f"{h:g}" for h in horizons], survival.survival_at(curve, horizons), strict=True)
        ),
    }


def _groups(data: Data, horizons: list[float]) -> dict[str, Any]:
    sample = data.sample(("score",), "follow-up")
    high = data.high(sample)
    ticks = _ticks(float(sample.time.max()))
    return {
        "cutoff": data.cutoff,
        "origin": data.cutoff_origin,
        **{name: _curve(sample, high == code, horizons) for code, name in enumerate(GROUPS)},
        "log_rank": attempt(survival.log_rank, sample.time, sample.event, np.array(GROUPS)[high]),
        "at_risk": {
            "months": ticks,
            **{
                name: list(survival.numbers_at_risk(sample.time[high == code], ticks))
                for code, name in enumerate(GROUPS)
            },
        },
    }


def _ticks(last: float) -> list[float]:
    step = next(step for step in (1.0, 3.0, 6.0, 12.0, 24.0, 60.0, 120.0, 1e9) if last / step <= 8)
    return [float(value) for value in np.arange(0.0, last + 1e-9, step)]


def cox_models(data: Data) -> dict[str, Any]:
    """Uni- and multivariable Cox models, high against low, and the test of proportional hazards."""
    data.sample((), "survival")
    plan = data.study.plan
    candidates = data.available((*MEASURES, *(item.name for item in data.study.covariates)))
    wanted = data.available(plan.adjust)
    multivariable = (
        attempt(_cox, data, wanted)
        if len(wanted) > 1
        else {"not_done_because": "it needs at least two of the covariates in analysis.adjust"}
    )
    return {
        "univariable": [
            {"name": name, "label": data.label(name), "fit": attempt(_cox, data, (name,))}
            for name in candidates
        ],
        "multivariable": multivariable,
        "adjusted_for": [data.label(name) for name in wanted],
        "high_against_low": attempt(_high_against_low, data),
        "restricted_mean": attempt(_restricted_mean, data),
    }


def _cox(data: Data, names: tuple[str, ...]) -> dict[str, Any]:
    sample = data.sample(names, "survival")
    if sample.event.sum() < sample.design.shape[1]:
        raise NotDoneError(
            f"{sample.event.sum()} events are too few for {sample.design.shape[1]} parameters"
        )
    return {
        "model": cox.fit_cox(sample.design, sample.time, sample.event),
        "proportional_hazards": attempt(
            cox.proportional_hazards_test, sample.design, sample.time, sample.event
        ),
        "missing": sample.missing,
    }


def _high_against_low(data: Data) -> dict[str, Any]:
    sample = data.sample(("score",), "survival")
    high = data.high(sample).astype(np.float64)
    name = [f"{data.label('score')} high"]
    return {
        "cutoff": data.cutoff,
        "origin": data.cutoff_origin,
        "model": cox.fit_cox(high[:, None], sample.time, sample.event, name),
        "proportional_hazards": attempt(
            cox.proportional_hazards_test, high[:, None], sample.time, sample.event, name
        ),
    }


def _restricted_mean(data: Data) -> dict[str, Any]:
    sample = data.sample(("score",), "survival")
    high = data.high(sample)
    reach = min(float(sample.time[high == code].max()) for code in (0, 1))
    horizon = min(data.study.plan.horizon, reach)
    crosses = _curves_cross(sample, high)
    return {
        "horizon_months": horizon,
        "curves_cross": crosses,
        "result": survival.rmst_difference(sample.time, sample.event, high, horizon),
        "note": "The curves cross: read this instead of the hazard ratio."
        if crosses
        else "The curves do not cross; given beside the hazard ratio.",
    }


def _curves_cross(sample: Sample, high: np.ndarray) -> bool:
    """Whether the group with the lower survival changes by more than the noise of one step."""
    curves = [
        survival.kaplan_meier(sample.time[high == code], sample.event[high == code])
        for code in (0, 1)
    ]
    grid = np.unique(np.concatenate([curve.times for curve in curves]))
    values, errors = [], []
    for curve in curves:
        place = np.searchsorted(curve.times, grid, side="right") - 1
        inside = place >= 0
        values.append(np.where(inside, curve.survival[place], 1.0))
        errors.append(np.where(inside, curve.std_error[place], 0.0))
    gap = values[0] - values[1]
    noise = np.hypot(errors[0], errors[1])
    clear = gap[np.abs(gap) > noise]
    return bool(clear.size and clear.min() < 0 < clear.max())


def competing_deaths(data: Data) -> dict[str, Any]:
    """Incidence of progression where death competes, and regression of both kinds of hazard."""
    other = (
        data
        if data.outcome.competing
        else Data(data.cohort, assess(data.cohort, data.outcome.rule, "competing"))
    )
    other.cutoff, other.cutoff_origin = data.cutoff, data.cutoff_origin
    if not other.outcome.competing:
        raise NotDoneError("no death or transplant before progression is known in this cohort")
    everyone = other.sample((), "follow-up")
    horizons = list(data.study.plan.horizons_months)
    causes = [("progression", 1), ("death or transplant", DIED)]
    names = other.available(("score",))
    return {
        "deaths": other.outcome.competing,
        "all": {
            label: _incidence(everyone, np.ones(everyone.n, dtype=bool), code, horizons)
            for label, code in causes
        },
        "groups": attempt(_incidence_groups, other, horizons),
        "cause_specific": [
            {
                "cause": label,
                "fit": attempt(_regress, other, names, competing_risks.fit_cause_specific, code),
            }
            for label, code in causes
        ],
        "fine_gray": [
            {
                "cause": label,
                "fit": attempt(_regress, other, names, competing_risks.fit_fine_gray, code),
            }
            for label, code in causes
        ],
    }


def _incidence(sample: Sample, who: np.ndarray, code: int, horizons: list[float]) -> dict[str, Any]:
    curve = competing_risks.aalen_johansen(sample.time[who], sample.status[who], of=code)
    found = competing_risks.incidence_at(curve, horizons)
    return {
        "curve": curve,
        "incidence_at": dict(zip([f"{h:g}" for h in horizons], found, strict=True)),
    }


def _incidence_groups(data: Data, horizons: list[float]) -> dict[str, Any]:
    sample = data.sample(("score",), "survival")
    high = data.high(sample)
    return {
        name: {
            "progression": _incidence(sample, high == code, 1, horizons),
            "death or transplant": _incidence(sample, high == code, DIED, horizons),
        }
        for code, name in enumerate(GROUPS)
    }


def _regress(data: Data, names: tuple[str, ...], fit: Any, code: int) -> Any:
    sample = data.sample(names, "survival")
    if not names:
        raise NotDoneError("there is no score")
    return fit(sample.design, sample.time, sample.status, of=code)
