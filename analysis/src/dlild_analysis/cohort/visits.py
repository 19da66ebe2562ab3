"""Serial measurements: read, checked, and reduced to one baseline row a patient where asked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from dlild_analysis.cohort.conversion import convert, dates_to_times, visit_columns
from dlild_analysis.cohort.study import Study
from dlild_analysis.cohort.table.codes import check_long_times, check_summary_rows
from dlild_analysis.cohort.table.dates import read_dates
from dlild_analysis.cohort.table.faults import (
    DLCO_PREDICTED,
    LITRES,
    PERCENT_PREDICTED,
    SHARE,
    FaultLog,
    check_limits,
    check_mixed_units,
    check_repeats,
)
from dlild_analysis.cohort.table.table_file import read_table
from dlild_analysis.cohort.table.tables import flags, need_columns, numbers, words
from dlild_analysis.cohort.table.text import plain_text
from dlild_analysis.cohort.table.units import TIME_SLACK, TIME_TO_MONTHS, VOLUME_TO_LITRES
from dlild_analysis.stats.arrays import merge_tied_times

MEASUREMENTS = ("fvc_percent", "fvc_litres", "dlco_percent")


def empty_visits() -> pd.DataFrame:
    """Give the table of visits of a cohort that has none."""
    return pd.DataFrame(
        {
            "row": pd.Series(dtype=np.int64),
            "patient": pd.Series(dtype=np.int64),
            "time": pd.Series(dtype=np.float64),
        }
    )


def read_visits(
    frame: pd.DataFrame,
    study: Study,
    path: Path | None,
    log: FaultLog,
    *,
    main: Path | None = None,
    origins: pd.Series | None = None,
) -> tuple[pd.DataFrame, pd.Series, str, pd.Series]:
    """Read the visits of a study.

    Parameters
    ----------
    frame : DataFrame
        The main table, with `row` and `id`; it holds the visits where no other file does.
    path : Path, optional
        A table of visits that replaces `visits.file` of the study.
    main : Path, optional
        File of the main table, for visits on another sheet of it.
    origins : Series, optional
        By id: ordinal of the date from which dates count.

    Returns
    -------
    visits : DataFrame
        `row`, `id`, `time` (months from the time origin, or from the first visit where the study
        says so) and the measurements, sorted by id and time. Empty where the study has no visits.
    origin : Series
        By id: the month, on the table's clock, from which the patient's times count. Empty where
        that is 0 for all.
    file : str
        Name of the visits' own table; empty where they stand in the patients' table.
    origins : Series
        By id: ordinal of the date from which dates count: as given, or the first visit's where the
        visits have dates and the study counts from the first.
    """
    spec = study.visits
    days = pd.Series(dtype=np.float64) if origins is None else origins
    nobody = pd.Series(dtype=np.float64)
    if not spec.given:
        return empty_visits(), nobody, "", days
    file = ""
    if spec.wide:
        table = convert(frame, visit_columns(study), study.table.format, log)
        visits = _from_wide(table, study, log)
    else:
        source = path or (study.folder / spec.file if spec.file else None)
        if source is None and spec.format.sheet is not None:
            source = main
        if source is None:
            table = convert(frame, visit_columns(study), study.table.format, log)
            days = _first_dates(table, study, days)
            table = dates_to_times(table, visit_columns(study), days, study, log)
            visits = _from_long(table, study, log)
        else:
            file = source.name + (f" ({spec.format.sheet})" if spec.format.sheet else "")
            own = FaultLog(file)
            table = convert(
                _other_table(source, study, own), visit_columns(study), spec.format, own
            )
            days = _first_dates(table, study, days)
            known = table[table["id"].isin(frame["id"])] if len(days) else table
            table = dates_to_times(known, visit_columns(study), days, study, own)
            visits = _from_long(table, study, own)
            log.absorb(own)
    visits = visits.sort_values(["id", "time", "row"], kind="stable").reset_index(drop=True)
    if spec.baseline != "first":
        return visits, nobody, file, days
    origin = visits.groupby("id")["time"].min()
    visits["time"] -= visits["id"].map(origin)
    return visits, origin, file, days


def _first_dates(table: pd.DataFrame, study: Study, origins: pd.Series) -> pd.Series:
    """Take the first visit's date as the origin where the study counts from it and names none."""
    column = str(study.visits.time)
    if len(origins) or study.visits.baseline != "first" or column not in table:
        return origins
    if pd.api.types.is_numeric_dtype(table[column]):
        return origins
    dates = read_dates(table[column].fillna("").astype(str), study.table.date_order)
    known = pd.DataFrame({"id": table["id"], "days": dates.days}).dropna()
    return known.groupby("id")["days"].min()


