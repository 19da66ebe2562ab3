"""The results section, in sentences: beyond the paper."""

from __future__ import annotations

from typing import Any

from dlild_analysis.pipeline import Analysis
from dlild_analysis.pipeline.step import failed
from dlild_analysis.pipeline.validation import unstable
from dlild_analysis.report.text import (
    estimate,
    interval,
    joined,
    number,
    p_value,
    p_words,
    percent,
    percent_estimate,
)


def optimism(_analysis: Analysis, values: dict[str, Any]) -> list[str]:
    """Tell the corrected performance."""
    told = []
    for item in (*values["logistic"], *values["cox"]):
        for key, words in (
            ("auc", "AUC"),
            ("calibration_slope", "calibration slope"),
            ("harrell_c", "Harrell's C"),
        ):
            part = item.get(key)
            if part is not None and not failed(part) and item["name"] in ("score", "full"):
                told.append(_corrected(item["label"], words, part, key == "calibration_slope"))
    left_out = [item for item in values["logistic"] if failed(item["auc"])]
    reasons = dict.fromkeys(item["auc"]["not_done_because"] for item in left_out)
    for reason in reasons:
        names = [item["label"] for item in left_out if item["auc"]["not_done_because"] == reason]
        told.append(f"Not bootstrapped: {joined(names)} ({reason}).")
    return told


def _corrected(label: str, words: str, part: Any, slope: bool) -> str:
    head = f"{label}: {words} {number(part.apparent, 3)} apparent, "
    spread = f"{number(part.lowest, 2)} to {number(part.highest, 2)} over the bootstraps"
    if slope and unstable(part):
        return f"{head}corrected from {spread}: not stable, no mean is given."
    return f"{head}{estimate(part.corrected, 3)} corrected" + (f" ({spread})." if slope else ".")


def calibration(_analysis: Analysis, values: dict[str, Any]) -> list[str]:
    """Tell slopes and intercepts."""
    return [
        f"{item['label']} ({item['risks']}): slope {estimate(item['result'].slope)}, intercept "
        f"{estimate(item['result'].intercept)}, ICI {number(item['result'].ici, 3)}."
        for item in (*values["binary"], *values["survival"])
        if not failed(item["result"])
    ]


def time_auc(_analysis: Analysis, values: dict[str, Any]) -> list[str]:
    """Tell the AUC at each horizon."""
    told = []
    for item in values["at"]:
        found = [
            f"{part['label']} {estimate(part['auc'], 3)}"
            for part in item["measures"]
            if not failed(part["auc"])
        ]
        if found:
            told.append(f"AUC at {item['horizon_months']:g} months: {joined(found)}.")
    return told


def concordance(_analysis: Analysis, values: dict[str, Any]) -> list[str]:
    """Tell the concordances."""
    told = [
        f"{item['label']}: Harrell's C {estimate(item['harrell'], 3)}, Uno's C "
        f"{estimate(item['uno'], 3)}."
        for item in values["measures"]
        if not failed(item["harrell"])
    ]
    told += [
        f"{item['label']}: {estimate(item['uno'].difference, 3)}, "
        f"{p_words(item['uno'].difference.p_value)} (Uno's C)."
        for item in values["comparisons"]
        if not failed(item["uno"])
    ]
    return told


def competing(analysis: Analysis, values: dict[str, Any]) -> list[str]:
    """Tell incidences and both regressions."""
    told = [f"{values['deaths']} patients died or were transplanted before progression."]
    for cause, part in values["all"].items():
        told.append(
            f"Incidence of {cause}: "
            + joined(
                [f"{percent_estimate(v)} at {m} months" for m, v in part["incidence_at"].items()]
            )
            + "."
        )
    for key, words in (
        ("cause_specific", "cause-specific HR"),
        ("fine_gray", "subdistribution HR"),
    ):
        for item in values[key]:
            if not failed(item["fit"]):
                ratio = item["fit"].terms[0].hazard_ratio_per_sd
                told.append(
                    f"{analysis.data.label('score')} per SD and {item['cause']}: {words} "
                    f"{estimate(ratio)}, {p_words(ratio.p_value)}."
                )
    return told


