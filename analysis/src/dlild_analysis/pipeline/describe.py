"""Table one, correlations with lung function, and agreement of repeated readings."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats as scipy_stats

from dlild_analysis.errors import NotDoneError
from dlild_analysis.pipeline.data import MEASURES, Data
from dlild_analysis.pipeline.step import attempt
from dlild_analysis.stats import agreement, correlation
from dlild_analysis.stats.arrays import FloatArray


def table_one(data: Data) -> dict[str, Any]:
    """Describe all patients, and those with and without progression at the last horizon."""
    progressed = data.progressed()
    names = [*data.available(MEASURES), *data.available(("fvc_litres",))]
    names += [
        item.name
        for item in data.study.covariates
        if item.kind == "number" and data.cohort.has(item.name)
    ]
    names += list(data.available(("gap",)))
    rows = [_number_row(data, name, progressed) for name in names]
    categories = [
        item.name
        for item in data.study.covariates
        if item.kind == "category" and data.cohort.has(item.name)
    ]
    rows += [row for name in categories for row in _category_rows(data, name, progressed)]
    outcome = data.outcome
    known = np.isfinite(outcome.time)
    return {
        "patients": len(data.cohort.patients),
        "outcome_known": int(known.sum()),
        "events": outcome.events,
        "competing_events": outcome.competing,
        "status_known_at_horizon": int(np.isfinite(progressed).sum()),
        "progressed_at_horizon": int(np.nansum(progressed)),
        "horizon_months": data.study.plan.horizon,
        "event_criteria": outcome.reasons,
        "median_follow_up_months": _reverse_median(outcome.time[known], outcome.status[known]),
        "follow_up_range_months": [
            float(outcome.time[known].min()),
            float(outcome.time[known].max()),
        ]
        if known.any()
        else [],
        "rows": rows,
        "method": "mean (SD), median (quartiles); Welch's t and Mann-Whitney U; chi-squared, or "
        "Fisher's exact test in two-by-two tables with an expected count under 5; follow-up by "
        "reverse Kaplan-Meier",
    }


def _reverse_median(time: FloatArray, status: FloatArray) -> float | None:
    """Median follow-up, taking events as censored follow-up (Schemper and Smith, 1996)."""
    order = np.argsort(time, kind="stable")
    alive = 1.0
    censored = (status == 0)[order]
    for index, (moment, end) in enumerate(zip(time[order], censored, strict=True)):
        if end:
            alive *= 1 - 1 / (time.size - index)
        if alive <= 0.5 + 1e-12:
            return float(moment)
    return None


def _summary(values: FloatArray) -> dict[str, Any]:
    known = values[np.isfinite(values)]
    if known.size == 0:
        return {"n": 0, "missing": int(values.size)}
    quartiles = np.percentile(known, [25, 50, 75])
    return {
        "n": int(known.size),
        "missing": int(values.size - known.size),
        "mean": float(known.mean()),
        "sd": float(known.std(ddof=1)) if known.size > 1 else None,
        "median": float(quartiles[1]),
        "q1": float(quartiles[0]),
        "q3": float(quartiles[2]),
        "minimum": float(known.min()),
        "maximum": float(known.max()),
    }


def _number_row(data: Data, name: str, progressed: FloatArray) -> dict[str, Any]:
    values = data.column(name)
    yes, no = values[progressed == 1], values[progressed == 0]
    yes_known, no_known = yes[np.isfinite(yes)], no[np.isfinite(no)]
    row: dict[str, Any] = {
        "name": name,
        "label": data.label(name),
        "kind": "number",
        "all": _summary(values),
        "progressed": _summary(yes),
        "stable": _summary(no),
        "p_t": None,
        "p_rank": None,
    }
    if (
        min(yes_known.size, no_known.size) >= 2
        and np.ptp(np.concatenate([yes_known, no_known])) > 0
    ):
        row["p_t"] = float(scipy_stats.ttest_ind(yes_known, no_known, equal_var=False).pvalue)
        row["p_rank"] = float(scipy_stats.mannwhitneyu(yes_known, no_known).pvalue)
    return row


def _category_rows(data: Data, name: str, progressed: FloatArray) -> list[dict[str, Any]]:
    cells = data.cohort.patients[name]
    levels = data.levels(name)
    counts = np.array(
        [
            [int(((cells == level) & (progressed == flag)).sum()) for flag in (1.0, 0.0)]
            for level in levels
        ]
    )
    p_value = _table_p(counts)
    rows = []
    for level, (yes, no) in zip(levels, counts, strict=True):
        rows.append(
            {
                "name": name,
                "label": f"{data.label(name)}: {level}",
                "kind": "level",
                "level": level,
                "all": {
                    "count": int((cells == level).sum()),
                    "of": int(cells.notna().sum()),
                    "missing": int(cells.isna().sum()),
                },
                "progressed": {"count": int(yes), "of": int(counts[:, 0].sum())},
                "stable": {"count": int(no), "of": int(counts[:, 1].sum())},
                "p": p_value,
            }
        )
    return rows


def _table_p(counts: np.ndarray) -> float | None:
    counts = counts[counts.sum(axis=1) > 0]
    if len(counts) < 2 or (counts.sum(axis=0) == 0).any():
        return None
    expected = counts.sum(axis=1, keepdims=True) * counts.sum(axis=0) / counts.sum()
    if counts.shape == (2, 2) and expected.min() < 5:
        return float(scipy_stats.fisher_exact(counts).pvalue)
    return float(scipy_stats.chi2_contingency(counts, correction=False).pvalue)


def correlations(data: Data) -> dict[str, Any]:
    """Correlate the scores with lung function and compare them."""
    scores = data.available(("score", "visual"))
    functions = data.available(("fvc_percent", "dlco_percent"))
    if not scores or not functions:
        raise NotDoneError("it needs a score and FVC % or DLCO %")
    pairs = []
    for function in functions:
        for score in scores:
            x, y = _complete(data.column(score), data.column(function))
            pairs.append(
                {
                    "score": score,
                    "function": function,
                    "n": int(x.size),
                    "pearson": attempt(correlation.pearson, x, y),
                    "spearman": attempt(correlation.spearman, x, y),
                }
            )
    comparisons = []
    if len(scores) == 2:
        for function in functions:
            a, b, y = _complete(data.column("score"), data.column("visual"), data.column(function))
            comparisons.append(
                {
                    "function": function,
                    "n": int(y.size),
                    "result": attempt(correlation.compare_dependent_scores, a, b, y),
                }
            )
    return {"pairs": pairs, "comparisons": comparisons}


def _complete(*columns: FloatArray) -> tuple[FloatArray, ...]:
    known = np.isfinite(np.vstack(columns)).all(axis=0)
    return tuple(column[known] for column in columns)


def readings_agreement(data: Data) -> dict[str, Any]:
    """Agreement of repeated readings of the same scans."""
    names = [f"reading_{index + 1}" for index in range(len(data.study.readings))]
    if len(names) < 2:
        raise NotDoneError("no repeated readings are given (readings.columns)")
    table: pd.DataFrame = data.cohort.patients[names]
    complete = table.dropna().to_numpy(dtype=np.float64)
    if len(complete) < 3:
        raise NotDoneError(
            f"only {len(complete)} patients have all {len(names)} readings; 3 are needed"
        )
    return {
        "readings": list(data.study.readings),
        "n": len(complete),
        "incomplete": int(len(table) - len(complete)),
        "icc": attempt(agreement.intraclass_correlation, complete),
        "pairs": [
            {
                "a": data.study.readings[i],
                "b": data.study.readings[j],
                "bland_altman": attempt(agreement.bland_altman, complete[:, i], complete[:, j]),
            }
            for i, j in combinations(range(len(names)), 2)
        ],
        "repeatability": attempt(
            agreement.repeatability,
            np.repeat(np.arange(len(complete)), len(names)),
            complete.ravel(),
        ),
    }
