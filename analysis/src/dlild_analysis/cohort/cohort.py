"""The cohort: one validated table of patients and, where the study has them, their visits.

Nothing is averaged, corrected or dropped in silence: whatever is not used is in `notes`, by row.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd

from dlild_analysis.cohort.client_results import MODEL, PRECISION, check_one_model, read_results
from dlild_analysis.cohort.columns import check_outcome, read_patients
from dlild_analysis.cohort.conversion import (
    convert,
    dates_to_times,
    origin_days,
    patient_columns,
)
from dlild_analysis.cohort.joins import JoinCount, count_join, join_tables
from dlild_analysis.cohort.outcome_rows import complete_outcomes
from dlild_analysis.cohort.reading_sheets import join_readings
from dlild_analysis.cohort.study import Study
from dlild_analysis.cohort.table.codes import check_summary_rows
from dlild_analysis.cohort.table.faults import FaultLog, check_repeats
from dlild_analysis.cohort.table.table_file import read_table
from dlild_analysis.cohort.table.tables import need_columns, words
from dlild_analysis.cohort.table.text import plain_text
from dlild_analysis.cohort.visits import (
    check_visits,
    collapse,
    empty_visits,
    fill_baseline,
    read_visits,
)
from dlild_analysis.errors import Fault, InputRejectedError

FOOTNOTE = 30
"""An id is shorter than this many characters where its row holds nothing else."""


@dataclass(frozen=True)
class LeftOut:
    """Patients left out for one reason."""

    reason: str
    patients: int


@dataclass(frozen=True)
class TableFlow:
    """The way from a table to a cohort.

    Attributes
    ----------
    rows : int
        Of the table.
    patients : int
        Different ids in it.
    left_out : tuple of LeftOut
        In the order in which they left.
    joins : tuple of JoinCount
        How the ids of further tables met those of the table.
    """

    rows: int = 0
    patients: int = 0
    left_out: tuple[LeftOut, ...] = ()
    joins: tuple[JoinCount, ...] = ()

    @property
    def kept(self) -> int:
        """Patients of the cohort."""
        return self.patients - sum(item.patients for item in self.left_out)

    def after(self, frame: pd.DataFrame, reason: str) -> TableFlow:
        """Add a stage.

        Parameters
        ----------
        frame : DataFrame
            With the `id` of those who are still there.
        reason : str
            Why the others are not.
        """
        lost = self.kept - int(frame["id"].nunique())
        if lost <= 0:
            return self
        return replace(self, left_out=(*self.left_out, LeftOut(reason, lost)))

    def notes(self) -> list[Fault]:
        """Write the totals as notes of a table."""
        return [
            Fault(
                None,
                "",
                "",
                f"{item.patients} of {self.patients} patients",
                f"are left out: {item.reason}",
                rejects=False,
            )
            for item in self.left_out
        ]


@dataclass(frozen=True)
class Cohort:
    """A validated cohort.

    Attributes
    ----------
    patients : DataFrame
        One row a patient: `row`, `id`, and of `score`, `visual` (percent or points), `fvc_percent`,
        `dlco_percent`, `fvc_litres`, the covariates, `reading_1` ... (0, 1, 2 ...
        for categories), `repeat_1` ... (percent), `time`, `status` (0 censored,
        1 progression, 2 death), `death`, `transplant`, `last_seen` (months) those that the study
        has.
    visits : DataFrame
        One row a visit: `row`, `patient` (position in `patients`), `time` (months), and of
        `score` (percent), `fvc_percent`, `fvc_litres`, `dlco_percent`, `symptoms`, `radiology`
        those that the study has.
    study : Study
        The study that describes it.
    notes : tuple of Fault
        What was left out or looks odd, by row; nothing in it stopped the analysis.
    source : str
        Base name of the table.
    flow : TableFlow
        From the table's rows to these patients.
    scan_model : str
        Name, version and weights of the model that scored the scans; empty where nothing names it.
    """

    patients: pd.DataFrame
    visits: pd.DataFrame
    study: Study
    notes: tuple[Fault, ...]
    source: str
    flow: TableFlow = field(default_factory=TableFlow)
    scan_model: str = ""

    def has(self, *names: str) -> bool:
        """Whether all these columns are there, each with a value at least."""
        return all(name in self.patients and self.patients[name].notna().any() for name in names)


def load_cohort(
    path: Path, study: Study, results: Path | None = None, visits: Path | None = None
) -> Cohort:
    """Read and validate a cohort.

    Parameters
    ----------
    path : Path
        CSV, workbook (.xlsx) or Parquet.
    results : Path, optional
        Folder of the client's result files, joined to the table by id.
    visits : Path, optional
        Table of visits; replaces `visits.file` of the study.

    Raises
    ------
    CohortError
        The table holds faults; every one is in its `faults`.
    InputRejectedError
        A file cannot be read or lacks a column.
    """
    log = FaultLog(path.name)
    file = read_table(path, study.table.format)
    for remark in file.remarks:
        log.warn(None, "", "", path.name, remark)
    rows = len(file.frame)
    frame = _identified(file.frame, study, log)
    joins: list[JoinCount] = []
    if results is not None:
        frame, count = _join_results(frame, read_results(results, study.results_id, log), log)
        joins.append(count)
    frame, further = join_tables(frame, path, study, _wanted(study), log)
    joins += further
    frame, study, readings = join_readings(frame, study, log, path)
    joins += [readings] if readings else []
    scan_model = check_one_model(frame, path.name, log, study.score.column if study.score else None)
    frame = frame.drop(columns=[MODEL, PRECISION], errors="ignore")
    known = frozenset(frame["id"])
    need_columns(frame, _wanted(study), path.name)
    frame = convert(frame, patient_columns(study), study.table.format, log)
    origins = origin_days(frame, study, log)
    raw_visits, origin, visits_file, origins = read_visits(
        frame, study, visits, log, main=path, origins=origins
    )
    frame = dates_to_times(frame, patient_columns(study), origins, study, log)
    if study.table.layout == "visits":
        kept = collapse(frame, raw_visits, study, log)
    else:
        kept = check_repeats(frame, ["id"], "id", study.table.duplicates, log)
    flow = TableFlow(rows, frame["id"].nunique(), joins=tuple(joins))
    flow = flow.after(kept, _no_baseline(study))
    patients = read_patients(complete_outcomes(kept, frame, study, log), study, log, origin)
    check_outcome(patients, study, log)
    check_visits(patients, raw_visits, study, visits_file, log)
    dropped = log.settle(study.table.faults)
    patients = dropped.keep(patients).reset_index(drop=True)
    flow = flow.after(patients, "rows with faults, left out as table.faults asks")
    if patients.empty:
        raise InputRejectedError(
            f"{path.name}: no patient is left once the rows with faults are out"
        )
    visits_kept = _attach(
        dropped.keep(raw_visits, visits_file) if len(raw_visits) else raw_visits,
        patients,
        known,
        log,
    )
    fill_baseline(patients, visits_kept, study.visits.baseline_window_months)
    return Cohort(
        patients,
        visits_kept,
        study,
        (*dict.fromkeys(log.warnings), *flow.notes()),
        path.name,
        flow=flow,
        scan_model=scan_model,
    )


def _no_baseline(study: Study) -> str:
    return (
        f"no visit within {study.visits.baseline_window_months:g} months of "
        f"{study.table.time_origin}"
    )


def _identified(frame: pd.DataFrame, study: Study, log: FaultLog) -> pd.DataFrame:
    need_columns(frame, {"table.id": study.table.id}, log.source)
    if study.table.id != "id":
        frame = frame.drop(columns=["id"], errors="ignore").rename(columns={study.table.id: "id"})
    frame = frame.copy()
    frame["id"] = words(frame, "id").map(lambda name: plain_text(name) or None, na_action="ignore")
    for row in frame.loc[frame["id"].isna(), "row"]:
        log.reject(int(row), study.table.id, "", "", "the id is empty")
    frame = frame[frame["id"].notna()].reset_index(drop=True)
    _check_footnotes(frame, study, log)
    return check_summary_rows(frame, study.table.id, log)


def _check_footnotes(frame: pd.DataFrame, study: Study, log: FaultLog) -> None:
    """Note rows that hold an id and nothing else: footnotes, or patients without any value."""
    others = [name for name in frame.columns if name not in ("row", "id")]
    if not others:
        return
    texts = frame[others].astype(object).where(frame[others].notna(), "")
    bare = texts.eq("").all(axis=1)
    for index in np.flatnonzero(bare):
        identifier = str(frame["id"].iloc[index])
        note = len(identifier) > FOOTNOTE or len(identifier.split()) > 2
        tell = log.reject if note else log.warn
        tell(
            int(frame["row"].iloc[index]),
            study.table.id,
            "",
            identifier,
            "is no id but a footnote: the row holds nothing else; delete the row"
            if note
            else "stands alone in its row: the patient has no value in this table",
        )


def _join_results(
    frame: pd.DataFrame, results: pd.DataFrame, log: FaultLog
) -> tuple[pd.DataFrame, JoinCount]:
    results = results.assign(id=results["id"].map(lambda name: plain_text(str(name))))
    count = count_join(frame["id"], results["id"], "the results", log)
    clash = [name for name in results.columns if name != "id" and name in frame.columns]
    if clash:
        raise InputRejectedError(
            f"{log.source}: the table and the results both have {clash[0]!r}; drop one"
        )
    return frame.merge(results, on="id", how="left"), count


def _wanted(study: Study) -> dict[str, str]:
    outcome, function = study.outcome, study.function
    wanted: dict[str, str | None] = {
        "score.column": study.score.column if study.score else None,
        "visual.column": study.visual.column if study.visual else None,
        "lung_function.fvc_percent": function.fvc_percent,
        "lung_function.dlco_percent": function.dlco_percent,
        "lung_function.fvc_volume": function.fvc_volume,
        "outcome.death_time": outcome.death_time,
        "outcome.transplant_time": outcome.transplant_time,
        "outcome.last_seen": outcome.last_seen,
    }
    if outcome.rule.split("@")[0] == "recorded":
        wanted |= {"outcome.time": outcome.time, "outcome.event": outcome.event}
    wanted["table.origin_date"] = study.table.origin_date
    wanted |= {f"covariates.{item.name}": item.column for item in study.covariates}
    for key, columns in (("readings", study.readings.columns), ("repeats", study.repeats)):
        wanted |= {f"{key}.columns[{index}]": name for index, name in enumerate(columns)}
    return {key: column for key, column in wanted.items() if column}


def _attach(
    visits: pd.DataFrame, patients: pd.DataFrame, known: frozenset[str], log: FaultLog
) -> pd.DataFrame:
    """Give every visit the position of its patient, and sort by patient and time.

    Visits of an id that the table never had are named; why a known one was left out is named
    elsewhere already.
    """
    if visits.empty:
        return empty_visits()
    position = pd.Series(np.arange(len(patients)), index=patients["id"])
    index = visits["id"].map(position)
    for identifier in sorted(set(visits.loc[index.isna(), "id"]) - known):
        log.warn(
            None,
            "",
            str(identifier),
            "",
            "visits of an id that is not among the patients; not used",
        )
    kept = visits[index.notna()].copy()
    kept["patient"] = index[index.notna()].astype(np.int64)
    return (
        kept.drop(columns="id")
        .sort_values(["patient", "time", "row"], kind="stable")
        .reset_index(drop=True)
    )
