"""Regression models as logistic and Cox regression share them: rows of ratios, sentences, table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from dlild_analysis.stats.cox import CoxFit, HazardTerm, ProportionalHazards
from dlild_analysis.stats.logistic import LogisticFit, OddsTerm
from dlild_analysis.stats.results import OPTIONAL, Estimate
from dlild_analysis.steps.attempts import NotDone
from dlild_analysis.steps.presentation.text import (
    DASH,
    estimate,
    joined,
    not_done,
    number,
    p_of,
    p_value,
    p_words,
)

TOO_FEW = "it needs at least two of the covariates in analysis.adjust"


@dataclass(frozen=True)
class LogisticModel:
    """A logistic model, and the patients who lacked one of its covariates."""

    model: LogisticFit
    missing: int


@dataclass(frozen=True)
class CoxModel:
    """A Cox model with its test of proportional hazards.

    Attributes
    ----------
    missing : int or None
        Patients who lacked one of its covariates.
    cutoff, origin : float, str or None
        Of the score, where it enters as high against low.
    """

    model: CoxFit
    proportional_hazards: ProportionalHazards | NotDone
    missing: int | None = field(default=None, metadata=OPTIONAL)
    cutoff: float | None = field(default=None, metadata=OPTIONAL)
    origin: str | None = field(default=None, metadata=OPTIONAL)


M = TypeVar("M", LogisticModel, CoxModel)


@dataclass(frozen=True)
class Univariable(Generic[M]):
    """A model of one covariate."""

    name: str
    label: str
    fit: M | NotDone


def ratio(term: OddsTerm | HazardTerm) -> Estimate:
    """Take the ratio per unit."""
    return term.odds_ratio if isinstance(term, OddsTerm) else term.hazard_ratio


def ratio_per_sd(term: OddsTerm | HazardTerm) -> Estimate:
    """Take the ratio per standard deviation."""
    if isinstance(term, OddsTerm):
        return term.odds_ratio_per_sd
    return term.hazard_ratio_per_sd


def ratio_sentences(
    univariable: Sequence[Univariable[M]],
    multivariable: M | NotDone,
    adjusted_for: Sequence[str],
    short: str,
) -> list[str]:
    """Report the first model of one covariate, and the multivariable one."""
    found = []
    first = next((item.fit for item in univariable if not isinstance(item.fit, NotDone)), None)
    if first is not None:
        term = first.model.terms[0]
        found.append(
            f"Alone, {term.name} had {short} {estimate(ratio(term), 3)} per unit and "
            f"{estimate(ratio_per_sd(term))} per SD ({number(term.sd)}), "
            f"{p_words(ratio(term).p_value)}."
        )
    if isinstance(multivariable, NotDone):
        found.append(f"The multivariable model was {not_done(multivariable)}.")
    else:
        value = ratio(multivariable.model.terms[0])
        found.append(
            f"Together with {joined(list(adjusted_for[1:]))}, it was {estimate(value, 3)} per "
            f"unit, {p_words(value.p_value)}."
        )
    return found


def ratio_columns(short: str, last: str) -> tuple[str, ...]:
    """Heads of a table of ratios."""
    return (
        "Model",
        "Covariate",
        "n (events)",
        f"{short} per unit (95 % CI)",
        "P",
        f"{short} per SD (95 % CI)",
        last,
    )


def model_rows(
    univariable: Sequence[Univariable[M]], multivariable: M | NotDone
) -> list[tuple[str, ...]]:
    """Write the models of one covariate each, then the multivariable one."""
    rows = [row for item in univariable for row in ratio_rows(item.fit, "univariable", item.label)]
    return rows + ratio_rows(multivariable, "multivariable", "All together")


def ratio_rows(part: M | NotDone, model: str, label: str) -> list[tuple[str, ...]]:
    """Write a model, one row a term."""
    if isinstance(part, NotDone):
        return [(model, label, not_done(part), DASH, DASH, DASH, DASH)]
    fit = part.model
    firth = isinstance(fit, LogisticFit) and fit.penalty == "firth"
    return [
        (
            f"{model}{' (Firth)' if firth else ''}",
            term.name,
            f"{fit.n} ({fit.events})",
            estimate(ratio(term), 3),
            p_value(ratio(term).p_value),
            estimate(ratio_per_sd(term)),
            _last(part, term, model),
        )
        for term in fit.terms
    ]


def _last(part: LogisticModel | CoxModel, term: OddsTerm | HazardTerm, model: str) -> str:
    """Write the variance inflation of a logistic term, or the test of a Cox term's hazards."""
    if isinstance(term, OddsTerm):
        return number(term.vif) if model == "multivariable" else DASH
    hazards = part.proportional_hazards if isinstance(part, CoxModel) else None
    if hazards is None or isinstance(hazards, NotDone):
        return DASH
    return p_of(hazards.terms.get(term.name))
