"""Checks of p-values, intervals, ROC areas, shares and correlations against each other."""

from __future__ import annotations

import math

import numpy as np
from scipy.stats import chi2, norm, t

from dlild_analysis.audit.finding import Finding, Verdict
from dlild_analysis.audit.printed import Printed, meets, read_printed
from dlild_analysis.cohort.toml_section import Section
from dlild_analysis.errors import StudyError


def _two_sided(name: str, value: float, df: float) -> float:
    if name == "z":
        return float(2 * norm.sf(abs(value)))
    return float(2 * t.sf(abs(value), df)) if name == "t" else float(chi2.sf(value, df))


def statistic_against_p(section: Section) -> Finding:
    """Compare a test statistic (z, t, chi2) with its p-value."""
    name = section.choice("statistic", ("z", "t", "chi2"), "z")
    value = read_printed(section.required_value("value"), section.where("value"))
    p = read_printed(section.required_value("p"), section.where("p"))
    df = section.number("df", 1.0, 0.5, 1e9)
    ends = sorted(_two_sided(name, end, df) for end in (value.low, value.high))
    fits = meets(p, *ends)
    return Finding(
        "statistic-against-p",
        "",
        "p = P(|X| >= |x|), two-sided (chi2: upper tail)",
        "reference distribution of the statistic",
        {
            "statistic": name,
            "value": value.text,
            "p": p.text,
            **({} if name == "z" else {"df": df}),
        },
        {"p": ends},
        "coherent" if fits else "incoherent",
        f"{name} = {value.text} gives P {_two_sided(name, value.value, df):.3g}; printed: {p.text}",
    )


def ci_against_p(section: Section) -> Finding:
    """Compare an estimate, its interval and its p-value; show an interval where none is."""
    scale = section.choice("scale", ("log", "linear"), "log")
    level = section.number("level", 0.95, 0.5, 0.999)
    estimate = read_printed(section.required_value("estimate"), section.where("estimate"))
    p = read_printed(section.required_value("p"), section.where("p"))
    bounds = [read_printed(item, section.where("ci")) for item in (section.raw("ci") or [])]
    change = math.log if scale == "log" else float
    back = math.exp if scale == "log" else float
    quantile = float(norm.ppf(0.5 + level / 2))
    given = {"estimate": estimate.text, "p": p.text, "level": level, "scale": scale}
    formula = "SE = (g(high) - g(low)) / (2 z), z = g(estimate) / SE, g = log for ratios"
    source = "Wald interval and test; Altman and Bland, BMJ 2011;343:d2090 and d2304"
    if not bounds:
        error = abs(change(estimate.value)) / float(norm.isf(max(p.value, 1e-300) / 2))
        limits = [back(change(estimate.value) + sign * quantile * error) for sign in (-1, 1)]
        return Finding(
            "ci-against-p",
            "",
            formula,
            source,
            given,
            {"standard_error": error, "implied_ci": limits},
            "cannot tell",
            f"no interval is printed; {estimate.text} with P {p.text} implies {limits[0]:.2f} to "
            f"{limits[1]:.2f}",
        )
    if len(bounds) != 2:
        raise StudyError(
            f"{section.where('ci')} must hold two numbers, the lower and the upper limit"
        )
    low, high = bounds
    if scale == "log" and min(low.low, estimate.low) <= 0:
        raise StudyError(f"{section.where('ci')}: a ratio must be above 0")
    return _ci_finding(
        estimate,
        p,
        (low, high),
        change=change,
        quantile=quantile,
        reported=(given, formula, source),
    )


def _ci_finding(
    estimate: Printed,
    p: Printed,
    ci: tuple[Printed, Printed],
    *,
    change: object,
    quantile: float,
    reported: tuple[dict[str, object], str, str],
) -> Finding:
    assert callable(change)
    low, high = ci
    p_values, offsets = [], []
    for lower in (low.low, low.high):
        for upper in (high.low, high.high):
            for middle in (estimate.low, estimate.high):
                error = (change(upper) - change(lower)) / (2 * quantile)
                p_values.append(
                    float(2 * norm.sf(abs(change(middle)) / error)) if error > 0 else math.nan
                )
                offsets.append(
                    (change(middle) - (change(upper) + change(lower)) / 2) / error
                    if error > 0
                    else math.nan
                )
    fits = meets(p, min(p_values), max(p_values))
    centred = min(offsets) <= 0.05 and max(offsets) >= -0.05
    error = (change(high.value) - change(low.value)) / (2 * quantile)
    p_value = float(2 * norm.sf(abs(change(estimate.value)) / error))
    given, formula, source = reported
    near = abs(math.log10(max(p_value, 1e-300) / max(p.value, 1e-300))) < 0.5 and not p.is_bound
    verdict: Verdict = (
        "coherent" if fits and centred else "tension" if near and centred else "incoherent"
    )
    where = "" if centred else "; the estimate does not lie in the middle of the interval"
    return Finding(
        "ci-against-p",
        "",
        formula,
        source,
        {**given, "ci": [low.text, high.text]},
        {"standard_error": error, "p": p_value, "p_range": [min(p_values), max(p_values)]},
        verdict,
        f"the interval {low.text} to {high.text} implies P {p_value:.3g}; printed: {p.text}{where}",
    )


