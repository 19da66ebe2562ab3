"""Checks of survival figures against events, hazard ratios and p-values."""

from __future__ import annotations

import math

from scipy.stats import norm

from dlild_analysis.audit.finding import Finding, Verdict
from dlild_analysis.audit.printed import Printed, read_printed
from dlild_analysis.cohort.toml_section import Section
from dlild_analysis.errors import StudyError


def _survivals(section: Section, key: str) -> dict[float, Printed]:
    """Read `{ "12" = 0.821, "24" = 0.537 }`: printed survival by month."""
    part = section.section(key)
    found = {}
    for month in part.names():
        survival = read_printed(part.raw(month), part.where(month))
        if not 0.0 < survival.value <= 1.0:
            raise StudyError(f"{part.where(month)} is {survival.text}; write a survival in (0, 1]")
        found[float(month)] = survival
    if not found:
        raise StudyError(
            f'{section.where(key)} is missing; write {{ "24" = 0.537 }}, months and survival'
        )
    return dict(sorted(found.items()))


def _counts(section: Section) -> tuple[int, float]:
    patients = section.integer("patients", 0, 0, 10_000_000)
    if patients < 2:
        raise StudyError(f"{section.where('patients')} is missing; it is the number of patients")
    return patients, section.number("share_high", 0.5, 0.001, 0.999)


def events_against_survival(section: Section) -> Finding:
    """Compare the number of events with the survival of two groups."""
    patients, share = _counts(section)
    events = section.integer("events", 0, 0, patients)
    high, low = _survivals(section, "survival_high"), _survivals(section, "survival_low")
    month = max(set(high) & set(low))
    s_high, s_low = high[month], low[month]
    expected = patients * (share * (1 - s_high.value) + (1 - share) * (1 - s_low.value))
    slack = patients * max(s_high.high - s_high.value, s_low.high - s_low.value) + 1.0
    gap = s_low.value - s_high.value
    needed = (events / patients - (1 - s_low.value)) / gap if gap else math.nan
    derived = {
        "month": month,
        "expected_events_without_censoring": expected,
        "rounding_slack_events": slack,
        "share_high_needed": needed,
        "patients_high_needed": needed * patients,
    }
    verdict: Verdict
    if events > expected + slack:
        possible = 0.0 <= needed <= 1.0
        verdict = "incoherent"
        words = (
            f"the survivals at {month:g} months give at most {expected:.1f} events, not {events}; "
            + (
                f"{events} would need {needed * patients:.0f} of {patients} patients in the high "
                "group"
                if possible
                else "no split of the patients gives that many"
            )
            + ", and censoring makes the gap wider"
        )
    elif events < expected - slack:
        verdict = "tension"
        words = (
            f"the survivals at {month:g} months give {expected:.1f} events without censoring; "
            f"{events} observed events are possible only if enough patients were censored before"
        )
    else:
        verdict = "coherent"
        words = (
            f"the survivals at {month:g} months give {expected:.1f} events; {events} are printed"
        )
    return Finding(
        "events-against-survival",
        "",
        "n [w (1 - S_high(t)) + (1 - w) (1 - S_low(t))], w the share of the high group",
        "definition of survival; censoring can only lower the number of observed events",
        {
            "patients": patients,
            "events": events,
            "survival_high": s_high.text,
            "survival_low": s_low.text,
            "share_high": share,
        },
        derived,
        verdict,
        words,
    )


def _log_hazard_variance(survival: float, patients: float) -> float:
    """Variance of log(-log S) of a group followed completely: (1 - S) / (n S log(S)^2)."""
    return (1 - survival) / (patients * survival * math.log(survival) ** 2)


