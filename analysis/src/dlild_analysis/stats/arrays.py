"""Input made into arrays and design matrices, with errors that name what is wrong."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dlild_analysis.stats.errors import StatisticsError

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

TIME_TOLERANCE = float(np.sqrt(np.finfo(np.float64).eps))
"""Times closer than this, relative to the mean time, are one time; R's survival has the same."""

_LARGEST = 1e80  # its cube, times any number of patients, is still a number


def as_vector(values: ArrayLike, name: str, *, at_least: int = 1) -> FloatArray:
    """Return a finite float vector of at least so many values."""
    try:
        vector = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise StatisticsError(f"{name}: not numeric ({error}); give numbers only") from error
    if vector.ndim != 1:
        raise StatisticsError(f"{name}: shape {vector.shape}; give one value a patient, shape (n,)")
    bad = np.flatnonzero(~np.isfinite(vector))
    if bad.size:
        raise StatisticsError(
            f"{name}: {bad.size} of {vector.size} values are missing or infinite, the first at"
            f" position {bad[0]}; drop or impute these patients first"
        )
    size = float(np.abs(vector).max(initial=0.0))
    if size > _LARGEST or 0 < size < 1 / _LARGEST:
        raise StatisticsError(
            f"{name}: values of size {size:g} are beyond the range of floating-point arithmetic;"
            " change the unit"
        )
    if vector.size < at_least:
        raise StatisticsError(f"{name}: {vector.size} patients; at least {at_least} are needed")
    return vector


def as_binary(values: ArrayLike, name: str = "outcome", *, both: bool = True) -> BoolArray:
    """Return a vector of 0 and 1 as booleans; with ``both``, both classes must occur."""
    vector = as_vector(values, name)
    odd = vector[(vector != 0) & (vector != 1)]
    if odd.size:
        raise StatisticsError(f"{name}: found {odd[0]:g}; only 0 and 1 are allowed")
    flags: BoolArray = vector == 1
    events = int(flags.sum())
    if both and events in (0, flags.size):
        raise StatisticsError(
            f"{name}: {events} events in {flags.size} patients; both events and non-events are"
            " needed"
        )
    return flags


def as_survival(time: ArrayLike, event: ArrayLike) -> tuple[FloatArray, BoolArray]:
    """Return follow-up times (not negative) and event flags of one length.

    Times that differ by rounding only are made equal; see :func:`merge_tied_times`.
    """
    times = as_vector(time, "time")
    flags = as_binary(event, "event", both=False)
    check_lengths(time=times, event=flags)
    if times.min() < 0:
        first = int(np.argmin(times))
        raise StatisticsError(
            f"time: {times[first]:g} at position {first}; follow-up cannot be negative"
        )
    return merge_tied_times(times), flags


def merge_tied_times(times: FloatArray) -> FloatArray:
    """Make times equal that differ by rounding only, as R's ``survival::aeqSurv`` does.

    0.1 + 0.2 and 0.3 are one time, and two events there are tied. Neighbours closer than
    ``TIME_TOLERANCE`` times the mean of the distinct times share the earliest of them.

    Parameters
    ----------
    times
        Shape (n,); NaN stays NaN.

    Returns
    -------
    ndarray
        Shape (n,).

    References
    ----------
    .. [1] Therneau T. Roundoff error and tied times. Vignette of the R package survival.
    """
    ordered = np.unique(times[np.isfinite(times)])
    if ordered.size < 2:
        return times
    near = np.diff(ordered) <= TIME_TOLERANCE * float(np.abs(ordered).mean())
    if not near.any():
        return times
    kept = ordered[np.concatenate([[True], ~near])]
    merged = times.copy()
    known = np.isfinite(times)
    merged[known] = kept[np.searchsorted(kept, times[known], side="right") - 1]
    return merged


def horizon_among(horizon: float, times: FloatArray) -> float:
    """Return the time that a horizon is equal to but for rounding; else the horizon itself.

    365.25 days are 12 months, though their quotient may be 12.000000000000002: an event then is
    by, not after, the horizon of 12. Compare times with what this returns.

    Parameters
    ----------
    horizon
        In the unit of ``times``.
    times
        Shape (n,), from :func:`as_survival`, or the distinct times of a curve.
    """
    known = times[np.isfinite(times)]
    if known.size == 0:
        return horizon
    nearest = float(known[np.argmin(np.abs(known - horizon))])
    size = max(abs(horizon), float(np.abs(known).mean()))
    return nearest if abs(nearest - horizon) <= TIME_TOLERANCE * size else horizon


def horizon_within(horizon: float, times: FloatArray) -> float:
    """Return what :func:`horizon_among` does, for a horizon that the times reach.

    Raises
    ------
    StatisticsError
        The horizon is not positive, or lies beyond the longest of the times.
    """
    horizon = horizon_among(horizon, times)
    if not 0 < horizon <= times.max():
        raise StatisticsError(
            f"horizon: {horizon:g}; it must lie above 0 and not beyond the longest follow-up,"
            f" {times.max():g}"
        )
    return horizon


