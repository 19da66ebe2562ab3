"""The Z of a comparison of two correlations, against the correlations themselves."""

from __future__ import annotations

import math

import numpy as np
from scipy.optimize import brentq

from dlild_analysis.audit.finding import Finding, Verdict
from dlild_analysis.audit.printed import Printed, read_printed
from dlild_analysis.cohort.toml_section import Section
from dlild_analysis.errors import StudyError

STEP = 0.05


def fisher_z(r_a: float, r_b: float, patients: int) -> float:
    """Z of two correlations as if from two groups of patients (Fisher 1921)."""
    return (math.atanh(r_a) - math.atanh(r_b)) / math.sqrt(2.0 / (patients - 3))


def meng_z(r_a: float, r_b: float, r_ab: float, patients: int) -> float:
    """Z of two correlations that share one variable, in the same patients (Meng et al. 1992)."""
    mean_square = (r_a**2 + r_b**2) / 2
    f = min((1 - r_ab) / (2 * (1 - mean_square)), 1.0)
    h = (1 - f * mean_square) / (1 - mean_square)
    return (math.atanh(r_a) - math.atanh(r_b)) * math.sqrt((patients - 3) / (2 * (1 - r_ab) * h))


def possible(r_a: float, r_b: float, r_ab: float) -> bool:
    """Whether three correlations can belong to three variables (non-negative determinant)."""
    return 1 - r_a**2 - r_b**2 - r_ab**2 + 2 * r_a * r_b * r_ab >= 0


def _implied_dependent(r_a: float, z: float, r_ab: float, patients: int) -> float | None:
    """Find the second correlation that gives a Meng Z, for one correlation between the scores."""

    def excess(r_b: float) -> float:
        return meng_z(r_a, r_b, r_ab, patients) - z

    low = 0.0
    if excess(low) < 0:
        return None
    r_b = float(brentq(excess, low, r_a))
    return r_b if possible(r_a, r_b, r_ab) else None


def z_against_correlations(section: Section) -> Finding:
    """Compare a printed Z with the correlations, under the independent and the dependent test."""
    patients = section.integer("patients", 0, 5, 10_000_000)
    r_a = read_printed(section.required_value("r_a"), section.where("r_a"))
    z = read_printed(section.required_value("z"), section.where("z"))
    other = section.raw("r_b")
    between = section.raw("r_ab")
    low, high = section.numbers("r_ab_range", (0.5, 0.9))[:2]
    given: dict[str, object] = {"r_a": r_a.text, "z": z.text, "patients": patients}
    if other is None:
        return _without_second(r_a, z, patients, (low, high), given)
    r_b = read_printed(other, section.where("r_b"))
    given["r_b"] = r_b.text
    a, b = abs(r_a.value), abs(r_b.value)
    independent = fisher_z(a, b, patients)
    derived: dict[str, object] = {"z_independent": independent}
    matches = ["the independent Fisher test"] if _near(independent, z) else []
    if between is not None:
        r_ab = read_printed(between, section.where("r_ab"))
        given["r_ab"] = r_ab.text
        if not possible(a, b, abs(r_ab.value)):
            raise StudyError(
                f"{section.where('r_ab')} is {r_ab.text}; no data have these three correlations"
            )
        dependent = meng_z(a, b, abs(r_ab.value), patients)
        derived["z_dependent_meng"] = dependent
        matches += ["Meng's dependent test"] if _near(dependent, z) else []
    verdict: Verdict = "coherent" if matches else "cannot tell" if between is None else "incoherent"
    listed = ", ".join(
        f"{key.replace('_', ' ')} {float(str(value)):.3f}" for key, value in derived.items()
    )
    words = f"printed Z {z.text}; {listed}: " + (
        f"it is {' and '.join(matches)}" if matches else "neither matches"
    )
    return _finding(given, derived, verdict, words)


def _near(value: float, printed: Printed) -> bool:
    """Allow for the rounding of the correlations too: 2 % of Z."""
    return abs(abs(value) - abs(printed.value)) <= 0.02 * abs(printed.value) + 0.005


def _without_second(
    r_a: Printed, z: Printed, patients: int, span: tuple[float, float], given: dict[str, object]
) -> Finding:
    a, size = abs(r_a.value), abs(z.value)
    independent = math.tanh(math.atanh(a) - size * math.sqrt(2.0 / (patients - 3)))
    grid = np.round(np.arange(span[0], span[1] + STEP / 2, STEP), 6)
    found = {float(r): _implied_dependent(a, size, float(r), patients) for r in grid}
    known = {r: value for r, value in found.items() if value is not None}
    derived: dict[str, object] = {
        "r_b_independent": independent,
        "r_b_dependent_meng": {f"{r:.2f}": value for r, value in known.items()},
        "r_ab_impossible": [r for r, value in found.items() if value is None],
    }
    words = (
        f"Z {z.text} against |r| {a:.3f} implies a second |r| of {independent:.3f} under the "
        "independent Fisher test"
    )
    if known:
        words += (
            f" and of {min(known.values()):.2f} to {max(known.values()):.2f} under Meng's "
            "dependent test, for scores "
            f"that correlate {min(known):.2f} to {max(known):.2f}"
        )
    words += "; the second correlation is not printed, so the test cannot be identified"
    return _finding({**given, "r_ab_range": list(span)}, derived, "cannot tell", words)


def _finding(
    given: dict[str, object], derived: dict[str, object], verdict: Verdict, words: str
) -> Finding:
    return Finding(
        "z-against-correlations",
        "",
        "independent: (z_a - z_b) / sqrt(2 / (n - 3)); dependent: (z_a - z_b) sqrt((n - 3) / (2 "
        "(1 - r_ab) h)), "
        "h = (1 - f m) / (1 - m), m = (r_a^2 + r_b^2) / 2, f = min(1, (1 - r_ab) / (2 (1 - m)))",
        "Fisher, Metron 1921;1:3-32; Meng, Rosenthal and Rubin, Psychol Bull 1992;111:172-175",
        given,
        derived,
        verdict,
        words,
    )