def _other_table(path: Path, study: Study, log: FaultLog) -> pd.DataFrame:
    file = read_table(path, study.visits.format)
    for remark in file.remarks:
        log.warn(None, "", "", log.source, remark)
    table = file.frame
    need_columns(table, {"visits.id": study.visits.id}, path.name)
    table = table.rename(columns={study.visits.id: "id"})
    table["id"] = words(table, "id").map(plain_text, na_action="ignore")
    for row in table.loc[table["id"].isna(), "row"]:
        log.reject(int(row), study.visits.id, "", "", "the id is empty")
    return check_summary_rows(
        table[table["id"].notna()].reset_index(drop=True), study.visits.id, log
    )


def _from_long(table: pd.DataFrame, study: Study, log: FaultLog) -> pd.DataFrame:
    spec = study.visits
    time_column = str(spec.time)
    wanted = {"visits.time": time_column} | {
        f"visits.{key}": name for key, name in spec.columns.items()
    }
    need_columns(table, wanted, log.source)
    time = numbers(table, time_column, log)
    for index in np.flatnonzero(words(table, time_column).isna()):
        log.reject(
            int(table["row"].iloc[index]),
            time_column,
            str(table["id"].iloc[index]),
            "",
            "the time of the visit is missing",
        )
    out = pd.DataFrame({"row": table["row"].to_numpy(), "id": table["id"].to_numpy()})
    unit = study.table.time_unit
    months = check_long_times(time * TIME_TO_MONTHS[unit], table, time_column, unit, log)
    out["time"] = merge_tied_times(months)
    _measurements(table, spec.columns, study, out, log)
    known = out[out["time"].notna()]
    return check_repeats(known, ["id", "time"], "id and time", study.table.duplicates, log)


def _from_wide(frame: pd.DataFrame, study: Study, log: FaultLog) -> pd.DataFrame:
    parts = []
    for index, visit in enumerate(study.visits.wide):
        wanted = {f"visits.wide[{index}].{key}": name for key, name in visit.columns.items()}
        need_columns(frame, wanted, log.source)
        out = pd.DataFrame({"row": frame["row"].to_numpy(), "id": frame["id"].to_numpy()})
        out["time"] = visit.time * TIME_TO_MONTHS[study.table.time_unit]
        _measurements(frame, visit.columns, study, out, log)
        measured = out.drop(columns=["row", "id", "time"]).notna().any(axis=1)
        parts.append(out[measured])
    return pd.concat(parts, ignore_index=True)


def _measurements(
    table: pd.DataFrame, columns: dict[str, str], study: Study, out: pd.DataFrame, log: FaultLog
) -> None:
    for name, limits in (("fvc_percent", PERCENT_PREDICTED), ("dlco_percent", DLCO_PREDICTED)):
        if name in columns:
            values = numbers(table, columns[name], log)
            values = check_mixed_units(
                values, 1.6, table, columns[name], log, names=("a fraction", "percent")
            )
            check_limits(values, limits, table, columns[name], log)
            out[name] = values
    if "score" in columns:
        measure = study.score
        factor = measure.factor if measure else 1.0
        values = numbers(table, columns["score"], log)
        if measure is None or measure.unit != "points":
            check_limits(values * factor, SHARE, table, columns["score"], log, factor=factor)
        out["score"] = values * factor
    if "fvc_volume" in columns:
        factor = VOLUME_TO_LITRES[study.visits.fvc_unit]
        values = numbers(table, columns["fvc_volume"], log)
        values = check_mixed_units(
            values, 15.0, table, columns["fvc_volume"], log, names=("litres", "millilitres")
        )
        check_limits(values * factor, LITRES, table, columns["fvc_volume"], log, factor=factor)
        out["fvc_litres"] = values * factor
    for name in ("symptoms", "radiology"):
        if name in columns:
            out[name] = flags(table, columns[name], log)