def as_risks(risk: ArrayLike, n: int, name: str = "risk") -> FloatArray:
    """Return predicted risks, one a patient, all in [0, 1]."""
    risks = as_vector(risk, name)
    if risks.size != n:
        raise StatisticsError(f"{name}: {risks.size} values for {n} patients; give one a patient")
    odd = risks[(risks < 0) | (risks > 1)]
    if odd.size:
        raise StatisticsError(f"{name}: found {odd[0]:g}; risks lie between 0 and 1")
    return risks


def as_design(design: ArrayLike, names: Sequence[str] | None) -> tuple[FloatArray, tuple[str, ...]]:
    """Return a finite design matrix (n, p) and a name for every column."""
    labels = names if names is not None else getattr(design, "columns", None)
    try:
        matrix = np.asarray(design, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise StatisticsError(
            f"design: not numeric ({error}); code categories as numbers first"
        ) from error
    if matrix.ndim == 1:
        matrix = matrix[:, None]
    if matrix.ndim != 2 or matrix.shape[1] == 0:
        raise StatisticsError(f"design: shape {matrix.shape}; give (n, p) with p at least 1")
    columns = tuple(f"x{k + 1}" for k in range(matrix.shape[1]))
    if labels is not None:
        columns = tuple(str(label) for label in labels)
    if len(columns) != matrix.shape[1]:
        raise StatisticsError(f"names: {len(columns)} given for {matrix.shape[1]} columns")
    for name, column in zip(columns, matrix.T, strict=True):
        as_vector(column, name)
    return matrix, columns


def merge_near_ties(scores: FloatArray) -> FloatArray:
    """Make scores equal that differ by rounding only (a relative gap below 1e-12).

    A linear predictor of two identical patients may differ in its last digit; in a concordance or
    an AUC such a pair is a tie.
    """
    order = np.argsort(scores, kind="stable")
    ordered = scores[order]
    size = np.maximum(np.abs(ordered[1:]), np.abs(ordered[:-1]))
    new = np.concatenate([[True], np.diff(ordered) > 1e-12 * size])
    merged = np.empty_like(scores)
    merged[order] = ordered[np.maximum.accumulate(np.where(new, np.arange(scores.size), 0))]
    return merged


def check_lengths(**vectors: NDArray[np.generic]) -> None:
    """Raise unless all arrays have as many rows."""
    if len({len(v) for v in vectors.values()}) > 1:
        lengths = ", ".join(f"{k} {len(v)}" for k, v in vectors.items())
        raise StatisticsError(f"lengths differ: {lengths}; give one row a patient in each")


def constant_columns(matrix: FloatArray, names: Sequence[str]) -> list[str]:
    """Names of columns that hold one value only."""
    spread = np.ptp(matrix, axis=0)
    return [name for name, width in zip(names, spread, strict=True) if width == 0]


def normal_quantile(level: float) -> float:
    """Two-sided normal quantile of a coverage, e.g. 1.959964 for 0.95."""
    if not 0 < level < 1:
        raise StatisticsError(f"level: {level}; give a coverage between 0 and 1, such as 0.95")
    return NormalDist().inv_cdf(0.5 + level / 2)


_COLLINEAR = 1e-9


def check_regressors(x: FloatArray, names: Sequence[str]) -> None:
    """Raise on constant and on collinear columns, naming them.

    Raises
    ------
    StatisticsError
        A column of one value; a column that the ones before it determine; more columns than
        patients.
    """
    constant = constant_columns(x, names)
    if constant:
        raise StatisticsError(
            f"{', '.join(constant)}: the same value in all {x.shape[0]} patients; leave it out"
        )
    if x.shape[1] >= x.shape[0]:
        raise StatisticsError(
            f"design: {x.shape[1]} covariates for {x.shape[0]} patients; use fewer covariates"
        )
    scaled = (x - x.mean(axis=0)) / x.std(axis=0)
    triangle = np.linalg.qr(scaled / np.sqrt(x.shape[0]), mode="r")
    determined = [
        name
        for name, pivot in zip(names, np.abs(np.diag(triangle)), strict=True)
        if pivot < _COLLINEAR
    ]
    if determined:
        raise StatisticsError(
            f"{', '.join(determined)}: determined by the other covariates (collinear); leave it out"
        )


def outside_range(x: FloatArray, lower: FloatArray, upper: FloatArray) -> tuple[str, ...]:
    """Warn when rows lie outside the range of the data that a model was fitted to."""
    count = int(np.any((x < lower) | (x > upper), axis=1).sum())
    if count == 0:
        return ()
    return (f"{count} of {x.shape[0]} rows lie outside the range of the fitted data",)
