"""How numbers are written in tables and sentences."""

from __future__ import annotations

import math

from dlild_analysis.stats.results import Estimate, HypothesisTest
from dlild_analysis.steps.attempts import NotDone

MINUS = "\N{MINUS SIGN}"
DASH = "\N{EN DASH}"
NBSP = "\N{NO-BREAK SPACE}"


def number(value: float | None, digits: int = 2) -> str:
    """Write a number; a dash where there is none.

    Rounding errors of the computation never decide the last digit: 0.6024999999999999 is 0.6025.
    """
    if value is None or not math.isfinite(value):
        return DASH
    value = float(f"{value:.12g}")
    if abs(value) >= 1e5:
        return f"{value:.2e}".replace("-", MINUS)
    text = f"{value:.{digits}f}"
    if float(text) == 0:
        text = text.lstrip("-")
    return text.replace("-", MINUS)


def percent(value: float | None, digits: int = 1) -> str:
    """Write a share as a percentage."""
    return (
        DASH
        if value is None or not math.isfinite(value)
        else f"{number(100 * value, digits)}{NBSP}%"
    )


def p_value(value: float | None) -> str:
    """Write a p-value: three digits, two from 0.1 on, and "< 0.001"."""
    if value is None or not math.isfinite(value):
        return DASH
    if value < 0.001:
        return f"<{NBSP}0.001"
    return (
        f"{value:.3f}"
        if value < 0.1
        else f"{min(value, 0.999):.2f}"
        if value < 0.995
        else f">{NBSP}0.99"
    )


def p_words(value: float | None) -> str:
    """Write a p-value inside a sentence."""
    text = p_value(value)
    if text == DASH:
        return "P not available"
    return f"P{NBSP}{text}" if text[0] in "<>" else f"P{NBSP}={NBSP}{text}"


def interval(low: float, high: float, digits: int = 2) -> str:
    """Write the limits of an interval."""
    return f"{number(low, digits)} to {number(high, digits)}"


def estimate(value: Estimate | NotDone | None, digits: int = 2) -> str:
    """Write an estimate with its interval; a dash where it could not be had."""
    if value is None or isinstance(value, NotDone):
        return DASH
    if not math.isfinite(value.estimate):
        return DASH
    if not math.isfinite(value.ci_low) or value.ci_high - value.ci_low < 1e-9:
        return number(value.estimate, digits)
    return f"{number(value.estimate, digits)} ({interval(value.ci_low, value.ci_high, digits)})"


def percent_estimate(value: Estimate | NotDone | None, digits: int = 1) -> str:
    """Write a share with its interval, in percent."""
    if value is None or isinstance(value, NotDone) or not math.isfinite(value.estimate):
        return DASH
    if not math.isfinite(value.ci_low):
        return f"{number(100 * value.estimate, digits)}{NBSP}%"
    return (
        f"{number(100 * value.estimate, digits)}{NBSP}% ({number(100 * value.ci_low, digits)} to "
        f"{number(100 * value.ci_high, digits)})"
    )


def p_of(value: Estimate | HypothesisTest | NotDone | None) -> str:
    """Write the p-value of a result; a dash where it could not be had."""
    return DASH if value is None or isinstance(value, NotDone) else p_value(value.p_value)


def joined(items: list[str]) -> str:
    """Join words as a sentence does."""
    if len(items) < 2:
        return "".join(items)
    return f"{', '.join(items[:-1])} and {items[-1]}"


def not_done(part: NotDone) -> str:
    """Write why something was not done."""
    return f"not done, because {part.not_done_because}"