def hazard_ratio_against_survival(section: Section) -> Finding:
    """Compare a hazard ratio with the cumulative hazards of two groups, month by month."""
    patients, share = _counts(section)
    ratio = read_printed(section.required_value("hazard_ratio"), section.where("hazard_ratio"))
    high, low = _survivals(section, "survival_high"), _survivals(section, "survival_low")
    implied, z_values = {}, {}
    for month in sorted(set(high) & set(low)):
        s_high, s_low = high[month].value, low[month].value
        if s_high >= 1.0 or s_low >= 1.0:
            continue
        implied[month] = math.log(s_high) / math.log(s_low)
        error = math.sqrt(
            _log_hazard_variance(s_high, patients * share)
            + _log_hazard_variance(s_low, patients * (1 - share))
        )
        z_values[month] = (math.log(implied[month]) - math.log(ratio.value)) / error
    if not implied:
        raise StudyError(
            f"{section.where('survival_low')}: no month with a survival under 1 in both groups"
        )
    worst = max(abs(value) for value in z_values.values())
    spread = max(implied.values()) / min(implied.values())
    far = max(max(value / ratio.value, ratio.value / value) for value in implied.values())
    verdict: Verdict = (
        "incoherent" if worst > norm.ppf(0.975) else "tension" if far > 1.2 else "coherent"
    )
    listed = " and ".join(f"{value:.1f} at {month:g} months" for month, value in implied.items())
    tail = {
        "incoherent": "more than sampling error allows",
        "tension": f"sampling error alone could carry it (largest z {worst:.2f})"
        + ("; the hazards do not look proportional" if spread > 1.5 else ""),
        "coherent": "they agree",
    }[verdict]
    return Finding(
        "hazard-ratio-against-survival",
        "",
        "log S_high(t) / log S_low(t); var log(-log S) = (1 - S) / (n S log^2 S)",
        "cumulative hazard H = -log S; under proportional hazards the ratio is the same at every "
        "t; delta method on the binomial variance (Kalbfleisch and Prentice, 2002, section 1.4)",
        {
            "hazard_ratio": ratio.text,
            "patients": patients,
            "share_high": share,
            "survival_high": {f"{month:g}": s.text for month, s in high.items()},
            "survival_low": {f"{month:g}": s.text for month, s in low.items()},
        },
        {
            "implied_ratio": {f"{month:g}": value for month, value in implied.items()},
            "z_against_printed": {f"{month:g}": value for month, value in z_values.items()},
        },
        verdict,
        f"the survivals imply a ratio of cumulative hazards of {listed}, the print says "
        f"{ratio.text}: {tail}",
    )


def hazard_ratio_against_events(section: Section) -> Finding:
    """Compare the precision that a p-value implies with what the number of events allows."""
    ratio = read_printed(section.required_value("hazard_ratio"), section.where("hazard_ratio"))
    p = read_printed(section.required_value("p"), section.where("p"))
    events = section.integer("events", 0, 1, 10_000_000)
    z_of = [float(norm.isf(max(value, 1e-300) / 2)) for value in (p.low, p.high)]
    error_low, error_high = (abs(math.log(ratio.value)) / z for z in (z_of[0], max(z_of[1], 1e-9)))
    least = 2.0 / math.sqrt(events)
    coherent = error_high >= least
    return Finding(
        "hazard-ratio-against-events",
        "",
        "SE(log HR) >= sqrt(1/d_1 + 1/d_2) >= 2 / sqrt(d)",
        "Schoenfeld, Biometrika 1981;68:316-319: information on a two-group log HR is at most d/4",
        {"hazard_ratio": ratio.text, "p": p.text, "events": events},
        {"implied_standard_error": [error_low, error_high], "least_standard_error": least},
        "coherent" if coherent else "incoherent",
        f"HR {ratio.text} with P {p.text} needs a standard error of about {error_high:.3f}; "
        f"{events} events allow "
        + (
            f"{least:.3f} or more"
            if coherent
            else f"none under {least:.3f}, if the HR compares two groups"
        ),
    )


def survival_difference_against_p(section: Section) -> Finding:
    """Compare a p-value with the difference of two survivals."""
    patients, share = _counts(section)
    p = read_printed(section.required_value("p"), section.where("p"))
    high, low = _survivals(section, "survival_high"), _survivals(section, "survival_low")
    month = max(set(high) & set(low))
    a, b = high[month].value, low[month].value
    error = math.sqrt(a * (1 - a) / (patients * share) + b * (1 - b) / (patients * (1 - share)))
    z = abs(a - b) / error
    implied = float(2 * norm.sf(z))
    close = p.high >= implied if p.is_bound else abs(math.log10(implied / p.value)) < 1.0
    return Finding(
        "survival-difference-against-p",
        "",
        "z = |S_1 - S_2| / sqrt(sum S_i (1 - S_i) / n_i)",
        "binomial comparison at one month, complete follow-up; a log-rank test weighs all months",
        {
            "p": p.text,
            "patients": patients,
            "share_high": share,
            "survival_high": high[month].text,
            "survival_low": low[month].text,
        },
        {"month": month, "z": z, "p": implied},
        "coherent" if close else "tension",
        f"the survivals at {month:g} months differ with z {z:.2f}, P {implied:.2g}; printed: P "
        f"{p.text}",
    )
