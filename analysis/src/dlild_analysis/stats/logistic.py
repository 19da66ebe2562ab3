"""Logistic regression: maximum likelihood, or Firth's where that has no finite answer."""

from __future__ import annotations

import warnings as python_warnings
from collections.abc import Sequence
from typing import Literal

import numpy as np
import statsmodels.api as sm
from numpy.typing import ArrayLike
from scipy import stats
from statsmodels.tools.sm_exceptions import PerfectSeparationError

from dlild_analysis.stats.arrays import (
    BoolArray,
    FloatArray,
    as_binary,
    as_design,
    check_lengths,
)
from dlild_analysis.stats.designs import check_regressors
from dlild_analysis.stats.errors import StatisticsError
from dlild_analysis.stats.logistic_checks import detect_separation, variance_inflation
from dlild_analysis.stats.logistic_likelihood import (
    Likelihood,
    maximise_logistic,
)
from dlild_analysis.stats.logistic_prediction import predict_logistic
from dlild_analysis.stats.logistic_results import LogisticFit, OddsTerm, RiskPrediction
from dlild_analysis.stats.odds_terms import ScaledFit, odds_term
from dlild_analysis.stats.results import HypothesisTest

Penalty = Literal["auto", "none", "firth"]
Interval = Literal["wald", "profile"]

__all__ = [
    "Interval",
    "LogisticFit",
    "OddsTerm",
    "Penalty",
    "RiskPrediction",
    "fit_logistic",
    "fit_univariable",
    "logistic_coefficients",
    "predict_logistic",
]


def fit_logistic(
    design: ArrayLike,
    outcome: ArrayLike,
    names: Sequence[str] | None = None,
    *,
    penalty: Penalty = "auto",
    interval: Interval = "wald",
    level: float = 0.95,
) -> LogisticFit:
    """Fit a logistic regression with an intercept.

    ``penalty="auto"`` is maximum likelihood, and Firth's penalised likelihood where events (or
    non-events) per parameter are below 5 or the classes are separated; the result says which.
    Under Firth the intervals are always of the profile penalised likelihood and p-values of the
    penalised likelihood ratio, since Wald's fail there.

    Parameters
    ----------
    design
        Shape (n, p): DataFrame or array, without a column of ones.
    outcome
        Shape (n,), 0 or 1.
    names
        Of the columns; taken from a DataFrame when left out.
    penalty
        "auto", "none" or "firth".
    interval
        "wald" or "profile" (profile likelihood).
    level
        Coverage of the intervals.

    Returns
    -------
    LogisticFit
        The model; a constant column or collinear columns are an error, separation a warning.

    Raises
    ------
    StatisticsError
        One class only, a constant or collinear column, values that are not finite, or
        ``penalty="none"`` with separated classes.

    References
    ----------
    .. [1] Firth D. Bias reduction of maximum likelihood estimates. Biometrika 1993;80:27-38.
    .. [2] Heinze G, Schemper M. A solution to the problem of separation in logistic regression.
       Stat Med 2002;21:2409-2419.
    """
    if penalty not in ("auto", "none", "firth"):
        raise StatisticsError(f"penalty: {penalty!r}; use 'auto', 'none' or 'firth'")
    if interval not in ("wald", "profile"):
        raise StatisticsError(f"interval: {interval!r}; use 'wald' or 'profile'")
    x, columns = as_design(design, names)
    event = as_binary(outcome)
    check_lengths(design=x, outcome=event)
    check_regressors(x, columns)
    rare = min(int(event.sum()), int((~event).sum()))
    firth, warnings = _choose_penalty(x, event, columns, penalty, rare)
    centre, scale = x.mean(axis=0), x.std(axis=0, ddof=1)
    scaled = np.column_stack([np.ones(event.size), (x - centre) / scale])
    likelihood = Likelihood(scaled, event.astype(np.float64), firth)
    beta, highest, covariance = _maximum(likelihood)
    null = maximise_logistic(likelihood, np.zeros(beta.size), np.arange(beta.size) == 0)[1]
    profile = firth or interval == "profile"
    inflation = variance_inflation(x, columns)
    fitted = ScaledFit(likelihood, beta, covariance, highest)
    terms = tuple(
        odds_term(name, k, sd, inflation[name], fitted, profile=profile, level=level)
        for k, (name, sd) in enumerate(zip(columns, scale.tolist(), strict=True), start=1)
    )
    # Scaling moves the penalty, half the log determinant of the information, by a constant.
    shift = float(np.log(scale).sum()) if firth else 0.0
    # From centred and scaled columns back to the covariates' own units.
    back = np.diag(np.concatenate([[1.0], 1 / scale]))
    back[0, 1:] = -centre / scale
    own = back @ beta
    return LogisticFit(
        terms=terms,
        intercept=float(own[0]),
        covariance=back @ covariance @ back.T,
        lower=x.min(axis=0),
        upper=x.max(axis=0),
        log_likelihood=highest + shift,
        log_likelihood_null=null + shift,
        likelihood_ratio=_ratio_test(highest - null, len(columns), event.size, firth),
        penalty="firth" if firth else "none",
        events_per_parameter=rare / len(columns),
        n=event.size,
        events=int(event.sum()),
        level=level,
        method=_method(firth, profile),
        warnings=warnings,
    )


