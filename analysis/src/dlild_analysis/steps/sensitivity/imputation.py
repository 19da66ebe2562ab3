"""Multiple imputation by chained equations, and Rubin's rules for the two main models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from statsmodels.imputation.mice import MICEData

from dlild_analysis.errors import NotDoneError
from dlild_analysis.stats import cox, logistic, pooling
from dlild_analysis.stats.arrays import FloatArray
from dlild_analysis.stats.results import Estimate
from dlild_analysis.steps.attempts import NotDone, attempt
from dlild_analysis.steps.data import Data
from dlild_analysis.steps.presentation.table import Table
from dlild_analysis.steps.presentation.text import DASH, interval, not_done, number, p_value
from dlild_analysis.steps.progress import Progress
from dlild_analysis.steps.step import OWN, Analysis, Step
from dlild_analysis.steps.validation.models import random_stream

BURN_IN = 10


@dataclass(frozen=True)
class PooledTerm:
    """One covariate of a model, pooled over the imputed tables."""

    name: str
    log_ratio: Estimate
    ratio: float
    ratio_ci: tuple[float, float]
    n: int
    events: int


@dataclass(frozen=True)
class Imputed:
    """What the step found; `share_missing` by covariate."""

    imputations: int
    values_imputed: int
    share_missing: dict[str, float]
    cox: tuple[PooledTerm, ...] | NotDone
    logistic: tuple[PooledTerm, ...] | NotDone
    method: str = (
        "statsmodels MICEData, predictive mean matching, 10 cycles between tables; "
        "Rubin's rules with Barnard and Rubin's degrees of freedom"
    )


def imputed_models(data: Data, progress: Progress) -> Imputed:
    """Fit the multivariable Cox and logistic models in imputed tables and pool them.

    Missing covariates are drawn by predictive mean matching from all other covariates, the event
    indicator and the Nelson-Aalen cumulative hazard (White and Royston, Stat Med
    2009;28:1982-1998). The outcome itself is never imputed.
    """
    names = data.available(data.study.plan.adjust)
    if not names:
        raise NotDoneError("analysis.adjust names no covariate that the cohort has")
    design, terms = data.design(names)
    known = np.isfinite(data.outcome.time)
    design = design[known].reset_index(drop=True)
    gaps = int(design.isna().to_numpy().sum())
    if gaps == 0:
        raise NotDoneError("no covariate value is missing")
    empty = [name for name in design if design[name].isna().all()]
    if empty:
        raise NotDoneError(f"{empty[0]} has no value at all")
    time, event = data.outcome.time[known], (data.outcome.status[known] == 1).astype(np.int64)
    tables = _impute(
        design,
        time,
        event,
        count=data.study.table.imputations,
        rng=random_stream(data, 500),
        progress=progress,
    )
    rng = random_stream(data, 501)
    for name in sorted({term.name for term in terms if term.level is not None}):
        columns = [term.label for term in terms if term.name == name]
        for filled in tables:
            _one_level(filled, columns, rng)
    return Imputed(
        len(tables),
        gaps,
        {name: float(design[name].isna().mean()) for name in design if design[name].isna().any()},
        attempt(_pool_cox, tables, time, event),
        attempt(_pool_logistic, tables, data.progressed()[known]),
    )


def nelson_aalen(time: FloatArray, event: np.ndarray) -> FloatArray:
    """Cumulative hazard at each patient's own time."""
    order = np.argsort(time, kind="stable")
    unique, start = np.unique(time[order], return_index=True)
    at_risk = time.size - start
    deaths = np.add.reduceat(event[order], start)
    hazard = np.cumsum(deaths / at_risk)
    return np.asarray(hazard[np.searchsorted(unique, time)], dtype=np.float64)


def _impute(
    design: pd.DataFrame,
    time: FloatArray,
    event: np.ndarray,
    *,
    count: int,
    rng: np.random.Generator,
    progress: Progress,
) -> list[pd.DataFrame]:
    plain = [f"x{index}" for index in range(design.shape[1])]
    table = pd.DataFrame(design.to_numpy(), columns=plain)
    table["event"] = event.astype(np.float64)
    table["hazard"] = nelson_aalen(time, event)
    show = progress.bar("imputation")
    tables = []
    chains = MICEData(
        table,
        perturbation_method="gaussian",
        k_pmm=min(20, max(3, len(table) // 10)),
        rng=rng,
    )
    for index in range(count):
        chains.update_all(BURN_IN)
        filled = chains.data[plain].copy()
        filled.columns = design.columns
        tables.append(filled)
        show(index + 1, count)
    return tables


def _one_level(table: pd.DataFrame, columns: list[str], rng: np.random.Generator) -> None:
    """Keep one level, at random, where the indicators of a category were drawn together."""
    drawn = table[columns].to_numpy()
    for row in np.flatnonzero(drawn.sum(axis=1) > 1):
        kept = rng.choice(np.flatnonzero(drawn[row]))
        drawn[row] = np.arange(len(columns)) == kept
    table[columns] = drawn


def _pool_cox(
    tables: list[pd.DataFrame], time: FloatArray, event: np.ndarray
) -> tuple[PooledTerm, ...]:
    fits = [cox.fit_cox(table, time, event) for table in tables]
    return _pool([fit.terms for fit in fits], len(time), int(event.sum()))


def _pool_logistic(tables: list[pd.DataFrame], progressed: FloatArray) -> tuple[PooledTerm, ...]:
    known = np.isfinite(progressed)
    fits = [logistic.fit_logistic(table[known], progressed[known]) for table in tables]
    return _pool([fit.terms for fit in fits], int(known.sum()), int(np.nansum(progressed)))


def _pool(
    fits: Sequence[Sequence[cox.HazardTerm | logistic.OddsTerm]], n: int, events: int
) -> tuple[PooledTerm, ...]:
    pooled = []
    for picks in zip(*fits, strict=True):
        result = pooling.pool_estimates(
            [pick.beta for pick in picks],
            [pick.std_error for pick in picks],
            n,
            parameters=len(fits[0]),
        )
        low, high = float(np.exp(result.ci_low)), float(np.exp(result.ci_high))
        ratio = float(np.exp(result.estimate))
        pooled.append(PooledTerm(picks[0].name, result, ratio, (low, high), n, events))
    return tuple(pooled)


def table(result: Imputed, _analysis: Analysis) -> Table | None:
    """Pooled models after multiple imputation."""
    rows: list[tuple[str, ...]] = []
    for title, terms in (("Cox, HR", result.cox), ("Logistic, OR", result.logistic)):
        if isinstance(terms, NotDone):
            rows.append((title, not_done(terms), DASH, DASH, DASH))
            continue
        rows += [
            (
                title,
                term.name,
                f"{term.n} ({term.events})",
                f"{number(term.ratio, 3)} ({interval(*term.ratio_ci, 3)})",
                p_value(term.log_ratio.p_value),
            )
            for term in terms
        ]
    return Table(
        "imputed",
        "Multivariable models after multiple imputation",
        ("Model", "Covariate", "n (events)", "Ratio per unit (95 % CI)", "P"),
        rows,
        f"{result.imputations} tables; {result.values_imputed} values imputed. {result.method}.",
    )


IMPUTATION: Step[Imputed] = Step(
    "imputation",
    "Multiple imputation",
    compute=lambda analysis, progress: imputed_models(analysis.data, progress),
    tables=(table,),
    libraries=(*OWN, "statsmodels"),
)
