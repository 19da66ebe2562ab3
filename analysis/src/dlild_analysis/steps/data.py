"""The data as the steps see them: one outcome, a design matrix, and who is complete for what."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dlild_analysis.cohort import Cohort
from dlild_analysis.cohort.gap import gap_points
from dlild_analysis.cohort.study import Study
from dlild_analysis.errors import NotDoneError
from dlild_analysis.progression import DIED, PROGRESSED, Outcome
from dlild_analysis.stats.arrays import FloatArray, horizon_among

Need = Literal["nothing", "binary", "follow-up", "survival"]
MEASURES = ("score", "visual", "fvc_percent", "dlco_percent")
PROTECTIVE = ("fvc_percent", "dlco_percent")


@dataclass(frozen=True)
class Term:
    """One column of a design matrix.

    Attributes
    ----------
    name : str
        Canonical name; a category has one term for each level but its reference.
    label : str
        As the report prints it.
    level : str or None
        Level of a category that the column marks with 1.
    """

    name: str
    label: str
    level: str | None = None


@dataclass(frozen=True)
class Sample:
    """Patients complete for one analysis.

    Attributes
    ----------
    design : DataFrame, shape (n, p)
        Columns named by label.
    time, status, event : array of shape (n,)
        `event` is 1 where the status is progression.
    progressed : array of shape (n,)
        1 or 0 at the last horizon; NaN where it is not known and the analysis did not need it.
    position : array of shape (n,)
        Positions in the cohort.
    missing : int
        Patients with a usable outcome who lack a covariate.
    """

    design: pd.DataFrame
    terms: tuple[Term, ...]
    time: FloatArray
    status: FloatArray
    event: NDArray[np.int64]
    progressed: FloatArray
    position: NDArray[np.int64]
    missing: int

    @property
    def n(self) -> int:
        """Patients."""
        return len(self.design)


@dataclass(frozen=True, eq=False)
class Data:
    """A cohort with one outcome."""

    cohort: Cohort
    outcome: Outcome

    @cached_property
    def gap(self) -> FloatArray | None:
        """GAP points, where age, sex, FVC % and DLCO % are all there."""
        return gap_points(self.cohort)

    @property
    def study(self) -> Study:
        """The study."""
        return self.cohort.study

    def label(self, name: str) -> str:
        """Name a column as the report does."""
        return "GAP points" if name == "gap" else self.study.label(name)

    def unit(self, name: str) -> str:
        """Give the unit of a column behind its number, such as " %"; empty where it has none."""
        measure = {"score": self.study.score, "visual": self.study.visual}.get(name)
        covariate = self.study.covariate(name)
        if measure is not None:
            return " points" if measure.unit == "points" else " %"
        if name in ("fvc_percent", "dlco_percent"):
            return " %"
        return f" {covariate.unit}" if covariate is not None and covariate.unit else ""

    def heading(self, name: str) -> str:
        """Name a column with its unit, for tables and axes."""
        label, unit = self.label(name), self.unit(name).strip()
        said = not unit or unit in label or unit.lower() in label.lower()
        return label if said else f"{label} ({unit})"

    @cached_property
    def headings(self) -> dict[str, str]:
        """By label: the name with its unit, or with the reference level of a category."""
        names = [*MEASURES, *(item.name for item in self.study.covariates)]
        found = {}
        for term in self.terms(self.available(tuple(names))):
            if term.level is None:
                found[term.label] = self.heading(term.name)
            else:
                found[term.label] = f"{term.label} (vs {self.levels(term.name)[0]})"
        return found

    def available(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """Keep those names that the cohort has values of."""
        return tuple(
            name for name in names if (name == "gap" and self.gap is not None) or self._varies(name)
        )

    def _varies(self, name: str) -> bool:
        covariate = self.study.covariate(name)
        if covariate is not None and covariate.kind == "category":
            return self.cohort.has(name) and len(self.levels(name)) > 1
        return self.cohort.has(name)

    def column(self, name: str) -> FloatArray:
        """Take a numeric column of the cohort."""
        if name == "gap" and self.gap is not None:
            return self.gap
        if not self.cohort.has(name):
            raise NotDoneError(f"the cohort has no {self.label(name)}")
        return np.asarray(self.cohort.patients[name], dtype=np.float64)

    def progressed(self) -> FloatArray:
        """State whether each patient had progressed by the last horizon: 1, 0, or NaN if unknown.

        Not known: censored more than `tolerance_months` before the horizon. A competing death
        before the horizon is known not to have progressed.
        """
        time, status = self.outcome.time, self.outcome.status
        horizon = horizon_among(self.study.plan.horizon, time)
        start = horizon_among(self.study.plan.horizon - self.study.plan.tolerance_months, time)
        with np.errstate(invalid="ignore"):
            yes = (status == PROGRESSED) & (time <= horizon)
            no = (time >= start) & ~yes
            no |= (status == DIED) & ~yes
        return np.where(yes, 1.0, np.where(no, 0.0, np.nan))

    def terms(self, names: tuple[str, ...]) -> list[Term]:
        """List the design's columns for some covariates."""
        found = []
        for name in names:
            covariate = self.study.covariate(name)
            if covariate is None or covariate.kind == "number":
                found.append(Term(name, self.label(name)))
                continue
            levels = self.levels(name)
            found += [Term(name, f"{covariate.label}: {level}", level) for level in levels[1:]]
        return found

    def levels(self, name: str) -> list[str]:
        """List the levels of a category, the reference first."""
        covariate = self.study.covariate(name)
        values = [str(value) for value in self.cohort.patients[name].dropna()]
        levels = sorted(set(values))
        if not levels:
            return []
        reference = covariate.reference if covariate else None
        first = reference if reference in levels else max(levels, key=values.count)
        return [first, *(level for level in levels if level != first)]

    def design(self, names: tuple[str, ...]) -> tuple[pd.DataFrame, list[Term]]:
        """Build the design matrix of all patients; NaN where a covariate is missing."""
        terms = self.terms(names)
        columns = {}
        for term in terms:
            if term.level is None:
                columns[term.label] = self.column(term.name)
            else:
                cells = self.cohort.patients[term.name]
                columns[term.label] = np.where(
                    cells.isna(), np.nan, (cells == term.level).astype(np.float64)
                )
        return pd.DataFrame(columns, index=range(len(self.cohort.patients))), terms

    def sample(self, names: tuple[str, ...], need: Need, least: int = 4) -> Sample:
        """Take the patients that are complete for an analysis.

        Raises
        ------
        NotDoneError
            Fewer than `least` patients, or an outcome without events.
        """
        design, terms = self.design(names)
        progressed = self.progressed()
        usable = np.ones(len(design), dtype=bool)
        if need in ("survival", "follow-up"):
            usable = self.outcome.known
        elif need == "binary":
            usable = np.isfinite(progressed)
        complete = usable & design.notna().all(axis=1).to_numpy()
        position = np.flatnonzero(complete).astype(np.int64)
        sample = Sample(
            design.iloc[position].reset_index(drop=True),
            tuple(terms),
            self.outcome.time[position],
            self.outcome.status[position],
            (self.outcome.status[position] == PROGRESSED).astype(np.int64),
            progressed[position],
            position,
            int(usable.sum() - complete.sum()),
        )
        self._check(sample, need, least)
        return sample

    def _check(self, sample: Sample, need: Need, least: int) -> None:
        horizon = self.study.plan.horizon
        if sample.n < least:
            raise NotDoneError(
                f"only {sample.n} patient{'' if sample.n == 1 else 's'} complete for it; {least} "
                "are needed at least"
            )
        if need == "survival" and not sample.event.any():
            raise NotDoneError("no patient had the event")
        if need == "binary" and len(np.unique(sample.progressed)) < 2:
            which = "with progression" if not sample.progressed.any() else "without progression"
            last = float(np.nanmax(self.outcome.time, initial=0.0))
            reach = (
                f"; follow-up ends at {last:.3g} months: set analysis.horizons_months within it"
                if last < horizon - self.study.plan.tolerance_months
                else ""
            )
            raise NotDoneError(
                f"no patient {which} whose outcome at {horizon:g} months is known{reach}"
            )

    def risk_direction(self, sample: Sample, name: str) -> FloatArray:
        """Take a measure so that a higher value means progression is likelier.

        Lung function is negated: a lower value means progression is likelier.
        """
        values = np.asarray(sample.design[self.label(name)], dtype=np.float64)
        return -values if name in PROTECTIVE else values
