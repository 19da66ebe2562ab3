"""From visits, deaths and transplants to one outcome a patient: a time and a status."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dlild_analysis.cohort import Cohort
from dlild_analysis.cohort.table.units import TIME_SLACK
from dlild_analysis.errors import Fault, NotDoneError
from dlild_analysis.progression.patient import Visits
from dlild_analysis.progression.rules import Progressed, Rule, find_rule
from dlild_analysis.stats.arrays import FloatArray, merge_tied_times

CENSORED, PROGRESSED, DIED = 0, 1, 2
LATE_DEATH_MONTHS = 6.0
DEATH_WORDS = {
    "event": "Death and lung transplant counted as progression.",
    "competing": "Death and lung transplant before progression were competing events.",
    "ignore": "Patients who died or were transplanted without progression were censored.",
}
SEEN_WORDS = (
    " Patients alive without progression were followed to the date on which they were last seen, "
    "as the dead were to their death."
)


@dataclass(frozen=True)
class Outcome:
    """The outcome of every patient under one rule.

    Attributes
    ----------
    rule : str
        Name and version, such as ``relative-decline@1``.
    title, statement, source : str
        As the rule states them; `statement` says what was done with death.
    time : array of shape (n,)
        Months to the event or to the end of follow-up; NaN where the outcome is unknown.
    status : array of shape (n,)
        0 censored, 1 event, 2 competing death; NaN where unknown.
    reasons : dict
        How many events each criterion made.
    free_until : array of shape (n,) or None
        The last month at which a patient was known to be free of the event: for progression the
        visit before, for death and censoring `time` itself. None where no visits tell.
    notes : tuple of Fault
        Patients whose outcome cannot be determined.
    """

    rule: str
    title: str
    statement: str
    source: str
    time: FloatArray
    status: FloatArray
    reasons: dict[str, int]
    notes: tuple[Fault, ...] = ()
    free_until: FloatArray | None = None

    @property
    def known(self) -> NDArray[np.bool_]:
        """Whether the outcome of each patient is known, of shape (n,)."""
        return np.isfinite(self.time) & np.isfinite(self.status)

    @property
    def events(self) -> int:
        """Patients with the event."""
        return int(np.sum(self.status == PROGRESSED))

    @property
    def competing(self) -> int:
        """Patients who died first, where death competes."""
        return int(np.sum(self.status == DIED))


def assess(cohort: Cohort, rule: str | None = None, death: str | None = None) -> Outcome:
    """Work out the outcome of every patient.

    Parameters
    ----------
    cohort : Cohort
        A validated cohort.
    rule : str, optional
        ``recorded``, ``name`` or ``name@version``; by default what the study says.
    death : {"event", "competing", "ignore"}, optional
        By default what the study says.

    Raises
    ------
    NotDoneError
        The cohort lacks what the rule needs.
    UsageError
        There is no such rule.
    """
    name = rule or cohort.study.outcome.rule
    policy = death or cohort.study.outcome.death
    if name.split("@")[0] == "recorded":
        outcome = _recorded(cohort, policy)
    else:
        outcome = _by_rule(cohort, find_rule(name), policy)
    return replace(outcome, time=np.asarray(merge_tied_times(outcome.time), dtype=np.float64))


def _recorded(cohort: Cohort, policy: str) -> Outcome:
    if not cohort.has("time", "status"):
        raise NotDoneError("the table records no outcome (outcome.time and outcome.event)")
    time = cohort.patients["time"].to_numpy(dtype=np.float64).copy()
    status = cohort.patients["status"].to_numpy(dtype=np.float64).copy()
    unknown = np.isnan(time) | np.isnan(status)
    time[unknown] = np.nan
    status[unknown] = np.nan
    notes = _with_deaths(cohort, time, status, policy)
    deaths = int(np.sum(status == DIED))
    status = _with_policy(status, policy)
    reasons = {
        "recorded as progression": int(np.sum(status == PROGRESSED))
        - (deaths if policy == "event" else 0)
    }
    if deaths:
        reasons["recorded as death"] = deaths
    return Outcome(
        rule="recorded@1",
        title="As recorded in the table",
        statement="Progression was taken as recorded in the table. "
        f"{DEATH_WORDS[policy] if deaths else ''}".strip(),
        source="The study's own table; the criterion behind it is not known to this software.",
        time=time,
        status=status,
        reasons=reasons,
        notes=notes,
    )


def _with_deaths(
    cohort: Cohort, time: FloatArray, status: FloatArray, policy: str
) -> tuple[Fault, ...]:
    """Add deaths and transplants that the event column does not have; changes `time`, `status`.

    A patient recorded as censored who died afterwards had the end point at death, as under the
    rules that read visits. Where death is ignored, the recorded censoring stays.
    """
    terminal = terminal_times(cohort)
    late = np.isfinite(terminal) & ((status == CENSORED) | np.isnan(status))
    if policy == "ignore":
        return ()
    notes = []
    for index in np.flatnonzero(late):
        row = cohort.patients.iloc[index]
        notes.append(
            Fault(
                int(row["row"]),
                "",
                str(row["id"]),
                f"{terminal[index]:.6g} months",
                "is the patient's death or transplant, which the recorded outcome does not have; "
                "it is used",
                rejects=False,
            )
        )
    time[late], status[late] = terminal[late], float(DIED)
    return tuple(notes)


def _with_policy(status: FloatArray, policy: str) -> FloatArray:
    new = {"event": PROGRESSED, "competing": DIED, "ignore": CENSORED}[policy]
    return np.where(status == DIED, float(new), status)


def _by_rule(cohort: Cohort, rule: Rule, policy: str) -> Outcome:
    visits = cohort.visits
    columns = frozenset(name for name in visits.columns if visits[name].notna().any())
    lacking = rule.lacking(columns) if len(visits) else "serial visits"
    if lacking:
        raise NotDoneError(
            f"the rule {rule.name}@{rule.version} needs {lacking}, which the cohort lacks"
        )
    size = len(cohort.patients)
    time, status = np.full(size, np.nan), np.full(size, np.nan)
    reasons: dict[str, int] = {}
    notes: list[Fault] = []
    terminal = terminal_times(cohort)
    alive = _last_seen(cohort)
    free_until = np.full(size, np.nan)
    for patient, series in _each(cohort):
        seen = _last(series)
        found = rule.assess(series) if series is not None else None
        end = np.fmax(seen, alive[patient]) if np.isfinite(seen) else seen
        time[patient], status[patient], reason = _settle(found, terminal[patient], end, rule.months)
        free_until[patient] = time[patient]
        if status[patient] == PROGRESSED and series is not None:
            free_until[patient] = _visit_before(series, time[patient])
        elif status[patient] == DIED and policy == "ignore" and np.isnan(alive[patient]):
            # The living are followed to their last visit then, and so are the dead.
            time[patient] = free_until[patient] = np.fmin(seen, time[patient])
        if np.isnan(status[patient]):
            row = cohort.patients.iloc[patient]
            notes.append(
                Fault(
                    int(row["row"]),
                    "",
                    str(row["id"]),
                    "",
                    "no visit after the time origin: the outcome is unknown",
                    rejects=False,
                )
            )
        elif status[patient] in (PROGRESSED, DIED) and (
            status[patient] == PROGRESSED or policy == "event"
        ):
            reasons[reason] = reasons.get(reason, 0) + 1
    has_deaths = bool(np.isfinite(terminal).any())
    death_words = (
        f" {DEATH_WORDS[policy]}" if has_deaths else " No death or transplant is in the table."
    )
    if has_deaths and np.isfinite(alive).any():
        death_words += SEEN_WORDS
    notes += _late_deaths(cohort, terminal, alive, rule, policy)
    return Outcome(
        rule=f"{rule.name}@{rule.version}",
        title=rule.title,
        statement=rule.statement + death_words,
        source=rule.source,
        time=time,
        status=_with_policy(status, policy),
        reasons=dict(sorted(reasons.items())),
        notes=tuple(notes),
        free_until=free_until,
    )


def _last_seen(cohort: Cohort) -> FloatArray:
    """Take the month at which each patient was last seen; NaN where it is not given."""
    if "last_seen" not in cohort.patients:
        return np.full(len(cohort.patients), np.nan)
    return np.asarray(cohort.patients["last_seen"], dtype=np.float64)


def _late_deaths(
    cohort: Cohort, terminal: FloatArray, alive: FloatArray, rule: Rule, policy: str
) -> list[Fault]:
    """Note deaths long after the last visit where nobody says how long the living were followed."""
    if policy == "ignore" or np.isfinite(alive).any():
        return []
    last = cohort.visits.groupby("patient")["time"].max()
    seen = np.full(len(cohort.patients), np.nan)
    seen[last.index.to_numpy(dtype=np.int64)] = last.to_numpy()
    with np.errstate(invalid="ignore"):
        late = (terminal > seen + LATE_DEATH_MONTHS) & (terminal <= rule.months + TIME_SLACK)
    if not late.any():
        return []
    return [
        Fault(
            None,
            "outcome.death_time",
            "",
            "",
            f"holds {int(late.sum())} that lie more than {LATE_DEATH_MONTHS:g} months after the "
            "patient's last visit, while the living are followed to theirs only: the risk is "
            "overstated; give outcome.last_seen",
            rejects=False,
        )
    ]


def _visit_before(series: Visits, time: float) -> float:
    """Find the last measurement before a visit; 0 where there is none after the origin."""
    measured = _measured(series) & (series.time < time - TIME_SLACK) & (series.time > 0)
    return float(series.time[measured].max()) if measured.any() else 0.0


def _settle(
    found: Progressed | None, terminal: float, seen: float, months: float
) -> tuple[float, float, str]:
    """Choose what came first: progression, death, the rule's last month, or the last visit."""
    if found is not None and not terminal < found.time - TIME_SLACK:
        return found.time, float(PROGRESSED), found.reason
    if np.isfinite(terminal) and terminal <= months + TIME_SLACK:
        return terminal, float(DIED), "death or transplant"
    end = np.nanmin([months, np.inf if np.isnan(seen) else seen])
    if np.isnan(seen) or end <= 0:
        return np.nan, np.nan, ""
    return float(end), float(CENSORED), ""


