"""Every estimator on every degenerate cohort: a result that says so, or a clear refusal."""

from __future__ import annotations

import math
import warnings
from dataclasses import fields, is_dataclass

import numpy as np
import pytest

from dlild_analysis.stats import (
    agreement,
    calibration,
    competing_risks,
    correlation,
    cox,
    incremental,
    logistic,
    resampling,
    roc,
    survival,
)
from dlild_analysis.stats.errors import StatisticsError

KINDS = [
    "ordinary",
    "no events",
    "all events",
    "one event",
    "last event",
    "separated",
    "ranked",
    "constant",
    "ties everywhere",
    "three",
    "three events",
    "two",
    "time zero",
    "huge",
    "tiny",
    "binary score",
    "long times",
]


def cohort(kind):
    rng = np.random.default_rng(0)
    time = rng.integers(1, 36, 40).astype(float)
    event, score = (rng.random(40) < 0.4).astype(int), rng.normal(size=40)
    last = time.argmax()
    changes = {
        "no events": {"event": 0 * event},
        "all events": {"event": 0 * event + 1},
        "one event": {"event": (np.arange(40) == 5).astype(int)},
        "last event": {"event": (np.arange(40) == last).astype(int)},
        "separated": {"score": event + 0.01 * score},
        "ranked": {"event": 0 * event + 1, "time": np.arange(1.0, 41), "score": -np.arange(40.0)},
        "constant": {"score": 0 * score + 3},
        "ties everywhere": {"time": 0 * time + 12, "score": score.round()},
        "three": {"time": time[:3] * [1, 2, 3], "event": [1, 0, 1], "score": [3.0, 2, 1]},
        "three events": {"time": [5.0, 10, 20], "event": [1, 1, 1], "score": [3.0, 2, 1]},
        "two": {"time": [5.0, 10], "event": [1, 0], "score": [3.0, 2]},
        "time zero": {"time": 0 * time},
        "huge": {"score": score * 1e200},
        "tiny": {"score": score * 1e-200},
        "binary score": {"score": (score > 0).astype(float)},
        "long times": {"time": time * 1e12},
    }
    parts = {"time": time, "event": event, "score": score} | changes.get(kind, {})
    time, event, score = (np.asarray(parts[k]) for k in ("time", "event", "score"))
    return time, event, score, rng.normal(size=time.size)


def risk(score):
    return 1 / (1 + np.exp(-np.clip(score, -700, 700)))


def rng():
    return np.random.default_rng(1)


def both(s, r):
    return np.column_stack([s, r])


def as_score(s):
    return lambda train: lambda rows: s[rows]


