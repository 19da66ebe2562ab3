"""Which change of the score is beyond noise, and which goes with an important change of FVC."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dlild_analysis.errors import NotDoneError
from dlild_analysis.stats import agreement
from dlild_analysis.stats.arrays import FloatArray
from dlild_analysis.steps.attempts import NotDone, attempt
from dlild_analysis.steps.data import Data
from dlild_analysis.steps.presentation.table import Table
from dlild_analysis.steps.presentation.text import estimate, number
from dlild_analysis.steps.step import Analysis, Step

MONTHS = 12.0
"""Time of the follow-up scan whose change is related to that of FVC; the nearest one is taken."""

WINDOW = 6.0
"""Months by which it may be nearer or further."""


@dataclass(frozen=True)
class Detectable:
    """Minimal detectable change of the score, in percentage points (or points).

    Attributes
    ----------
    change : float
        Two scores of one patient who has not changed differ by less in 95 %.
    repeatability : Repeatability or None
        From repeated scans of this study; None where the study states the coefficient.
    """

    change: float
    source: str
    repeatability: agreement.Repeatability | None
    method: str = "minimal detectable change: 1.96 x sqrt(2) x within-subject SD"


@dataclass(frozen=True)
class Changes:
    """What the step found."""

    detectable: Detectable | NotDone
    important: agreement.ImportantDifference | NotDone
    beyond: int | None
    followed: int


def changes(data: Data) -> Changes:
    """Find the smallest change beyond noise, and that of an important decline of FVC."""
    score = data.study.score
    if score is None or not data.available(("score",)):
        raise NotDoneError("there is no score")
    pairs = _pairs(data)
    detectable = attempt(_detectable, data)
    important = attempt(_important, pairs)
    beyond = None
    if not isinstance(detectable, NotDone) and len(pairs):
        beyond = int((np.abs(pairs[:, 0]) > detectable.change).sum())
    return Changes(detectable, important, beyond, len(pairs))


def _detectable(data: Data) -> Detectable:
    score, count = data.study.score, len(data.study.repeats)
    if count >= 2:
        columns = [f"repeat_{index + 1}" for index in range(count)]
        table = data.cohort.patients[columns].to_numpy(dtype=np.float64)
        patient, _ = np.nonzero(np.isfinite(table))
        found = agreement.repeatability(patient, table[np.isfinite(table)])
        return Detectable(
            found.coefficient.estimate, "repeated scores of this study (repeats)", found
        )
    if score is not None and score.repeatability is not None:
        return Detectable(score.repeatability, "the study (score.repeatability)", None)
    raise NotDoneError(
        "no repeated scores are given (repeats.columns), nor the repeatability coefficient of the "
        "model card (score.repeatability)"
    )


def _pairs(data: Data) -> FloatArray:
    """Pair the change of the score with the relative change of FVC, in percent.

    The visit with a score that is nearest to 12 months is compared with the baseline. FVC is that
    of the same visit.

    Returns
    -------
    array of shape (n, 2)
        NaN where FVC is not known.
    """
    visits = data.cohort.visits
    if "score" not in visits:
        return np.empty((0, 2))
    fvc = next((name for name in ("fvc_litres", "fvc_percent") if data.cohort.has(name)), None)
    base = data.cohort.patients["score"].to_numpy(dtype=np.float64)
    near = visits[visits["score"].notna() & ((visits["time"] - MONTHS).abs() <= WINDOW)].copy()
    near["distance"] = (near["time"] - MONTHS).abs()
    near = near.sort_values(["patient", "distance"], kind="stable").drop_duplicates("patient")
    patient = near["patient"].to_numpy()
    change = near["score"].to_numpy(dtype=np.float64) - base[patient]
    relative = np.full(len(near), np.nan)
    if fvc is not None and fvc in near:
        start = data.cohort.patients[fvc].to_numpy(dtype=np.float64)[patient]
        relative = 100.0 * (near[fvc].to_numpy(dtype=np.float64) / start - 1.0)
    pairs = np.column_stack([change, relative])
    return np.asarray(pairs[np.isfinite(change)], dtype=np.float64)


def _important(pairs: FloatArray) -> agreement.ImportantDifference:
    known = pairs[np.isfinite(pairs).all(axis=1)] if len(pairs) else pairs
    if len(known) < 10:
        raise NotDoneError(
            f"{len(known)} patients have score and FVC at baseline and at a visit {WINDOW:g} to "
            f"{MONTHS + WINDOW:g} months later (visits.score); 10 are needed"
        )
    return agreement.important_difference(known[:, 0], known[:, 1])


def sentences(result: Changes, data: Data) -> list[str]:
    """Report which changes count."""
    found = []
    label = data.label("score")
    if not isinstance(result.detectable, NotDone):
        found.append(
            f"A change of {label} of less than {number(result.detectable.change, 1)} points lies "
            f"within the noise of repeated scans (minimal detectable change, from "
            f"{result.detectable.source})."
        )
        if result.beyond is not None:
            found.append(
                f"Of {result.followed} patients with a follow-up scan, {result.beyond} changed by "
                "more."
            )
    part = result.important
    if not isinstance(part, NotDone):
        found.append(
            f"A relative decline of FVC by 10 % went with a change of {label} of "
            f"{estimate(part.regression, 1)} points (n = {part.n}; rho of both changes "
            f"{estimate(part.correlation)})."
        )
    return found


def table(result: Changes, analysis: Analysis) -> Table | None:
    """Write the changes as a table."""
    rows: list[tuple[str, ...]] = []
    part = result.detectable
    if not isinstance(part, NotDone):
        known = part.repeatability
        rows.append(
            (
                "Minimal detectable change",
                estimate(known.coefficient) if known else number(part.change),
                str(known.subjects) if known else "",
            )
        )
    important = result.important
    if not isinstance(important, NotDone):
        rows += [
            ("Correlation with relative change of FVC", estimate(important.correlation), ""),
            ("Change at a relative FVC decline of 10 %", estimate(important.regression), ""),
            (
                "FVC decline 5 to 10 % minus stable FVC",
                estimate(important.group_difference),
                f"{important.little} and {important.stable}",
            ),
            (
                "Best cut-off for an FVC decline of 10 % or more",
                number(important.roc_cutoff),
                f"{important.changed} of {important.n}",
            ),
        ]
    score = analysis.data.label("score")
    return Table(
        "changes",
        f"Changes of {score} that count (percentage points)",
        ("Quantity", "Estimate (95 % CI)", "Patients"),
        rows,
        "FVC and score at the visit nearest to 12 months, against baseline. Stable: FVC changed by "
        "less than 5 %.",
    )


CHANGES: Step[Changes] = Step(
    "changes",
    "Changes that count",
    compute=lambda analysis, _: changes(analysis.data),
    sentences=sentences,
    tables=(table,),
)
