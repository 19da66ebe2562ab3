"""Page one: what was studied and what came out, for readers who do not read regression tables."""

from __future__ import annotations

import math

import numpy as np

from dlild_analysis.progression.outcome import DEATH_WORDS
from dlild_analysis.stats.results import Estimate
from dlild_analysis.steps import Analysis
from dlild_analysis.steps.attempts import NotDone
from dlild_analysis.steps.cox.cox import COX
from dlild_analysis.steps.discrimination.concordance import CONCORDANCE
from dlild_analysis.steps.patients.sample_size import SAMPLE_SIZE
from dlild_analysis.steps.patients.table_one import TABLE_ONE
from dlild_analysis.steps.presentation.text import (
    interval,
    joined,
    number,
    p_words,
    percent_estimate,
)
from dlild_analysis.steps.ratio_table import CoxModel
from dlild_analysis.steps.survival.kaplan_meier import KAPLAN_MEIER
from dlild_analysis.steps.validation.optimism import OPTIMISM

POINTS = 10.0
"""Points of the score for which the summary gives the hazard ratio: one is too small to picture."""


def summary(analysis: Analysis) -> list[tuple[str, str]]:
    """Write page one.

    Returns
    -------
    list of (str, str)
        A heading and its sentences, each.
    """
    parts = [
        ("Patients", _patients(analysis)),
        ("What was measured", _measured(analysis)),
        ("What counted as progression", analysis.outcome.statement),
        ("Main result", _main(analysis)),
        ("High against low", _groups(analysis)),
        ("How well it tells patients apart", _discrimination(analysis)),
        ("What to keep in mind", _limits(analysis)),
    ]
    return [(head, text) for head, text in parts if text]


def _patients(analysis: Analysis) -> str:
    table, flow = analysis.of(TABLE_ONE), analysis.data.cohort.flow
    if isinstance(table, NotDone):
        return ""
    total = flow.patients or table.patients
    words = f"{table.patients} patient{'s' if table.patients != 1 else ''}"
    if total != table.patients:
        words += f" of {total} in the table"
    or_died = " or died" if DEATH_WORDS["event"] in analysis.outcome.statement else ""
    words += f"; {table.events} progressed{or_died}"
    if table.competing_events:
        words += f" and {table.competing_events} died before"
    if table.median_follow_up_months is not None:
        words += f", in a median follow-up of {number(table.median_follow_up_months, 1)} months"
    return f"{words}. Figure 1 shows how many entered each model."


def _measured(analysis: Analysis) -> str:
    score = analysis.data.study.score
    if score is None or not analysis.data.available(("score",)):
        return ""
    values = analysis.data.column("score")
    known = values[np.isfinite(values)]
    low, middle, high = np.percentile(known, [25, 50, 75])
    unit = "points" if score.unit == "points" else "% of the lung"
    meaning = ""
    if score.label == "DL-ILD":
        meaning = ", the share of the lung that interstitial lung disease takes on HRCT"
    return (
        f"{score.label}{meaning}: median {number(middle, 1)} {unit}, half of the patients between "
        f"{number(low, 1)} and {number(high, 1)}."
    )


def _score_term(fit: object) -> Estimate | None:
    """Take the ratio of the score, the first term of a model."""
    if not isinstance(fit, CoxModel):
        return None
    ratio = fit.model.terms[0].hazard_ratio
    return ratio if math.isfinite(ratio.estimate) else None


def _main(analysis: Analysis) -> str:
    result, score = analysis.of(COX), analysis.data.study.score
    if isinstance(result, NotDone):
        return f"Score and progression could not be related: {_because(result)}."
    alone = next((item.fit for item in result.univariable if item.name == "score"), None)
    ratio = _score_term(alone)
    if score is None:
        return ""
    label = score.label
    if ratio is None:
        known = analysis.data.column("score")
        same = np.unique(known[np.isfinite(known)]).size < 2
        why = "it is the same in all patients" if same else "see Cox regression"
        return f"{label} and progression could not be related: {why}."
    unit = "points" if score.unit == "points" else "percentage points of lung"
    first = (
        f"With every {POINTS:g} {unit} more {label} the hazard of progression, the rate at which "
        f"patients progress, was {_times(ratio)}, {p_words(ratio.p_value)}."
    )
    sentences = [first]
    adjusted = _score_term(result.multivariable)
    others = list(result.adjusted_for[1:])
    if adjusted is not None and result.adjusted_for[:1] == (label,) and others:
        sentences.append(
            f"Among patients alike in {joined(others)} it was {_times(adjusted)}, "
            f"{p_words(adjusted.p_value)}."
        )
    if ratio.ci_low <= 1 <= ratio.ci_high:
        sentences.append("The interval holds 1: an association was not shown.")
    return " ".join(sentences)


def _because(part: NotDone) -> str:
    return part.not_done_because


def _times(ratio: Estimate) -> str:
    value, low, high = (x**POINTS for x in (ratio.estimate, ratio.ci_low, ratio.ci_high))
    return f"{number(value)} times as high (95 % CI {interval(low, high)})"


def _groups(analysis: Analysis) -> str:
    result = analysis.of(KAPLAN_MEIER)
    groups = result if isinstance(result, NotDone) else result.groups
    if isinstance(groups, NotDone):
        return ""
    horizon = list(groups.high.survival_at)[-1]
    label, unit = analysis.data.label("score"), analysis.data.unit("score")
    words = (
        f"Free of progression at {horizon} months were "
        f"{percent_estimate(groups.high.survival_at[horizon])} of the {groups.high.n} patients "
        f"with a high {label} ({number(groups.cutoff)}{unit} or more) and "
        f"{percent_estimate(groups.low.survival_at[horizon])} of the {groups.low.n} with a low one."
    )
    return f"{words} {analysis.cutoff_words}".strip()


def _discrimination(analysis: Analysis) -> str:
    result = analysis.of(CONCORDANCE)
    for item in () if isinstance(result, NotDone) else result.measures:
        if item.name == "score" and not isinstance(item.harrell, NotDone):
            c = item.harrell
            return (
                f"Of two patients of whom one progressed first, that one had the higher "
                f"{item.label} in {number(100 * c.estimate, 0)} of 100 pairs (Harrell's C "
                f"{number(c.estimate)}, 95 % CI {interval(c.ci_low, c.ci_high)}; 50 of 100 is a "
                "coin's toss)."
            )
    return ""


def _limits(analysis: Analysis) -> str:
    found = ["The model was made and checked in the same patients; no other hospital tested it."]
    optimism = analysis.of(OPTIMISM)
    if isinstance(optimism, NotDone):
        found[0] = "No other hospital tested the result."
    size = analysis.of(SAMPLE_SIZE)
    study = size if isinstance(size, NotDone) else size.time_to_event
    if not isinstance(study, NotDone) and study.n < study.required_n:
        found.append(
            f"{study.n} patients are fewer than the {study.required_n} that are advised for "
            "a model of this kind."
        )
    lost = analysis.data.cohort.flow.left_out
    found += [f"{item.patients} patients were left out: {item.reason}." for item in lost]
    found.append("Research use only; no decision about a patient rests on it.")
    return " ".join(found)
