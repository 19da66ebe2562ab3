"""Cox regression: each covariate alone, all together, high against low, restricted means."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from dlild_analysis.errors import NotDoneError
from dlild_analysis.stats import cox, survival
from dlild_analysis.stats.results import Estimate
from dlild_analysis.steps.attempts import NotDone, attempt
from dlild_analysis.steps.cutoff import Cutoff, high_group
from dlild_analysis.steps.data import MEASURES, Data, Sample
from dlild_analysis.steps.presentation.style import forest_plot
from dlild_analysis.steps.presentation.table import Table
from dlild_analysis.steps.presentation.text import estimate, p_words
from dlild_analysis.steps.ratio_table import (
    TOO_FEW,
    CoxModel,
    Univariable,
    model_rows,
    ratio_columns,
    ratio_rows,
    ratio_sentences,
)
from dlild_analysis.steps.step import Analysis, Drawing, Step


@dataclass(frozen=True)
class RestrictedMean:
    """Mean time without progression up to a horizon, high minus low."""

    horizon_months: float
    curves_cross: bool
    result: survival.RmstComparison
    note: str


@dataclass(frozen=True)
class CoxModels:
    """What the step found."""

    univariable: tuple[Univariable[CoxModel], ...]
    multivariable: CoxModel | NotDone
    adjusted_for: tuple[str, ...]
    high_against_low: CoxModel | NotDone
    restricted_mean: RestrictedMean | NotDone


def cox_models(data: Data, cutoff: Cutoff | NotDone) -> CoxModels:
    """Uni- and multivariable Cox models, high against low, and the test of proportional hazards."""
    data.sample((), "survival")
    candidates = data.available((*MEASURES, *(item.name for item in data.study.covariates)))
    wanted = data.available(data.study.plan.adjust)
    return CoxModels(
        univariable=tuple(
            Univariable(name, data.label(name), attempt(_fit, data, (name,))) for name in candidates
        ),
        multivariable=attempt(_fit, data, wanted) if len(wanted) > 1 else NotDone(TOO_FEW),
        adjusted_for=tuple(data.label(name) for name in wanted),
        high_against_low=attempt(_high_against_low, data, cutoff),
        restricted_mean=attempt(_restricted_mean, data, cutoff),
    )


def check_events(sample: Sample) -> None:
    """Refuse a Cox model of more parameters than events.

    Raises
    ------
    NotDoneError
        Fewer events than parameters.
    """
    if sample.event.sum() < sample.design.shape[1]:
        raise NotDoneError(
            f"{sample.event.sum()} events are too few for {sample.design.shape[1]} parameters"
        )


def _fit(data: Data, names: tuple[str, ...]) -> CoxModel:
    sample = data.sample(names, "survival")
    check_events(sample)
    return CoxModel(
        cox.fit_cox(sample.design, sample.time, sample.event),
        attempt(cox.proportional_hazards_test, sample.design, sample.time, sample.event),
        missing=sample.missing,
    )


def _high_against_low(data: Data, cutoff: Cutoff | NotDone) -> CoxModel:
    sample = data.sample(("score",), "survival")
    high = high_group(data, sample, cutoff).astype(np.float64)[:, None]
    name = [f"{data.label('score')} high"]
    assert not isinstance(cutoff, NotDone)
    return CoxModel(
        cox.fit_cox(high, sample.time, sample.event, name),
        attempt(cox.proportional_hazards_test, high, sample.time, sample.event, name),
        cutoff=cutoff.cutoff,
        origin=cutoff.origin,
    )


def _restricted_mean(data: Data, cutoff: Cutoff | NotDone) -> RestrictedMean:
    sample = data.sample(("score",), "survival")
    high = high_group(data, sample, cutoff)
    reach = min(float(sample.time[high == code].max()) for code in (0, 1))
    horizon = min(data.study.plan.horizon, reach)
    crosses = _curves_cross(sample, high)
    return RestrictedMean(
        horizon,
        crosses,
        survival.rmst_difference(sample.time, sample.event, high, horizon),
        "The curves cross: read this instead of the hazard ratio."
        if crosses
        else "The curves do not cross; given beside the hazard ratio.",
    )


def _curves_cross(sample: Sample, high: np.ndarray) -> bool:
    """Whether the group with the lower survival changes by more than the noise of one step."""
    curves = [
        survival.kaplan_meier(sample.time[high == code], sample.event[high == code])
        for code in (0, 1)
    ]
    grid = np.unique(np.concatenate([curve.times for curve in curves]))
    values, errors = [], []
    for curve in curves:
        index = np.searchsorted(curve.times, grid, side="right") - 1
        inside = index >= 0
        values.append(np.where(inside, curve.survival[index], 1.0))
        errors.append(np.where(inside, curve.std_error[index], 0.0))
    gap = values[0] - values[1]
    noise = np.hypot(errors[0], errors[1])
    clear = gap[np.abs(gap) > noise]
    return bool(clear.size and clear.min() < 0 < clear.max())


def sentences(result: CoxModels, _data: Data) -> list[str]:
    """Report the Cox models."""
    found = ratio_sentences(result.univariable, result.multivariable, result.adjusted_for, "HR")
    groups, means = result.high_against_low, result.restricted_mean
    if not isinstance(groups, NotDone):
        ratio = groups.model.terms[0].hazard_ratio
        found.append(f"High against low: HR {estimate(ratio)}, {p_words(ratio.p_value)}.")
        hazards = groups.proportional_hazards
        if not isinstance(hazards, NotDone) and hazards.overall.p_value < 0.05:
            found.append(
                f"The hazards were not proportional ({p_words(hazards.overall.p_value)}), so that "
                "this HR is an average over time."
            )
    if not isinstance(means, NotDone):
        found.append(
            f"Mean time without progression up to {means.horizon_months:g} months differed by "
            f"{estimate(means.result.difference)} months (high minus low). {means.note}"
        )
    return found


def table(result: CoxModels, _analysis: Analysis) -> Table | None:
    """Uni- and multivariable Cox regression."""
    rows = model_rows(result.univariable, result.multivariable)
    rows += ratio_rows(result.high_against_low, "univariable", "High against low")
    return Table(
        "cox",
        "Cox regression",
        ratio_columns("HR", "PH"),
        rows,
        "Ties by Efron. PH: P of the test of proportional hazards (Grambsch and Therneau); a "
        "small P speaks against proportional hazards.",
    )


def forest(result: CoxModels, analysis: Analysis) -> Figure | None:
    """Hazard ratios of one standard deviation, alone and together."""
    models = [("univariable", item.fit) for item in result.univariable]
    models.append(("multivariable", result.multivariable))
    lines: list[tuple[str, Estimate, str]] = [
        (analysis.data.headings.get(term.name, term.name), term.hazard_ratio_per_sd, kind)
        for kind, fit in models
        if not isinstance(fit, NotDone)
        for term in fit.model.terms
    ]
    return forest_plot(lines, "Hazard ratio per SD (95 % CI)")


COX: Step[CoxModels] = Step(
    "cox",
    "Cox regression",
    compute=lambda analysis, _: cox_models(analysis.data, analysis.cutoff),
    sentences=sentences,
    tables=(table,),
    figures=(
        Drawing(
            "forest",
            forest,
            "Hazard ratios per standard deviation, alone and together.",
        ),
    ),
    by_cutoff=True,
)
