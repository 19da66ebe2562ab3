"""Progression rules and the outcome that they give."""

from __future__ import annotations

from dlild_analysis.progression.outcome import CENSORED, DIED, PROGRESSED, Outcome, assess
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
    "find_rule",
    "register",
]
