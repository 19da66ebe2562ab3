"""Logistic regression: maximum likelihood, or Firth's where that has no finite answer."""

from __future__ import annotations

import math
import warnings as python_warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import statsmodels.api as sm
from numpy.typing import ArrayLike
from scipy import stats
from scipy.special import expit
from statsmodels.tools.sm_exceptions import PerfectSeparationError

from dlild_analysis.stats.arrays import (
    BoolArray,
    FloatArray,
    as_binary,
    as_design,
    check_lengths,
    check_regressors,
    normal_quantile,
    outside_range,
)
from dlild_analysis.stats.errors import StatisticsError
from dlild_analysis.stats.logistic.diagnostics import detect_separation, variance_inflation
from dlild_analysis.stats.logistic.likelihood import (
    Likelihood,
    maximise_logistic,
    profile_interval,
    profile_maximum,
)
from dlild_analysis.stats.regression import Regression, Term, few_events, ratios, wald_p
from dlild_analysis.stats.results import Estimate, HypothesisTest, RiskPrediction


@dataclass(frozen=True, kw_only=True)
class OddsTerm(Term):
    """One covariate of a logistic model.

    Attributes
    ----------
    odds_ratio, odds_ratio_per_sd
        Per unit and per standard deviation of the covariate.
    vif
        Variance inflation factor; 1 in a model of one covariate.
    """

    odds_ratio: Estimate
    odds_ratio_per_sd: Estimate
    vif: float


@dataclass(frozen=True, kw_only=True, eq=False)
class LogisticFit(Regression):
    """A fitted logistic model.

    Attributes
    ----------
    terms
        One for each covariate, in the order given.
    intercept
        Log odds at all covariates zero.
    covariance
        Shape (p + 1, p + 1), intercept first.
    lower, upper
        Shape (p,): range of each covariate in the data, for refusing to extrapolate.
    log_likelihood, log_likelihood_null
        Of the model and of the intercept alone; penalised both, when ``penalty`` is "firth".
    likelihood_ratio
        Model against intercept.
    penalty
        "none" or "firth".
    events_per_parameter
        min(events, non-events) / p.
    """

    terms: tuple[OddsTerm, ...]
    intercept: float
    covariance: FloatArray
    lower: FloatArray
    upper: FloatArray
    log_likelihood: float
    log_likelihood_null: float
    likelihood_ratio: HypothesisTest
    penalty: str
    events_per_parameter: float
    n: int
    events: int
    level: float
    method: str
    warnings: tuple[str, ...] = ()


Penalty = Literal["auto", "none", "firth"]
Interval = Literal["wald", "profile"]


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


_FEW = 5.0  # events per parameter below which Firth's penalty is taken by itself


def _choose_penalty(
    x: FloatArray, event: BoolArray, names: Sequence[str], penalty: str, rare: int
) -> tuple[bool, tuple[str, ...]]:
    """Whether to penalise, and the remarks on it."""
    ratio = rare / len(names)
    remarks = list(few_events(ratio))
    separation = detect_separation(x, event, names)
    if separation.kind != "none":
        remarks.append(
            f"{separation.kind} separation by {', '.join(separation.columns)}: maximum likelihood"
            " has no finite estimate"
        )
        if penalty == "none":
            raise StatisticsError(f"design: {remarks[-1]}; use penalty='firth'")
    firth = penalty == "firth" or (
        penalty == "auto" and (ratio < _FEW or separation.kind != "none")
    )
    if firth and penalty == "auto":
        remarks.append("Firth's penalised likelihood was used")
    return firth, tuple(remarks)


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
    covariance: FloatArray = np.linalg.inv(likelihood.parts(beta)[2]).astype(np.float64)
    return beta, highest, covariance


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


def predict_logistic(fit: LogisticFit, design: ArrayLike, *, level: float = 0.95) -> RiskPrediction:
    """Predict risks, with Wald intervals formed on the log-odds scale.

    Parameters
    ----------
    fit
        A fitted model.
    design
        Shape (m, p), columns in the order of ``fit.names``.
    level
        Coverage of the intervals.

    Returns
    -------
    RiskPrediction
        With a warning that counts the rows outside the range of the fitted data.

    Raises
    ------
    StatisticsError
        A wrong number of columns or a value that is not finite.
    """
    x = fit.rows(design)
    rows = np.column_stack([np.ones(x.shape[0]), x])
    eta = rows @ np.array([fit.intercept, *(term.beta for term in fit.terms)])
    error = np.sqrt(np.einsum("ij,jk,ik->i", rows, fit.covariance, rows))
    half = normal_quantile(level) * error
    return RiskPrediction(
        risk=expit(eta),
        ci_low=expit(eta - half),
        ci_high=expit(eta + half),
        level=level,
        method="logistic risk, Wald interval on the log-odds scale",
        warnings=outside_range(x, fit.lower, fit.upper),
    )


@dataclass(frozen=True, eq=False)
class ScaledFit:
    """A maximum, in centred and scaled columns."""

    likelihood: Likelihood
    beta: FloatArray
    covariance: FloatArray
    highest: float


def odds_term(
    name: str,
    k: int,
    sd: float,
    vif: float,
    fitted: ScaledFit,
    *,
    profile: bool,
    level: float,
) -> OddsTerm:
    """Turn coefficient ``k`` into odds ratios per unit and per SD."""
    beta, error = float(fitted.beta[k]), math.sqrt(fitted.covariance[k, k])
    if profile:
        low, high = profile_interval(
            fitted.likelihood, fitted.beta, fitted.highest, k, error=error, level=level
        )
        without = profile_maximum(fitted.likelihood, fitted.beta, k, 0.0)
        p_value = float(stats.chi2.sf(max(0.0, 2 * (fitted.highest - without)), 1))
        how = "profile likelihood interval, likelihood-ratio test"
    else:
        half = normal_quantile(level) * error
        low, high = beta - half, beta + half
        p_value = wald_p(beta, error)
        how = "Wald interval and test"
    if fitted.likelihood.firth:
        how = f"Firth penalty, {how}"
    unbounded = not (math.isfinite(low) and math.isfinite(high))
    per_unit, per_sd = ratios(
        beta,
        low,
        high,
        units=(1 / sd, 1.0),
        kind="odds ratio",
        how=how,
        p_value=p_value,
        n=fitted.likelihood.y.size,
        level=level,
        warnings=(f"{name}: a confidence limit is infinite",) if unbounded else (),
    )
    return OddsTerm(
        name=name,
        beta=beta / sd,
        std_error=error / sd,
        sd=sd,
        odds_ratio=per_unit,
        odds_ratio_per_sd=per_sd,
        vif=vif,
    )
