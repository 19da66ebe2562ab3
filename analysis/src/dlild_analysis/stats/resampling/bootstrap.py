"""Bootstrap and cross-validation that know nothing of the model they validate.

A model is given as ``fit``: called with the indices of training patients, it does **everything**
that the analysis does (imputing, choosing knots, covariates and cut-offs, fitting) and returns a
function from indices to predictions. A ``metric`` maps indices and their predictions to a number.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from dlild_analysis.stats.arrays import FloatArray, IntArray, check_lengths
from dlild_analysis.stats.errors import StatisticsError
from dlild_analysis.stats.results import Estimate, Result

Predict = Callable[[IntArray], FloatArray]
Fit = Callable[[IntArray], Predict]
Metric = Callable[[IntArray, FloatArray], float]
Progress = Callable[[int, int], None]

_NO_INTERVAL = (
    "the fit fixes the apparent value (a calibration slope of 1): the bootstrap gives no interval"
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Optimism(Result):
    """Optimism of a model's performance in its own data.

    Attributes
    ----------
    apparent
        In the data that fitted the model.
    optimism
        Mean over bootstrap samples of (performance in the sample - performance in the data).
    corrected
        apparent - optimism, with the location-shifted bootstrap interval.
    lowest, highest
        Smallest and largest corrected performance over the bootstrap samples: apparent minus the
        optimism of one sample. A mean of values that range widely is no result.
    failures
        Bootstrap samples in which the model could not be fitted; they are left out, and counted.
    """

    apparent: float
    optimism: float
    corrected: Estimate
    lowest: float
    highest: float
    bootstraps: int
    failures: int
    optimism_values: FloatArray
    method: str
    warnings: tuple[str, ...] = ()


def optimism_bootstrap(
    fit: Fit,
    metric: Metric,
    n: int,
    *,
    rng: np.random.Generator,
    bootstraps: int = 200,
    strata: ArrayLike | None = None,
    level: float = 0.95,
    shifted_interval: bool = True,
    progress: Progress | None = None,
) -> Optimism:
    """Harrell's optimism-corrected performance.

    Parameters
    ----------
    fit, metric
        See the module.
    n
        Patients.
    rng
        Source of the samples.
    bootstraps
        Samples, at least 20; 200 are usual.
    strata
        Shape (n,): drawn within each stratum, when given.
    level
        Coverage of the interval.
    shifted_interval
        Whether to form the location-shifted interval: the spread of the apparent performance over
        the samples, moved by the optimism. It says nothing of a metric whose apparent value is
        fixed, such as the calibration slope, which is 1 in the data of the fit: none is given then.
    progress
        Called with (done, total).

    Returns
    -------
    Optimism
        Apparent and corrected performance.

    Raises
    ------
    StatisticsError
        The model fails in the data itself, or in more than half of the samples.

    References
    ----------
    .. [1] Harrell FE, Lee KL, Mark DB. Multivariable prognostic models. Stat Med 1996;15:361-387.
    .. [2] Noma H, Shinozaki T, Iba K, Teramukai S, Furukawa TA. Confidence intervals of prediction
       accuracy measures for multivariable prediction models based on the bootstrap-based optimism
       correction methods. Stat Med 2021;40:5691-5701.
    """
    everyone = np.arange(n)
    apparent = metric(everyone, fit(everyone)(everyone))
    if not math.isfinite(apparent):
        raise StatisticsError("metric: not finite in the data themselves")

    def once(sample: IntArray) -> tuple[float, float]:
        predict = fit(sample)
        inside = metric(sample, predict(sample))
        return inside, metric(everyone, predict(everyone))

    pairs = np.full((bootstraps, 2), math.nan)
    reasons: Counter[str] = Counter()
    for done, sample in enumerate(_samples(n, bootstraps, strata, rng)):
        try:
            pairs[done] = once(sample)
        except (StatisticsError, np.linalg.LinAlgError) as error:
            reasons[failure(error)] += 1
        report_progress(progress, done + 1, bootstraps)
    gaps, warnings = keep_finite(pairs[:, 0] - pairs[:, 1], "bootstrap samples", reasons)
    inside = pairs[np.isfinite(pairs).all(axis=1), 0]
    optimism = float(gaps.mean())
    low, high = (
        np.quantile(inside, [0.5 - level / 2, 0.5 + level / 2])
        if shifted_interval
        else (math.nan, math.nan)
    )
    unbounded = () if shifted_interval else (_NO_INTERVAL,)
    method = f"optimism bootstrap, {gaps.size} samples"
    return Optimism(
        apparent=float(apparent),
        optimism=optimism,
        corrected=Estimate(
            estimate=float(apparent) - optimism,
            ci_low=float(low) - optimism,
            ci_high=float(high) - optimism,
            std_error=float(inside.std(ddof=1)) if shifted_interval else None,
            n=n,
            level=level,
            method=method + (", location-shifted interval" if shifted_interval else ""),
            warnings=(*warnings, *unbounded),
        ),
        lowest=float(apparent) - float(gaps.max()),
        highest=float(apparent) - float(gaps.min()),
        bootstraps=bootstraps,
        failures=bootstraps - gaps.size,
        optimism_values=gaps,
        method=method,
        warnings=warnings,
    )


def _samples(
    n: int, bootstraps: int, strata: ArrayLike | None, rng: np.random.Generator
) -> Iterator[IntArray]:
    """Draw bootstrap samples one by one: memory does not grow with their number."""
    if bootstraps < 20:
        raise StatisticsError(f"bootstraps: {bootstraps}; at least 20 are needed")
    if n < 2:
        raise StatisticsError(f"n: {n}; resampling needs at least 2 patients")
    groups = [np.arange(n)]
    if strata is not None:
        labels = np.asarray(strata).astype(str)
        check_lengths(patients=np.arange(n), strata=labels)
        groups = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    for _ in range(bootstraps):
        yield np.concatenate([rng.choice(group, group.size) for group in groups])


def report_progress(progress: Progress | None, done: int, total: int) -> None:
    """Report progress, if anyone listens."""
    if progress is not None:
        progress(done, total)


def keep_finite(
    values: FloatArray, what: str, reasons: Counter[str] | None = None
) -> tuple[FloatArray, tuple[str, ...]]:
    """Leave out what failed, and say how much and why; more than half is an error.

    Parameters
    ----------
    values
        Not finite where something failed.
    what
        What was repeated.
    reasons
        How often each reason was given; what failed without one was not finite.
    """
    kept = values[np.isfinite(values)]
    failed = values.size - kept.size
    why = _why(failed, reasons)
    if kept.size < 2 or failed > values.size / 2:
        raise StatisticsError(
            f"{failed} of {values.size} {what} failed{why}: the data are too few for this model;"
            " use fewer covariates"
        )
    if not failed:
        return kept, ()
    return kept, (f"{failed} of {values.size} {what} failed and were left out{why}",)


def _why(failed: int, reasons: Counter[str] | None) -> str:
    counts = Counter(reasons or {})
    silent = failed - counts.total()
    if silent > 0:
        counts["the measure is not finite"] += silent
    words = [f"{count} times {reason}" for reason, count in counts.most_common(3)]
    if len(counts) > 3:
        words.append(f"{len(counts) - 3} other reasons")
    return f" ({'; '.join(words)})" if words else ""


def failure(error: Exception) -> str:
    """State why a resample failed."""
    if isinstance(error, StatisticsError):
        return str(error)
    return f"the matrix is singular ({error})"
