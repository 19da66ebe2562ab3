"""What belongs to a patient may stand on any of its rows: deaths, transplants, the outcome.

The row that is kept of a patient (the baseline visit, or the first of repeated rows) need not be
the row on which the death was written down.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from dlild_analysis.cohort.study import Study
from dlild_analysis.cohort.table.faults import FaultLog
from dlild_analysis.cohort.table.tables import words


def complete_outcomes(
    kept: pd.DataFrame, table: pd.DataFrame, study: Study, log: FaultLog
) -> pd.DataFrame:
    """Give the kept row of every patient the outcome that stands on its other rows.

    Parameters
    ----------
    kept : DataFrame
        One row a patient, with `row` and `id`.
    table : DataFrame
        All rows.

    Returns
    -------
    DataFrame
        `kept`, with empty cells of death, transplant, last contact and recorded outcome filled,
        each named as a warning. Of several last contacts the latest is taken. Rows that
        contradict one another are faults of the patient.
    """
    repeated = table[table["id"].duplicated(keep=False) & table["id"].isin(kept["id"])]
    if repeated.empty:
        return kept
    kept = kept.copy()
    for columns, latest in _groups(study):
        known = repeated[_known(repeated, columns)]
        if study.table.layout == "visits" and not latest:
            _contradictions(known, columns, log)
        _fill(kept, known, columns, _chosen(known, columns, latest), log=log, latest=latest)
    return kept


def _groups(study: Study) -> Iterator[tuple[list[str], bool]]:
    """List the columns that are filled together, and whether the latest value counts."""
    outcome = study.outcome
    for column in (outcome.death_time, outcome.transplant_time):
        if column:
            yield [column], False
    if outcome.last_seen:
        yield [outcome.last_seen], True
    if outcome.rule.split("@")[0] == "recorded" and outcome.time and outcome.event:
        yield [outcome.time, outcome.event], False


def _known(table: pd.DataFrame, columns: list[str]) -> np.ndarray:
    return np.asarray(
        np.logical_and.reduce([words(table, name).notna().to_numpy() for name in columns])
    )


def _plain(table: pd.DataFrame, column: str) -> pd.Series:
    """Give cells as numbers where they are, else as text, so that 24 and 24.0 agree."""
    text = words(table, column)
    values = pd.to_numeric(text, errors="coerce")
    return values.astype(object).where(values.notna(), text)


def _contradictions(known: pd.DataFrame, columns: list[str], log: FaultLog) -> None:
    for column in columns:
        cells = pd.DataFrame({"id": known["id"], "row": known["row"]})
        cells["value"] = _plain(known, column)
        counts = cells.groupby("id")["value"].nunique()
        for identifier in counts.index[counts > 1]:
            own = cells[cells["id"] == identifier].drop_duplicates("value")
            listed = ", ".join(
                f"{value:g} in row {row}" if isinstance(value, float) else f"{value} in row {row}"
                for value, row in zip(own["value"], own["row"], strict=True)
            )
            log.reject(
                int(own["row"].iloc[1]),
                column,
                str(identifier),
                "",
                f"differs between the rows of this patient ({listed}); it belongs to the patient: "
                "write one value",
                whole=True,
            )


def _chosen(known: pd.DataFrame, columns: list[str], latest: bool) -> pd.Series:
    """Choose the row of every patient from which the values are taken."""
    if latest:
        values = pd.to_numeric(words(known, columns[0]), errors="coerce")
        known = known.assign(_at=values).sort_values(["_at", "row"], kind="stable").iloc[::-1]
    return known.drop_duplicates("id").set_index("id")["row"]


def _fill(
    kept: pd.DataFrame,
    known: pd.DataFrame,
    columns: list[str],
    rows: pd.Series,
    *,
    log: FaultLog,
    latest: bool,
) -> None:
    """Write the values of the chosen rows into the kept rows that lack them; changes `kept`."""
    chosen = kept["id"].map(rows)
    wanted = chosen.notna() & (chosen != kept["row"])
    if not latest:
        wanted &= ~_known(kept, columns)
    source = known.set_index("row")
    for column in columns:
        values = source[column].reindex(chosen[wanted]).to_numpy()
        kept[column] = kept[column].astype(object)
        kept.loc[wanted, column] = values
    if latest:
        return
    for _, row in kept[wanted].iterrows():
        log.warn(
            int(rows[row["id"]]),
            columns[0],
            str(row["id"]),
            row[columns[0]],
            f"stands in this row, not in row {row['row']}, which is kept of the patient; it is "
            "used",
        )
