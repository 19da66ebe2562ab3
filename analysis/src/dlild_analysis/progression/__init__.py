"""Progression rules and the outcome that they give."""

from __future__ import annotations

from dlild_analysis.progression.outcome import (
    CENSORED,
    DIED,
    PROGRESSED,
    Outcome,
    assess,
    end_times,
    terminal_times,
)
from dlild_analysis.progression.patient import Visits
from dlild_analysis.progression.rules import Progressed, Rule, all_rules, find_rule, register

__all__ = [
    "CENSORED",
    "DIED",
    "PROGRESSED",
    "Outcome",
    "Progressed",
    "Rule",
    "Visits",
    "all_rules",
    "assess",
    "end_times",
    "find_rule",
    "register",
    "terminal_times",
]