def terminal_times(cohort: Cohort) -> FloatArray:
    """Take the month of each patient's death or transplant, the earlier; NaN where neither is.

    Returns
    -------
    array of shape (n,)
    """
    size = len(cohort.patients)
    columns = [
        cohort.patients[name].to_numpy(dtype=np.float64)
        for name in ("death", "transplant")
        if name in cohort.patients
    ]
    if not columns:
        return np.full(size, np.nan)
    stacked = np.vstack(columns)
    return np.where(
        np.isnan(stacked).all(axis=0),
        np.nan,
        np.nanmin(np.where(np.isnan(stacked), np.inf, stacked), axis=0),
    )


def end_times(cohort: Cohort) -> FloatArray:
    """Take the month of each patient's death or transplant, recorded outcomes included.

    Returns
    -------
    array of shape (n,)
        As `terminal_times`, or where that is NaN the time of an outcome recorded as death.
    """
    end = terminal_times(cohort)
    if not cohort.has("time", "status"):
        return end
    time = cohort.patients["time"].to_numpy(dtype=np.float64)
    recorded = cohort.patients["status"].to_numpy(dtype=np.float64) == DIED
    return np.where(np.isnan(end) & recorded, time, end)


def _last(series: Visits | None) -> float:
    """Find the last month at which progression could have been seen."""
    if series is None:
        return np.nan
    later = series.time[_measured(series) & (series.time > 0)]
    return float(later.max()) if later.size else np.nan