def hanley_mcneil_error(area: float, events: int, others: int) -> float:
    """Work out the standard error of an AUC from counts (Hanley and McNeil, 1982)."""
    q1, q2 = area / (2 - area), 2 * area**2 / (1 + area)
    variance = area * (1 - area) + (events - 1) * (q1 - area**2) + (others - 1) * (q2 - area**2)
    return math.sqrt(variance / (events * others))


def auc_against_counts(section: Section) -> Finding:
    """Work out the intervals that the counts allow for one area or two, and compare."""
    events, others = (
        section.integer("events", 0, 1, 10_000_000),
        section.integer("non_events", 0, 1, 10_000_000),
    )
    areas = [read_printed(item, section.where("auc")) for item in (section.raw("auc") or [])]
    labels = section.texts("labels", tuple(f"area {index + 1}" for index in range(len(areas))))
    if not 1 <= len(areas) <= 2 or len(labels) != len(areas):
        raise StudyError(f"{section.where('auc')} must list one area or two, and labels as many")
    printed = [read_printed(item, section.where("ci")) for item in (section.raw("ci") or [])]
    errors = [hanley_mcneil_error(item.value, events, others) for item in areas]
    limits = [
        [item.value - 1.959964 * e, min(1.0, item.value + 1.959964 * e)]
        for item, e in zip(areas, errors, strict=True)
    ]
    listed = " and ".join(
        f"{a.text} ({lo:.2f}-{hi:.2f})" for a, (lo, hi) in zip(areas, limits, strict=True)
    )
    derived: dict[str, object] = {"standard_errors": errors, "intervals": limits}
    verdict: Verdict = "cannot tell"
    words = f"{events} events and {others} others give {listed}"
    if printed:
        wide = [(printed[1].value - printed[0].value) / (limits[0][1] - limits[0][0])]
        verdict = "coherent" if 0.75 <= wide[0] <= 1.33 else "incoherent"
        words += f"; the printed interval is {wide[0]:.2f} times as wide"
    elif len(areas) == 2:
        z = (areas[0].value - areas[1].value) / math.hypot(*errors)
        derived["z_if_independent"] = z
        overlap = max(item[0] for item in limits) <= min(item[1] for item in limits)
        words += (
            f"; they {'overlap' if overlap else 'do not overlap'} (z {z:.2f} as if from different "
            "patients), "
            "so that a claim of superiority needs a paired test (DeLong)"
        )
    return Finding(
        "auc-against-counts",
        "",
        "SE^2 = [A(1-A) + (n1-1)(Q1-A^2) + (n2-1)(Q2-A^2)] / (n1 n2), "
        "Q1 = A/(2-A), Q2 = 2A^2/(1+A)",
        "Hanley and McNeil, Radiology 1982;143:29-36",
        {
            "auc": [item.text for item in areas],
            "labels": list(labels),
            "events": events,
            "non_events": others,
        },
        derived,
        verdict,
        words,
    )


def percent_against_counts(section: Section) -> Finding:
    """Check that a printed percentage is a whole number of patients out of their number."""
    percent = read_printed(section.required_value("percent"), section.where("percent"))
    total = section.integer("total", 0, 1, 10_000_000)
    scale = 1.0 if percent.text.endswith("%") else 100.0
    near = round(percent.value / scale * total)
    hits = [
        k
        for k in (near - 1, near, near + 1)
        if percent.holds(scale * k / total - 1e-12, scale * k / total + 1e-12)
    ]
    words = (
        f"{percent.text} of {total} is {hits[0]} patients"
        if hits
        else f"no whole number of {total} patients gives {percent.text}; the nearest, {near}, "
        f"gives {scale * near / total:.4g}"
    )
    return Finding(
        "percent-against-counts",
        "",
        "|k/n - printed| <= half a printed unit for some whole k",
        "granularity of a share of n patients (as in the GRIM test, Brown and Heathers 2017)",
        {"percent": percent.text, "total": total},
        {"count": hits or [near]},
        "coherent" if hits else "incoherent",
        words,
    )


def correlation_against_p(section: Section) -> Finding:
    """Compare a correlation, its number of pairs and its p-value."""
    r = read_printed(section.required_value("r"), section.where("r"))
    p = read_printed(section.required_value("p"), section.where("p"))
    pairs = section.integer("patients", 0, 4, 10_000_000)
    ends = [min(max(value, -0.999999), 0.999999) for value in (r.low, r.high)]
    p_values = sorted(
        float(2 * t.sf(abs(v) * math.sqrt((pairs - 2) / (1 - v * v)), pairs - 2)) for v in ends
    )
    fits = meets(p, *p_values)
    half = 1.959964 / math.sqrt(pairs - 3)
    interval = [float(np.tanh(np.arctanh(r.value) + sign * half)) for sign in (-1, 1)]
    return Finding(
        "correlation-against-p",
        "",
        "t = r sqrt((n - 2) / (1 - r^2)), n - 2 degrees of freedom; "
        "CI tanh(atanh r +- 1.96 / sqrt(n - 3))",
        "Fisher 1921",
        {"r": r.text, "p": p.text, "patients": pairs},
        {"p": p_values, "ci": interval},
        "coherent" if fits else "incoherent",
        f"r = {r.text} in {pairs} patients has CI {interval[0]:.3f} to {interval[1]:.3f} and "
        f"P {p_values[1]:.2g}; printed: {p.text}",
    )