def fit_univariable(
    design: ArrayLike,
    outcome: ArrayLike,
    names: Sequence[str] | None = None,
    *,
    penalty: Penalty = "auto",
    interval: Interval = "wald",
    level: float = 0.95,
) -> tuple[LogisticFit, ...]:
    """Fit one model for each column; parameters as :func:`fit_logistic`.

    Parameters
    ----------
    design, outcome, names, penalty, interval, level
        As :func:`fit_logistic`.

    Returns
    -------
    tuple of LogisticFit
        One for each column, in order.

    Raises
    ------
    StatisticsError
        As :func:`fit_logistic`; the message names the column.
    """
    x, columns = as_design(design, names)
    return tuple(
        fit_logistic(x[:, [k]], outcome, [name], penalty=penalty, interval=interval, level=level)
        for k, name in enumerate(columns)
    )


def logistic_coefficients(
    design: ArrayLike, outcome: ArrayLike, *, penalty: Penalty = "none"
) -> FloatArray:
    """Intercept and log odds ratios alone: what a bootstrap repeats.

    Parameters
    ----------
    design, outcome
        As :func:`fit_logistic`.
    penalty
        "none" or "firth"; "auto" is taken as "none".

    Returns
    -------
    ndarray
        Shape (p + 1,), intercept first, per unit.

    Raises
    ------
    StatisticsError
        As :func:`fit_logistic`; also without convergence, which separation brings about.
    """
    x, columns = as_design(design, None)
    event = as_binary(outcome)
    check_lengths(design=x, outcome=event)
    check_regressors(x, columns)
    centre, scale = x.mean(axis=0), x.std(axis=0)
    scaled = np.column_stack([np.ones(event.size), (x - centre) / scale])
    likelihood = Likelihood(scaled, event.astype(np.float64), penalty == "firth")
    free = np.ones(scaled.shape[1], dtype=np.bool_)
    beta, _ = maximise_logistic(likelihood, np.zeros(free.size), free)
    if not likelihood.firth and np.abs(beta).max() > _SEPARATED:
        raise StatisticsError("design: the classes are separated; use penalty='firth'")
    slopes = beta[1:] / scale
    return np.concatenate([[beta[0] - centre @ slopes], slopes])


_SEPARATED = 15.0  # log odds ratio per SD that only separated classes reach
_FEW = 5.0  # events per parameter below which Firth's penalty is taken by itself


def _choose_penalty(
    x: FloatArray, event: BoolArray, names: Sequence[str], penalty: str, rare: int
) -> tuple[bool, tuple[str, ...]]:
    """Whether to penalise, and what to tell about it."""
    ratio = rare / len(names)
    told = []
    if ratio < 10:
        told.append(f"{ratio:.1f} events per parameter: fewer than the customary 10")
    separation = detect_separation(x, event, names)
    if separation.kind != "none":
        told.append(
            f"{separation.kind} separation by {', '.join(separation.columns)}: maximum likelihood"
            " has no finite estimate"
        )
        if penalty == "none":
            raise StatisticsError(f"design: {told[-1]}; use penalty='firth'")
    firth = penalty == "firth" or (
        penalty == "auto" and (ratio < _FEW or separation.kind != "none")
    )
    if firth and penalty == "auto":
        told.append("Firth's penalised likelihood was used")
    return firth, tuple(told)


def _maximum(likelihood: Likelihood) -> tuple[FloatArray, float, FloatArray]:
    """Coefficients, log-likelihood and covariance, by statsmodels where it can."""
    p = likelihood.x.shape[1]
    start = np.zeros(p)
    if not likelihood.firth:
        with python_warnings.catch_warnings():
            python_warnings.simplefilter("ignore")
            try:
                model = sm.Logit(likelihood.y, likelihood.x)
                start = np.asarray(model.fit(disp=0, method="newton", tol=1e-10).params)
            except (PerfectSeparationError, np.linalg.LinAlgError):
                start = np.zeros(p)
    # Newton's last steps from there cost nothing, and check that it is the maximum.
    beta, highest = maximise_logistic(likelihood, start, np.ones(p, dtype=np.bool_))
    return beta, highest, np.linalg.inv(likelihood.parts(beta)[2])


def _ratio_test(gain: float, df: int, n: int, firth: bool) -> HypothesisTest:
    statistic = max(0.0, 2 * gain)
    return HypothesisTest(
        statistic=statistic,
        df=df,
        p_value=float(stats.chi2.sf(statistic, df)),
        n=n,
        method=("penalised " if firth else "") + "likelihood-ratio test against the intercept",
    )


def _method(firth: bool, profile: bool) -> str:
    if firth:
        return "logistic regression, Firth's penalised likelihood, profile intervals"
    return "logistic regression, " + ("profile" if profile else "Wald") + " intervals"
