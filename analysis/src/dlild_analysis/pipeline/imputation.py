"""Multiple imputation by chained equations, and Rubin's rules for the two main models."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from statsmodels.imputation.mice import MICEData

from dlild_analysis.errors import NotDoneError
from dlild_analysis.pipeline.data import Data
from dlild_analysis.pipeline.progress import Progress
from dlild_analysis.pipeline.step import attempt
from dlild_analysis.stats import cox, logistic, pooling
from dlild_analysis.stats.arrays import FloatArray

BURN_IN = 10


def imputed_models(data: Data, seed: int, progress: Progress) -> dict[str, Any]:
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
        design, time, event, count=data.study.table.imputations, seed=seed, progress=progress
    )
    categories = {term.name for term in terms if term.level is not None}
    rng = np.random.default_rng([seed, 501])
    for name in sorted(categories):
        columns = [term.label for term in terms if term.name == name]
        for table in tables:
            _one_level(table, columns, rng)
    progressed = data.progressed()[known]
    return {
        "imputations": len(tables),
        "values_imputed": gaps,
        "share_missing": {
            name: float(design[name].isna().mean()) for name in design if design[name].isna().any()
        },
        "method": "statsmodels MICEData, predictive mean matching, 10 cycles between tables; "
        "Rubin's rules with Barnard and Rubin's degrees of freedom",
        "cox": attempt(_pool_cox, tables, time, event),
        "logistic": attempt(_pool_logistic, tables, progressed),
    }


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
    seed: int,
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
        rng=np.random.default_rng([seed, 500]),
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
) -> list[dict[str, Any]]:
    fits = [cox.fit_cox(table, time, event) for table in tables]
    return _pool([fit.terms for fit in fits], len(time), int(event.sum()))


def _pool_logistic(tables: list[pd.DataFrame], progressed: FloatArray) -> list[dict[str, Any]]:
    known = np.isfinite(progressed)
    fits = [logistic.fit_logistic(table[known], progressed[known]) for table in tables]
    return _pool([fit.terms for fit in fits], int(known.sum()), int(np.nansum(progressed)))


def _pool(terms: list[Any], n: int, events: int) -> list[dict[str, Any]]:
    pooled = []
    for column in range(len(terms[0])):
        picks = [fit[column] for fit in terms]
        result = pooling.pool_estimates(
            [pick.beta for pick in picks],
            [pick.std_error for pick in picks],
            n,
            parameters=len(terms[0]),
        )
        pooled.append(
            {
                "name": picks[0].name,
                "log_ratio": result,
                "ratio": float(np.exp(result.estimate)),
                "ratio_ci": [float(np.exp(result.ci_low)), float(np.exp(result.ci_high))],
                "n": n,
                "events": events,
            }
        )
    return pooled
