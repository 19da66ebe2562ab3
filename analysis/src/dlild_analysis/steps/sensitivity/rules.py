"""The main figures under every progression rule and every way to count death."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from dlild_analysis.errors import AnalysisError
from dlild_analysis.progression import all_rules, assess
from dlild_analysis.stats import cox, survival
from dlild_analysis.stats.results import Estimate
from dlild_analysis.steps.attempts import NotDone, attempt
from dlild_analysis.steps.cutoff import Cutoff, choose_cutoff, high_group
from dlild_analysis.steps.data import Data
from dlild_analysis.steps.presentation.style import forest_plot
from dlild_analysis.steps.presentation.table import Table
from dlild_analysis.steps.presentation.text import (
    DASH,
    estimate,
    interval,
    not_done,
    p_of,
    p_value,
)
from dlild_analysis.steps.step import Analysis, Drawing, Step
from dlild_analysis.steps.survival.kaplan_meier import survival_at_horizons


@dataclass(frozen=True)
class RuleNotApplied(NotDone):
    """A rule for which the cohort lacks what it needs."""

    rule: str
    death: str


@dataclass(frozen=True)
class RuleOutcome:
    """The main figures under one rule and one way to count death."""

    rule: str
    death: str
    title: str
    statement: str
    source: str
    events: int
    competing_events: int
    patients: int
    criteria: Mapping[str, int]
    cutoff: float | None
    cox_score: cox.HazardTerm | NotDone
    time_auc_score: Estimate | NotDone
    log_rank: survival.LogRank | NotDone
    survival_at: dict[str, dict[str, Estimate]] | NotDone


@dataclass(frozen=True)
class RuleComparison:
    """What the step found."""

    rules: tuple[RuleOutcome | RuleNotApplied, ...]
    note: str = "Cut-offs are chosen anew under each rule, as the study asks."

    @property
    def applied(self) -> list[RuleOutcome]:
        """Combinations of rule and death that could be applied."""
        return [row for row in self.rules if isinstance(row, RuleOutcome)]

    @property
    def not_applied(self) -> list[RuleNotApplied]:
        """Rules that could not be applied: nothing is known of them."""
        return [row for row in self.rules if isinstance(row, RuleNotApplied)]


def compare_rules(data: Data) -> RuleComparison:
    """Run the main figures under every rule and every way to count death."""
    names = ["recorded@1"] if data.cohort.has("time", "status") else []
    names += [f"{rule.name}@{rule.version}" for rule in all_rules()]
    deaths = any(name in data.cohort.patients for name in ("death", "transplant"))
    deaths |= data.cohort.has("status") and bool((data.cohort.patients["status"] == 2).any())
    policies = ("event", "competing", "ignore") if deaths else ("event",)
    rows: list[RuleOutcome | RuleNotApplied] = []
    for name in names:
        for policy in policies:
            rows.append(_one_rule(data, name, policy, policy if deaths else "none known"))
            if isinstance(rows[-1], RuleNotApplied):
                break
    return RuleComparison(tuple(rows))


def _one_rule(data: Data, name: str, policy: str, death: str) -> RuleOutcome | RuleNotApplied:
    try:
        outcome = assess(data.cohort, name, policy)
    except AnalysisError as error:
        return RuleNotApplied(str(error), name, death)
    other = Data(data.cohort, outcome)
    cutoff = attempt(choose_cutoff, other)
    return RuleOutcome(
        name,
        death,
        outcome.title,
        outcome.statement,
        outcome.source,
        events=outcome.events,
        competing_events=outcome.competing,
        patients=int(np.isfinite(outcome.time).sum()),
        criteria=outcome.reasons,
        cutoff=None if isinstance(cutoff, NotDone) else cutoff.cutoff,
        cox_score=attempt(_cox_score, other),
        time_auc_score=attempt(_auc_score, other),
        log_rank=attempt(_log_rank, other, cutoff),
        survival_at=attempt(_survival, other, cutoff),
    )


def _cox_score(data: Data) -> cox.HazardTerm:
    sample = data.sample(("score",), "survival")
    return cox.fit_cox(sample.design, sample.time, sample.event).terms[0]


def _auc_score(data: Data) -> Estimate:
    sample = data.sample(("score",), "survival")
    horizon = min(data.study.plan.horizon, float(sample.time.max()))
    return survival.time_auc(sample.time, sample.event, sample.design.iloc[:, 0], horizon)


def _log_rank(data: Data, cutoff: Cutoff | NotDone) -> survival.LogRank:
    sample = data.sample(("score",), "survival")
    return survival.log_rank(sample.time, sample.event, high_group(data, sample, cutoff))


def _survival(data: Data, cutoff: Cutoff | NotDone) -> dict[str, dict[str, Estimate]]:
    sample = data.sample(("score",), "survival")
    high = high_group(data, sample, cutoff)
    return {
        name: survival_at_horizons(
            survival.kaplan_meier(sample.time[high == code], sample.event[high == code]),
            data.study.plan.horizons_months,
        )
        for code, name in enumerate(("low", "high"))
    }


def sentences(result: RuleComparison, data: Data) -> list[str]:
    """Report how the rules differ."""
    done = result.applied
    events = [row.events for row in done]
    ratios = [
        row.cox_score.hazard_ratio_per_sd for row in done if not isinstance(row.cox_score, NotDone)
    ]
    spread = f"{min(events, default=0)} to {max(events, default=0)}"
    run = f"{len(done)} combinations of rule and handling of death were run"
    found = [f"{run}; events ranged from {spread}."]
    if ratios:
        low, high = min(r.estimate for r in ratios), max(r.estimate for r in ratios)
        clear = sum(r.ci_low > 1 or r.ci_high < 1 for r in ratios)
        found.append(
            f"The HR of {data.label('score')} per SD ranged {interval(low, high)}; its "
            f"interval excluded 1 in {clear} of {len(ratios)}."
        )
    lost = len(done) - len(ratios)
    if lost:
        found.append(f"In {lost} of the {len(done)} no HR could be had.")
    found += [
        f"{row.rule} could not be applied ({row.not_done_because}): nothing is known of it."
        for row in result.not_applied
    ]
    return found


def table(result: RuleComparison, _analysis: Analysis) -> Table | None:
    """Conclusions under every rule."""
    if not result.rules:
        return None
    return Table(
        "rules",
        "How the conclusions change with the rule",
        (
            "Rule",
            "Death as",
            "Events",
            "HR per SD (95 % CI)",
            "P",
            "AUC at the horizon (95 % CI)",
            "Log-rank P",
        ),
        [_row(row) for row in result.rules],
        "HR and AUC of the score. Cut-offs for the log-rank test were chosen anew under each rule.",
    )


def _row(row: RuleOutcome | RuleNotApplied) -> tuple[str, ...]:
    if isinstance(row, RuleNotApplied):
        return (row.rule, row.death, not_done(row), DASH, DASH, DASH, DASH)
    term, test = row.cox_score, row.log_rank
    return (
        row.rule,
        row.death,
        f"{row.events} of {row.patients}"
        + (f" (+ {row.competing_events} deaths)" if row.competing_events else ""),
        DASH if isinstance(term, NotDone) else estimate(term.hazard_ratio_per_sd),
        DASH if isinstance(term, NotDone) else p_of(term.hazard_ratio),
        estimate(row.time_auc_score, 3),
        DASH if isinstance(test, NotDone) else p_value(test.test.p_value),
    )


def figure(result: RuleComparison, analysis: Analysis) -> Figure | None:
    """Hazard ratio of the score under every progression rule."""
    lines = [
        (
            row.rule,
            row.cox_score.hazard_ratio_per_sd,
            f"death: {row.death}; {row.events} events",
        )
        for row in result.applied
        if not isinstance(row.cox_score, NotDone)
    ]
    return forest_plot(lines, f"Hazard ratio of {analysis.data.label('score')} per SD (95 % CI)")


RULES: Step[RuleComparison] = Step(
    "rules",
    "Other progression rules",
    compute=lambda analysis, _: compare_rules(analysis.data),
    sentences=sentences,
    tables=(table,),
    figures=(
        Drawing(
            "rules",
            figure,
            "Hazard ratio of the score under every progression rule.",
        ),
    ),
)
