"""The cut-off of the score that separates high from low: chosen once, given to who needs it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from dlild_analysis.errors import NotDoneError
from dlild_analysis.stats import roc
from dlild_analysis.stats.arrays import FloatArray, horizon_among
from dlild_analysis.stats.results import OPTIONAL
from dlild_analysis.steps.attempts import NotDone, attempt
from dlild_analysis.steps.data import Data, Sample
from dlild_analysis.steps.presentation.text import number, p_words

GROUPS = ("low", "high")


@dataclass(frozen=True)
class Cutoff:
    """A cut-off of the score; a value at or above it is high.

    Attributes
    ----------
    cutoff : float
        In percent or points.
    origin : str
        Who chose it: the Youden index, the median, or the study.
    high, low : int
        Patients on either side, of all with a score.
    corrected_p : float or None
        Log-rank P of high against low, corrected for the choice of the cut-off in these patients.
    operating_point : OperatingPoint, NotDone or None
        Sensitivity and specificity for progression by the last horizon; None where the status
        at the horizon is known of too few.
    """

    cutoff: float
    origin: str
    high: int
    low: int
    warnings: tuple[str, ...] = ()
    corrected_p: float | None = field(default=None, metadata=OPTIONAL)
    operating_point: roc.OperatingPoint | NotDone | None = field(default=None, metadata=OPTIONAL)


def cutoff_words(cutoff: Cutoff | NotDone, unit: str) -> str:
    """State who chose the cut-off, and P corrected for the choice where the data chose it."""
    if isinstance(cutoff, NotDone):
        return ""
    value = f"{number(cutoff.cutoff)}{unit}"
    if cutoff.origin != "Youden index":
        return f"Cut-off {value}: {cutoff.origin}."
    words = f"The cut-off {value} was chosen in these patients (Youden index)"
    if cutoff.corrected_p is None:
        return f"{words}; P is not corrected for the choice."
    return f"{words}; corrected for the choice, {p_words(cutoff.corrected_p)} (log-rank)."


def analysis_cutoff(data: Data) -> Cutoff:
    """Choose the cut-off of the analysis, where the two-way outcome can be analysed at all.

    Raises
    ------
    NotDoneError
        The status at the horizon is known of too few, or there is no score.
    """
    data.sample((), "binary")
    return choose_cutoff(data)


def choose_cutoff(data: Data) -> Cutoff:
    """Choose the cut-off as the study asks; the median where Youden's cannot be had.

    Raises
    ------
    NotDoneError
        There is no score.
    """
    score = data.column("score")
    known = score[np.isfinite(score)]
    chosen, origin, warnings = _chosen(data, known)
    cutoff = horizon_among(chosen, known)
    warnings += _how_read(data, cutoff)
    if origin == "Youden index":
        warnings.append(
            "The cut-off was chosen in the same patients in whom it is used: what follows for "
            "high against low is optimistic; see the sensitivity of the cut-off."
        )
    sample = attempt(data.sample, ("score",), "binary")
    return Cutoff(
        cutoff,
        origin,
        high=int((known >= cutoff).sum()),
        low=int((known < cutoff).sum()),
        warnings=tuple(warnings),
        operating_point=None
        if isinstance(sample, NotDone)
        else attempt(
            roc.operating_point, sample.progressed, data.risk_direction(sample, "score"), cutoff
        ),
    )


def _chosen(data: Data, known: FloatArray) -> tuple[float, str, list[str]]:
    """Take the cut-off, who chose it, and what had to be done otherwise than asked."""
    groups = data.study.plan.groups
    warnings: list[str] = []
    if groups == "youden":
        found = attempt(_youden, data)
        if not isinstance(found, NotDone):
            return float(found.cutoff), "Youden index", warnings
        warnings.append(
            f"Youden's cut-off could not be had ({found.not_done_because}); the median is used"
        )
        groups = "median"
    if groups == "median":
        return float(np.median(known)), "median", warnings
    return _given(data, float(groups)), "given by the study", warnings


def _youden(data: Data) -> roc.YoudenCutoff:
    sample = data.sample(("score",), "binary")
    return roc.youden_cutoff(sample.progressed, data.risk_direction(sample, "score"))


def _given(data: Data, cutoff: float) -> float:
    """Convert a cut-off that the study gives from the unit of its column to percent.

    No fraction lies above 1: a cut-off that does can only be percent.
    """
    measure = data.study.score
    fraction = measure is not None and measure.unit == "fraction" and abs(cutoff) <= 1.0
    return cutoff * measure.factor if measure and fraction else cutoff


def _how_read(data: Data, cutoff: float) -> list[str]:
    """State how a cut-off that the study gives was read, where another reading is possible."""
    groups, measure = data.study.plan.groups, data.study.score
    if isinstance(groups, str) or measure is None:
        return []
    if measure.unit == "fraction":
        return [f"The cut-off {groups:g} of analysis.groups was read as {cutoff:.6g} %."]
    if measure.unit == "percent" and 0 < abs(groups) < 1:
        read = f"The cut-off {groups:g} of analysis.groups was read as {groups:g} %"
        other = f"for {groups:.0%} of the lung write {100 * groups:g}"
        return [f"{read}, the unit of the score; {other}."]
    return []


def high_group(data: Data, sample: Sample, cutoff: Cutoff | NotDone) -> NDArray[np.int64]:
    """Mark the patients of a sample that are in the high group of the score with 1.

    Raises
    ------
    NotDoneError
        There is no cut-off, or all patients are on one side of it.
    """
    if isinstance(cutoff, NotDone):
        raise NotDoneError("there is no cut-off of the score")
    score = data.column("score")[sample.position]
    group = (score >= cutoff.cutoff).astype(np.int64)
    if len(np.unique(group)) < 2:
        raise NotDoneError(f"all patients are on one side of the cut-off {cutoff.cutoff:.4g}")
    return group