def decisions(_analysis: Analysis, values: dict[str, Any]) -> list[str]:
    """Tell where acting on the risks pays."""
    told = []
    for item in values["curves"]:
        if failed(item["result"]):
            continue
        result = item["result"]
        better = (result.model > result.treat_all + 1e-12) & (result.model > 1e-12)
        span = result.thresholds[better]
        told.append(
            f"{item['label']}: net benefit above both acting on all and on none "
            + (
                f"at {int(better.sum())} of {better.size} thresholds, between "
                f"{percent(float(span[0]), 0)} and {percent(float(span[-1]), 0)}."
                if span.size
                else "at no threshold."
            )
        )
    return told


def incremental(_analysis: Analysis, values: dict[str, Any]) -> list[str]:
    """Tell what the score adds."""
    told = []
    for item in values["models"]:
        part = item["time_to_event"]
        if failed(part):
            told.append(f"To {item['base']}: not done, because {part['not_done_because']}.")
            continue
        ratio, compare = part["likelihood_ratio"], part["concordance"]
        gain = "" if failed(compare) else f"; Harrell's C rose by {estimate(compare.difference, 3)}"
        told.append(
            f"To {item['base']}: likelihood ratio {number(ratio.statistic)} on "
            f"{number(ratio.df, 0)} df, {p_words(ratio.p_value)}{gain}."
        )
    return told


def agreement(_analysis: Analysis, values: dict[str, Any]) -> list[str]:
    """Tell the agreement."""
    icc = values["icc"]
    return (
        []
        if failed(icc)
        else [
            (
                f"ICC(2,1) was {estimate(icc.icc_2_1, 3)} and ICC(3,1) "
                f"{estimate(icc.icc_3_1, 3)} in {icc.n} patients."
            )
        ]
    )


def size(_analysis: Analysis, values: dict[str, Any]) -> list[str]:
    """Tell the size of the study."""
    return [
        part.statement for part in (values["time_to_event"], values["two_way"]) if not failed(part)
    ]


def cutoffs(_analysis: Analysis, values: dict[str, Any]) -> list[str]:
    """Tell the price of choosing the best cut-off."""
    told = []
    for key, words in (("time_to_event", "log-rank"), ("two_way", "two-by-two")):
        scan = values[key]
        if not failed(scan):
            told.append(
                f"Of {scan.cutoffs.size} cut-offs ({words}), {number(scan.best_cutoff)} parted "
                f"the patients best: P {p_value(scan.best_naive_p)} as if it had been chosen "
                f"before, {p_value(scan.corrected_p)} once the choice is paid for "
                f"({scan.permutations} permutations)."
            )
    return told


def rules(analysis: Analysis, values: dict[str, Any]) -> list[str]:
    """Tell how the rules differ."""
    done = [row for row in values["rules"] if "not_done_because" not in row]
    ratios = [row["cox_score"].hazard_ratio_per_sd for row in done if not failed(row["cox_score"])]
    told = [
        (
            f"{len(done)} combinations of rule and handling of death were run; events ranged "
            f"from {min((r['events'] for r in done), default=0)} to "
            f"{max((r['events'] for r in done), default=0)}."
        )
    ]
    if ratios:
        low, high = min(r.estimate for r in ratios), max(r.estimate for r in ratios)
        clear = sum(r.ci_low > 1 or r.ci_high < 1 for r in ratios)
        told.append(
            f"The HR of {analysis.data.label('score')} per SD ranged {interval(low, high)}; its "
            f"interval excluded 1 in {clear} of {len(ratios)}."
        )
    lost = len(done) - len(ratios)
    if lost:
        told.append(f"In {lost} of the {len(done)} no HR could be had.")
    told += [
        f"{row['rule']} could not be applied ({row['not_done_because']}): nothing is known of it."
        for row in values["rules"]
        if "not_done_because" in row
    ]
    return told