ESTIMATORS = {
    "pearson": lambda t, e, s, r: correlation.pearson(t, s),
    "spearman": lambda t, e, s, r: correlation.spearman(t, s),
    "dependent": lambda t, e, s, r: correlation.compare_dependent_scores(s, r, t),
    "auc": lambda t, e, s, r: roc.auc(e, s),
    "paired": lambda t, e, s, r: roc.compare_auc_paired(e, s, r),
    "unpaired": lambda t, e, s, r: roc.compare_auc_unpaired(e, s, e, r),
    "youden": lambda t, e, s, r: roc.youden_cutoff(e, s),
    "operating": lambda t, e, s, r: roc.operating_point(e, s, 1.0),
    "logistic": lambda t, e, s, r: logistic.fit_logistic(both(s, r), e),
    "plain": lambda t, e, s, r: logistic.fit_logistic(s, e, penalty="none"),
    "profile": lambda t, e, s, r: logistic.fit_logistic(s, e, interval="profile"),
    "firth": lambda t, e, s, r: logistic.fit_logistic(s, e, penalty="firth"),
    "linearity": lambda t, e, s, r: logistic.linearity_test(s, e),
    "kaplan-meier": lambda t, e, s, r: survival.survival_at(
        survival.kaplan_meier(t, e), [0, 12, 24, 99]
    ),
    "log-rank": lambda t, e, s, r: survival.log_rank(t, e, s > np.median(s)),
    "cox": lambda t, e, s, r: cox.fit_cox(both(s, r), t, e),
    "cox risk": lambda t, e, s, r: cox.predict_cox(cox.fit_cox(s, t, e), s, 12),
    "proportional": lambda t, e, s, r: cox.proportional_hazards_test(s, t, e),
    "rmst": lambda t, e, s, r: survival.rmst_difference(t, e, s > np.median(s), 10),
    "harrell": lambda t, e, s, r: survival.harrell_c(t, e, s),
    "uno": lambda t, e, s, r: survival.uno_c(t, e, s),
    "delta c": survival.compare_concordance,
    "time auc": lambda t, e, s, r: survival.time_auc(t, e, s, 12),
    "time aucs": lambda t, e, s, r: survival.compare_time_auc(t, e, s, r, 12),
    "calibration": lambda t, e, s, r: calibration.calibrate_binary(e, risk(s)),
    "survival calibration": lambda t, e, s, r: calibration.calibrate_survival(t, e, risk(s), 12),
    "decision": lambda t, e, s, r: calibration.decision_curve(e, risk(s), [0.1, 0.5]),
    "survival decision": lambda t, e, s, r: calibration.decision_curve_survival(
        t, e, risk(s), 12, [0.1, 0.5]
    ),
    "incidence": lambda t, e, s, r: competing_risks.incidence_at(
        competing_risks.aalen_johansen(t, e * (1 + (r > 0))), [0, 12, 99]
    ),
    "cause-specific": lambda t, e, s, r: competing_risks.fit_cause_specific(
        s, t, e * (1 + (r > 0))
    ),
    "fine-gray": lambda t, e, s, r: competing_risks.fit_fine_gray(s, t, e * (1 + (r > 0))),
    "icc": lambda t, e, s, r: agreement.intraclass_correlation(both(s, r)),
    "bland-altman": lambda t, e, s, r: agreement.bland_altman(s, r, interval="exact"),
    "cut-offs": lambda t, e, s, r: roc.scan_cutoffs_survival(t, e, s, rng=rng(), permutations=100),
    "binary cut-offs": lambda t, e, s, r: roc.scan_cutoffs_binary(
        e, s, rng=rng(), permutations=100
    ),
    "gain": lambda t, e, s, r: incremental.likelihood_ratio_test(
        cox.fit_cox(s, t, e, ["a"]), cox.fit_cox(both(s, r), t, e, ["a", "b"])
    ),
    "reclassification": lambda t, e, s, r: incremental.reclassification(e, risk(s), risk(r)),
    "cross-validation": lambda t, e, s, r: resampling.cross_validate(
        as_score(s), lambda i, p: roc.auc_value(e[i], p), e, rng=rng(), repeats=2
    ),
    "optimism": lambda t, e, s, r: resampling.optimism_bootstrap(
        as_score(s), lambda i, p: roc.auc_value(e[i], p), e.size, rng=rng(), bootstraps=20
    ),
}


def untold(value, path="result"):
    """Paths of numbers that are not finite and whose result has no warning."""
    if is_dataclass(value):
        if getattr(value, "warnings", ()):
            return []
        return [
            p for f in fields(value) for p in untold(getattr(value, f.name), f"{path}.{f.name}")
        ]
    if isinstance(value, dict):
        return [p for k, v in value.items() for p in untold(v, f"{path}.{k}")]
    if isinstance(value, tuple | list):
        return [p for k, v in enumerate(value) for p in untold(v, f"{path}[{k}]")]
    if isinstance(value, np.ndarray):
        return [] if value.dtype.kind != "f" or np.isfinite(value).all() else [path]
    return [path] if isinstance(value, float) and not math.isfinite(value) else []


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ESTIMATORS)
def test_no_traceback_and_no_nan_without_a_word(name, kind):
    arguments, refusal, found = cohort(kind), "", None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            found = ESTIMATORS[name](*arguments)
        except StatisticsError as error:
            refusal = str(error)
    # An ordinary cohort must give a result; a refusal must say what is wrong, at some length.
    assert found is not None or (kind != "ordinary" and len(refusal) > 25)
    assert untold(found) == []
