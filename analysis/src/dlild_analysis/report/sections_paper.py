"""The results section, in sentences: the paper's own analysis."""

from __future__ import annotations

import math
from typing import Any

from dlild_analysis.pipeline import Analysis
from dlild_analysis.pipeline.step import failed
from dlild_analysis.report.text import (
    estimate,
    interval,
    joined,
    number,
    p_words,
    percent_estimate,
)


def patients(_analysis: Analysis, values: dict[str, Any]) -> list[str]:
    """Tell how many patients, events and months there were."""
    median = values["median_follow_up_months"]
    horizon = f"{values['horizon_months']:g} months"
    told = [
        f"The cohort had {values['patients']} patients; the outcome of {values['outcome_known']} "
        f"was known. {values['events']} had the event"
        + (
            f" and {values['competing_events']} died before it."
            if values["competing_events"]
            else "."
        )
    ]
    if median is not None:
        told.append(f"Median follow-up (reverse Kaplan-Meier) was {number(median, 1)} months.")
    told.append(
        f"Status at {horizon} was known in {values['status_known_at_horizon']}, of whom "
        f"{values['progressed_at_horizon']} had progressed."
    )
    if values["event_criteria"]:
        told.append(
            "Events by criterion: "
            + joined([f"{name}, {count}" for name, count in values["event_criteria"].items()])
            + "."
        )
    return told


def correlations(analysis: Analysis, values: dict[str, Any]) -> list[str]:
    """Tell the correlations and their comparison."""
    label = analysis.data.label
    told = [
        f"{label(pair['score'])} and {label(pair['function'])}: Pearson r "
        f"{estimate(pair['pearson'], 3)}, {p_words(pair['pearson'].p_value)} (n = {pair['n']})."
        for pair in values["pairs"]
        if not failed(pair["pearson"])
    ]
    for item in values["comparisons"]:
        if not failed(item["result"]):
            steiger, fisher = (
                item["result"].tests.get("steiger"),
                item["result"].tests.get("fisher_independent"),
            )
            if steiger and fisher:
                told.append(
                    f"For {label(item['function'])} the two correlations differed by "
                    f"{estimate(item['result'].difference, 3)} (Zou); dependent test (Steiger) Z "
                    f"= {number(steiger.statistic, 3)}, {p_words(steiger.p_value)}; as if "
                    f"independent (Fisher) Z = {number(fisher.statistic, 3)}, "
                    f"{p_words(fisher.p_value)}."
                )
    return told


def _ratios(values: dict[str, Any], key: str, short: str) -> list[str]:
    told = []
    first = next((item for item in values["univariable"] if not failed(item["fit"])), None)
    if first is not None:
        term = first["fit"]["model"].terms[0]
        ratio, per_sd = getattr(term, key), getattr(term, f"{key}_per_sd")
        told.append(
            f"Alone, {term.name} had {short} {estimate(ratio, 3)} per unit and "
            f"{estimate(per_sd)} per SD ({number(term.sd)}), {p_words(ratio.p_value)}."
        )
    together = values["multivariable"]
    if not failed(together):
        term = together["model"].terms[0]
        ratio = getattr(term, key)
        told.append(
            f"Together with {joined(values['adjusted_for'][1:])}, it was {estimate(ratio, 3)} per "
            f"unit, {p_words(ratio.p_value)}."
        )
    else:
        told.append(
            f"The multivariable model was not done, because {together['not_done_because']}."
        )
    return told


def logistic(_analysis: Analysis, values: dict[str, Any]) -> list[str]:
    """Tell the logistic models."""
    told = _ratios(values, "odds_ratio", "OR")
    bent = [
        item["label"]
        for item in values["linearity"]
        if not failed(item["test"]) and item["test"].test.p_value < 0.05
    ]
    told.append(
        f"The log odds bent away from a straight line for {joined(bent)} (P < 0.05)."
        if bent
        else "No measure's log odds bent clearly away from a straight line."
    )
    return told


def _logit_interval(value: Any) -> str:
    if not math.isfinite(value.ci_low):
        return ""
    return f"; on the logit scale {interval(value.ci_low, value.ci_high, 3)}"


def roc(_analysis: Analysis, values: dict[str, Any]) -> list[str]:
    """Tell the areas, their comparison and the cut-off."""
    told = [
        f"AUC of {item['label']}: {estimate(item['result']['auc'], 3)}"
        f"{_logit_interval(item['result']['auc_logit_interval'])}."
        for item in values["curves"]
        if not failed(item["result"])
    ]
    for item in values["comparisons"]:
        if not failed(item["result"]):
            result = item["result"]
            told.append(
                f"{item['label']}: {estimate(result.difference, 3)}, "
                f"{p_words(result.difference.p_value)} (DeLong, paired)."
            )
    cutoff = values["cutoff"]
    if not failed(cutoff):
        point = cutoff.get("operating_point")
        tail = (
            ""
            if point is None or failed(point)
            else (
                f": sensitivity {percent_estimate(point.sensitivity)}, specificity "
                f"{percent_estimate(point.specificity)}"
            )
        )
        told.append(
            f"The cut-off was {number(cutoff['cutoff'])} ({cutoff['origin']}), with "
            f"{cutoff['high']} patients at or above it{tail}."
        )
    return told


def survival(analysis: Analysis, values: dict[str, Any]) -> list[str]:
    """Tell the survival of high and low."""
    groups = values["groups"]
    if failed(groups):
        return [f"Groups were not compared, because {groups['not_done_because']}."]
    told = []
    for name in ("high", "low"):
        at = groups[name]["survival_at"]
        told.append(
            f"{name.capitalize()} {analysis.data.label('score')} (n = {groups[name]['n']}): "
            + joined(
                [f"{percent_estimate(value)} at {month} months" for month, value in at.items()]
            )
            + "."
        )
    if not failed(groups["log_rank"]):
        test = groups["log_rank"].test
        told.append(f"Log-rank chi-squared {number(test.statistic)}, {p_words(test.p_value)}.")
    return told


def cox(_analysis: Analysis, values: dict[str, Any]) -> list[str]:
    """Tell the Cox models."""
    told = _ratios(values, "hazard_ratio", "HR")
    groups = values["high_against_low"]
    if not failed(groups):
        term = groups["model"].terms[0]
        told.append(
            f"High against low: HR {estimate(term.hazard_ratio)}, "
            f"{p_words(term.hazard_ratio.p_value)}."
        )
        hazards = groups["proportional_hazards"]
        if not failed(hazards) and hazards.overall.p_value < 0.05:
            told.append(
                f"The hazards were not proportional ({p_words(hazards.overall.p_value)}), so that "
                "this HR is an average over time."
            )
    means = values["restricted_mean"]
    if not failed(means):
        told.append(
            f"Mean time without progression up to {means['horizon_months']:g} months differed by "
            f"{estimate(means['result'].difference)} months (high minus low). {means['note']}"
        )
    return told


def crossed(_analysis: Analysis, values: dict[str, Any]) -> list[str]:
    """Tell the cross-validated performance."""
    told = [
        f"{item['label']}: cross-validated AUC {estimate(item['auc'].performance, 3)}."
        for item in values["models"]
        if not failed(item["auc"])
    ]
    cutoff = values["cutoff"]
    if not failed(cutoff):
        told.append(
            "A cut-off chosen anew in each fold had a Youden index of "
            f"{estimate(cutoff['youden_index'].performance)}, against "
            f"{number(cutoff['apparent'])} in the patients that chose it."
        )
    return told