def _measured(series: Visits) -> NDArray[np.bool_]:
    """Mark the visits at which anything was measured."""
    values = np.vstack(
        [
            series.fvc_percent,
            series.fvc_litres,
            series.dlco_percent,
            series.symptoms,
            series.radiology,
        ]
    )
    return np.asarray(np.isfinite(values).any(axis=0), dtype=np.bool_)


def _each(cohort: Cohort) -> list[tuple[int, Visits | None]]:
    """Cut the table of visits into patients."""
    visits: pd.DataFrame = cohort.visits
    owner: NDArray[np.int64] = visits["patient"].to_numpy(dtype=np.int64)
    size = len(cohort.patients)
    starts = np.searchsorted(owner, np.arange(size), side="left")
    ends = np.searchsorted(owner, np.arange(size), side="right")
    absent = np.full(len(visits), np.nan)
    names = ("fvc_percent", "fvc_litres", "dlco_percent", "symptoms", "radiology")
    data = {
        name: visits[name].to_numpy(dtype=np.float64) if name in visits else absent
        for name in names
    }
    times = visits["time"].to_numpy(dtype=np.float64)
    window = cohort.study.visits.baseline_window_months
    return [
        (patient, None)
        if start == end
        else (
            patient,
            Visits(
                time=times[start:end],
                window=window,
                **{name: values[start:end] for name, values in data.items()},
            ),
        )
        for patient, (start, end) in enumerate(zip(starts, ends, strict=True))
    ]