def collapse(
    frame: pd.DataFrame, visits: pd.DataFrame, study: Study, log: FaultLog
) -> pd.DataFrame:
    """Reduce a table with one row a visit to one row a patient: that of the baseline visit.

    A patient without a visit within `visits.baseline_window_months` of the time origin is left out
    and named. A column that should not change within a patient, but does, is named too; the
    baseline row's value is used.
    """
    window = study.visits.baseline_window_months
    distance = visits["time"].abs()
    reach = window + TIME_SLACK
    near = visits.assign(distance=distance).sort_values(
        ["id", "distance", "time", "row"], kind="stable"
    )
    first = near.drop_duplicates("id")
    for _, visit in first[first["distance"] > reach].iterrows():
        log.warn(
            int(visit["row"]),
            str(study.visits.time),
            str(visit["id"]),
            f"{visit['time']:.4g} months",
            f"is the visit nearest to {study.table.time_origin}, more than {window:g} months "
            "away: no baseline, the patient is left out",
        )
    first = first[first["distance"] <= reach]
    _check_constant(frame, study, log)
    chosen = frame.set_index("row").loc[first["row"]].reset_index()
    for name in MEASUREMENTS:
        if name in first:
            chosen[f"baseline:{name}"] = first[name].to_numpy()
    return chosen.sort_values("row", kind="stable").reset_index(drop=True)


def _check_constant(frame: pd.DataFrame, study: Study, log: FaultLog) -> None:
    names = [item.column for item in study.covariates]
    names += [item.column for item in (study.score, study.visual) if item]
    if study.visits.columns.get("score") in names:  # follow-up scans: it is meant to change
        names.remove(study.visits.columns["score"])
    for name in names:
        cells = pd.DataFrame({"id": frame["id"], "value": words(frame, name), "row": frame["row"]})
        counts = cells.dropna().groupby("id")["value"].nunique()
        for identifier in counts.index[counts > 1]:
            log.warn(
                None,
                name,
                str(identifier),
                "",
                f"changes between the {int(counts[identifier])} values of this patient's visits; "
                "the baseline visit's is used",
            )


def fill_baseline(patients: pd.DataFrame, visits: pd.DataFrame, window: float) -> None:
    """Take baseline lung function from the visits where the patients' table has none."""
    for name in MEASUREMENTS:
        if name in patients or name not in visits:
            continue
        near = visits[visits[name].notna() & (visits["time"].abs() <= window + TIME_SLACK)].copy()
        near["distance"] = near["time"].abs()
        first = near.sort_values(["patient", "distance", "row"], kind="stable").drop_duplicates(
            "patient"
        )
        values = np.full(len(patients), np.nan)
        values[first["patient"].to_numpy()] = first[name].to_numpy()
        patients[name] = values


def check_visits(
    patients: pd.DataFrame, visits: pd.DataFrame, study: Study, file: str, log: FaultLog
) -> None:
    """Note visits after the patient's death, and after the patient was last seen.

    Parameters
    ----------
    patients : DataFrame
        With `id` and, of `death`, `time`, `status`, `last_seen` (months), those there are.
    visits : DataFrame
        With `row`, `id`, `time` and the measurements; a row without one is no visit.
    file : str
        The visits' own table; empty where they stand in the patients' table.
    """
    if visits.empty:
        return
    measured = visits.drop(columns=["row", "id", "time"]).notna().any(axis=1)
    dead = patients.get("death", pd.Series(np.nan, index=patients.index)).astype(np.float64)
    if "status" in patients:
        dead = dead.fillna(patients["time"].where(patients["status"] == 2.0))
    column = str(study.visits.time or "")
    by_id = visits["id"].map(pd.Series(dead.to_numpy(), index=patients["id"]))
    for index in np.flatnonzero(measured & (visits["time"] > by_id + TIME_SLACK)):
        visit = visits.iloc[index]
        log.reject(
            int(visit["row"]),
            column,
            str(visit["id"]),
            f"{visit['time']:.6g} months",
            f"is a visit after the patient's death ({by_id.iloc[index]:.6g} months); correct one "
            "of them",
            file=file,
        )
    if "last_seen" not in patients:
        return
    seen = visits["id"].map(pd.Series(patients["last_seen"].to_numpy(), index=patients["id"]))
    late = visits[measured & (visits["time"] > seen + TIME_SLACK)]
    for identifier, own in late.groupby("id", sort=True):
        log.warn(
            int(own["row"].iloc[0]),
            column,
            str(identifier),
            f"{own['time'].iloc[0]:.6g} months",
            "is a visit after the patient was last seen",
        )
