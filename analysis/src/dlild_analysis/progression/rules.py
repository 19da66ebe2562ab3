"""Progression rules: versioned, found by name, each stating its source.

A rule answers one question: at which visit did this patient progress, and why. Death, transplant
and the end of follow-up are none of its business; `outcome` adds them. A rule whose meaning
changes gets a new version; the old one stays, so that an old study can be run again. A new rule is
a class like those below and a call of `register`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from dlild_analysis.errors import UsageError
from dlild_analysis.progression.patient import Visits, by, reaches


@dataclass(frozen=True)
class Progressed:
    """When a patient progressed, and by which criterion."""

    time: float
    reason: str


class Rule(Protocol):
    """What a progression rule has to offer."""

    @property
    def name(self) -> str:
        """Name in the TOML."""

    @property
    def version(self) -> int:
        """Rises whenever the meaning changes."""

    @property
    def title(self) -> str:
        """Short title for tables."""

    @property
    def statement(self) -> str:
        """The rule in one sentence, for the methods section."""

    @property
    def source(self) -> str:
        """Where the rule is published, and in what this version reads it its own way."""

    @property
    def months(self) -> float:
        """Months from the origin in which progression counts; follow-up ends there."""

    def lacking(self, columns: frozenset[str]) -> str:
        """State which measurements the rule lacks; empty where it lacks none."""

    def assess(self, visits: Visits) -> Progressed | None:
        """Find the first visit at which the patient had progressed."""


@dataclass(frozen=True)
class RelativeDecline:
    """Relative decline of FVC by 10 % or of DLCO by 15 % within 24 months."""

    name: str = "relative-decline"
    version: int = 1
    title: str = "FVC -10 % or DLCO -15 %, relative, 24 months"
    statement: str = (
        "Progression was a relative decline from baseline of FVC by at least 10 % or of DLCO by "
        "at least 15 % at any visit within 24 months."
    )
    source: str = (
        "Thresholds of the 2011 ATS/ERS/JRS/ALAT statement on IPF (Raghu et al., Am J Respir Crit "
        "Care Med 2011;183:788-824); relative change as in Richeldi et al., Thorax "
        "2012;67:407-411. No confirmatory second measurement is asked."
    )
    months: float = 24.0

    def lacking(self, columns: frozenset[str]) -> str:
        """Ask for FVC or DLCO."""
        return (
            "" if columns & {"fvc_percent", "fvc_litres", "dlco_percent"} else "serial FVC or DLCO"
        )

    def assess(self, visits: Visits) -> Progressed | None:
        """Find the first decline."""
        fvc = visits.relative_decline(visits.fvc())
        dlco = visits.relative_decline(visits.dlco_percent)
        inside = by(visits.time, self.months)
        by_fvc, by_dlco = reaches(fvc, 10.0) & inside, reaches(dlco, 15.0) & inside
        return _first(visits, {"FVC -10 % relative": by_fvc, "DLCO -15 % relative": by_dlco})


@dataclass(frozen=True)
class ProgressiveFibrosing:
    """PF-ILD as the INBUILD trial enrolled it."""

    name: str = "pf-ild"
    version: int = 1
    title: str = "PF-ILD (INBUILD), 24 months"
    statement: str = (
        "Progression was, within 24 months: a relative decline of FVC by at least 10 %; or by 5 "
        "to less than 10 % with worse respiratory symptoms or more fibrosis on HRCT; or worse "
        "symptoms and more fibrosis."
    )
    source: str = (
        "Inclusion criteria of INBUILD (Flaherty et al., N Engl J Med 2019;381:1718-1727), "
        "applied forward from the time origin instead of backward from enrolment."
    )
    months: float = 24.0

    def lacking(self, columns: frozenset[str]) -> str:
        """Ask for FVC; symptoms and HRCT count where they were recorded."""
        return "" if columns & {"fvc_percent", "fvc_litres"} else "serial FVC"

    def assess(self, visits: Visits) -> Progressed | None:
        """Find the first visit at which one of the three criteria holds."""
        fvc = visits.relative_decline(visits.fvc())
        symptoms = visits.flag_since(visits.symptoms, self.months) > 0
        radiology = visits.flag_since(visits.radiology, self.months) > 0
        inside = by(visits.time, self.months) & (visits.time > 0)
        large, small = reaches(fvc, 10.0) & inside, reaches(fvc, 5.0) & inside
        return _first(
            visits,
            {
                "FVC -10 % relative": large,
                "FVC -5 % relative with symptoms or HRCT": small & (symptoms | radiology),
                "symptoms and HRCT": symptoms & radiology & inside,
            },
        )


@dataclass(frozen=True)
class ProgressivePulmonaryFibrosis:
    """PPF as the 2022 guideline defines it."""

    name: str = "ppf-2022"
    version: int = 1
    title: str = "PPF (2022 guideline), 12 months"
    statement: str = (
        "Progression was at least two of three within 12 months of one another: worse respiratory "
        "symptoms; physiology (absolute decline of FVC by at least 5 points or of DLCO by at "
        "least 10 points of percent predicted within 12 months); radiological progression."
    )
    source: str = (
        "ATS/ERS/JRS/ALAT guideline 2022 (Raghu et al., Am J Respir Crit Care Med "
        "2022;205:e18-e47), which means ILD other than IPF. A decline is measured from the "
        "earliest value of the 12 months before; alternative explanations cannot be excluded from "
        "a table; DLCO is taken as corrected for haemoglobin."
    )
    months: float = 24.0

    def lacking(self, columns: frozenset[str]) -> str:
        """Ask for two of the three domains, since one alone can never make two of three."""
        domains = [
            bool(columns & {"fvc_percent", "dlco_percent"}),
            "symptoms" in columns,
            "radiology" in columns,
        ]
        if sum(domains) >= 2:
            return ""
        return "two of: serial FVC or DLCO in percent predicted, symptoms, radiology"

    def assess(self, visits: Visits) -> Progressed | None:
        """Find the first visit at which two of the three hold."""
        fvc = reaches(visits.absolute_decline(visits.fvc_percent, 12.0), 5.0)
        dlco = reaches(visits.absolute_decline(visits.dlco_percent, 12.0), 10.0)
        physiology = visits.flag_since((fvc | dlco).astype(np.float64), 12.0) > 0
        symptoms = visits.flag_since(visits.symptoms, 12.0) > 0
        radiology = visits.flag_since(visits.radiology, 12.0) > 0
        inside = by(visits.time, self.months) & (visits.time > 0)
        return _first(
            visits,
            {
                "physiology and symptoms": physiology & symptoms & inside,
                "physiology and radiology": physiology & radiology & inside,
                "symptoms and radiology": symptoms & radiology & inside,
            },
        )


@dataclass(frozen=True)
class FvcDecline:
    """Decline of FVC since baseline as trials define it: relative or absolute, confirmed or not.

    Attributes
    ----------
    relative : bool
        In percent of the baseline; else in points of percent predicted.
    threshold : float
        In that unit.
    confirmed : bool
        Whether the next measurement must reach the threshold too. The time is that of the first.
    """

    relative: bool
    threshold: float
    confirmed: bool
    version: int = 1
    months: float = 24.0

    @property
    def name(self) -> str:
        """Name in the TOML."""
        kind = "relative" if self.relative else "absolute"
        return f"fvc-{kind}-{self.threshold:g}{'-confirmed' if self.confirmed else ''}"

    @property
    def title(self) -> str:
        """Short title for tables."""
        unit = "%, relative" if self.relative else "points, absolute"
        words = ", confirmed" if self.confirmed else ""
        return f"FVC -{self.threshold:g} {unit}{words}, {self.months:g} months"

    @property
    def statement(self) -> str:
        """The rule in one sentence."""
        what = (
            f"a relative decline of FVC from baseline by at least {self.threshold:g} %"
            if self.relative
            else f"an absolute decline of FVC from baseline by at least {self.threshold:g} points "
            "of percent predicted"
        )
        seen = (
            "at a visit and again at the next one with FVC; the time was that of the first of the "
            "two, and a decline at the last visit alone did not count"
            if self.confirmed
            else "at any visit"
        )
        return f"Progression was {what} {seen}, within {self.months:g} months."

    @property
    def source(self) -> str:
        """Where the thresholds are published."""
        return (
            "Relative and absolute change are compared in Richeldi et al., Thorax 2012;67:407-411. "
            "With death it is the composite of trials such as ASCEND (King et al., N Engl J Med "
            "2014;370:2083-2092: 10 points of percent predicted or death), which asked for "
            "confirmation at least 6 weeks later; this rule takes the next visit, whenever it was."
        )

    def lacking(self, columns: frozenset[str]) -> str:
        """Ask for FVC."""
        if self.relative:
            return "" if columns & {"fvc_percent", "fvc_litres"} else "serial FVC"
        return "" if "fvc_percent" in columns else "serial FVC in percent predicted"

    def assess(self, visits: Visits) -> Progressed | None:
        """Find the first decline, or the first that the next measurement confirms."""
        values = visits.fvc() if self.relative else visits.fvc_percent
        decline = visits.relative_decline(values) if self.relative else visits.decline_since(values)
        met = reaches(decline, self.threshold)
        if self.confirmed:
            known = np.flatnonzero(np.isfinite(decline))
            again = np.zeros(met.size, dtype=bool)
            again[known[:-1]] = met[known[1:]]
            met &= again
        words = f"FVC -{self.threshold:g} {'% relative' if self.relative else 'points absolute'}"
        return _first(visits, {words: met & by(visits.time, self.months)})


def _first(visits: Visits, criteria: dict[str, np.ndarray]) -> Progressed | None:
    met = np.flatnonzero(np.logical_or.reduce(list(criteria.values())))
    if met.size == 0:
        return None
    index = int(met[0])
    reason = next(name for name, hits in criteria.items() if hits[index])
    return Progressed(float(visits.time[index]), reason)


_REGISTRY: dict[tuple[str, int], Rule] = {}


def register(rule: Rule) -> None:
    """Add a rule.

    Raises
    ------
    UsageError
        The name and version are taken: a rule that changes needs a new version.
    """
    key = (rule.name, rule.version)
    if key in _REGISTRY:
        raise UsageError(
            f"rule {rule.name}@{rule.version} exists; a changed rule needs a new version"
        )
    _REGISTRY[key] = rule


def all_rules() -> list[Rule]:
    """List the newest version of every rule, in the order of registration."""
    newest: dict[str, Rule] = {}
    for (name, version), rule in _REGISTRY.items():
        if name not in newest or newest[name].version < version:
            newest[name] = rule
    return list(newest.values())


def find_rule(text: str) -> Rule:
    """Find a rule by `name` (its newest version) or `name@version`.

    Raises
    ------
    UsageError
        There is no such rule; the message lists those there are.
    """
    name, _, version = text.partition("@")
    found = [rule for rule in all_rules() if rule.name == name]
    if version:
        found = [rule for key, rule in _REGISTRY.items() if key == (name, _version(version))]
    if not found:
        known = ", ".join(f"{rule.name}@{rule.version}" for rule in _REGISTRY.values())
        raise UsageError(f"there is no progression rule {text!r}; there are: recorded, {known}")
    return found[0]


def _version(text: str) -> int:
    return int(text) if text.isdigit() else -1


for _rule in (
    RelativeDecline(),
    ProgressiveFibrosing(),
    ProgressivePulmonaryFibrosis(),
    FvcDecline(relative=True, threshold=10.0, confirmed=False),
    FvcDecline(relative=True, threshold=10.0, confirmed=True),
    FvcDecline(relative=False, threshold=10.0, confirmed=False),
    FvcDecline(relative=False, threshold=10.0, confirmed=True),
):
    register(_rule)
