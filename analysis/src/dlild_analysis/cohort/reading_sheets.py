"""Readings of several readers, one row a reading: turned into one column a reader, and joined.

The sheets that `dlild report` makes have this form; so has any table with
an id, a reader and a value.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd

from dlild_analysis.cohort.conversion import UsedColumns, convert
from dlild_analysis.cohort.joins import JoinCount, count_join
from dlild_analysis.cohort.study import Measure, ReadingSheet, Study
from dlild_analysis.cohort.table.faults import FaultLog
from dlild_analysis.cohort.table.table_file import read_table
from dlild_analysis.cohort.table.tables import need_columns, numbers, words
from dlild_analysis.cohort.table.text import plain_text
from dlild_analysis.errors import InputRejectedError

DIGEST = "series_digest"
BLIND = "blind"
MEAN = "readers:mean"


def join_readings(
    frame: pd.DataFrame, study: Study, log: FaultLog, main: Path | None = None
) -> tuple[pd.DataFrame, Study, JoinCount | None]:
    """Join the readings of a study's sheet, one column a reader.

    Of two readings of one scan by one reader the first is taken, and the other named: it is a
    repeated reading, and no second reader.

    Returns
    -------
    frame : DataFrame
        With a column `<reader>` of each reader and, where the study names no visual score, the
        mean over the readers.
    study : Study
        Whose readings are these columns, and whose visual score is their mean.
    count : JoinCount or None
        None where the study has no sheet of readings.

    Raises
    ------
    InputRejectedError
        The file cannot be read, has one reader only, or shares no id with the table.
    CohortError
        A value is no number, or a reading is of another series than the score.
    """
    sheet = study.readings.sheet
    if sheet is None:
        return frame, study, None
    path = study.folder / sheet.file if sheet.file else main
    assert path is not None
    source = path.name + (f" ({sheet.format.sheet})" if sheet.format.sheet else "")
    own = FaultLog(source)
    table = _sheet(path, source, sheet, study, own)
    count = count_join(frame["id"], table["id"], source, log)
    table = table[table["id"].isin(frame["id"])]
    _check_series(table, frame, own)
    table = _first_readings(table, own)
    own.raise_if_any()
    log.absorb(own)
    readers = sorted({str(reader) for reader in table["reader"]})
    if len(readers) < 2:
        raise InputRejectedError(
            f"{source}: {len(readers)} reader ({', '.join(readers)}); agreement needs two"
        )
    wide = table.pivot_table(index="id", columns="reader", values="value", aggfunc="first")
    wide = wide.reindex(columns=readers)
    clash = [name for name in readers if name in frame.columns]
    names = {name: f"{name} (reader)" if name in clash else name for name in readers}
    wide = wide.rename(columns=names).rename_axis(columns=None)
    readings = replace(study.readings, columns=tuple(names.values()))
    if study.visual is None and readings.kind == "number":
        partial = int(wide.notna().any(axis=1).sum() - wide.notna().all(axis=1).sum())
        if partial:
            log.warn(
                None,
                "",
                "",
                f"{partial} patients",
                f"were not read by all {len(readers)} readers; their visual score is the mean of "
                "those who did",
            )
        wide[MEAN] = wide.mean(axis=1)
        label = f"Visual score (mean of {len(readers)} readers)"
        study = replace(study, visual=Measure(MEAN, label, readings.unit))
    joined = frame.merge(wide.reset_index(), on="id", how="left")
    return joined, replace(study, readings=readings), count


def _sheet(
    path: Path, source: str, sheet: ReadingSheet, study: Study, log: FaultLog
) -> pd.DataFrame:
    """Read the rows of a sheet: `row`, `id`, `reader`, `value`, and what else it says."""
    file = read_table(path, sheet.format)
    for remark in file.remarks:
        log.warn(None, "", "", source, remark)
    wanted = {"readings.id": sheet.id, "readings.reader": sheet.reader}
    wanted["readings.value"] = sheet.value
    need_columns(file.frame, wanted, source)
    table = file.frame.copy()
    table["id"] = table[sheet.id].fillna("").astype(str).map(plain_text)
    table = convert(table, UsedColumns(numbers=(sheet.value,)), sheet.format, log)
    table["reader"] = table[sheet.reader].fillna("").astype(str).map(plain_text)
    for name, column in (("id", sheet.id), ("reader", sheet.reader)):
        for row in table.loc[table[name] == "", "row"]:
            log.reject(int(row), column, "", "", f"the {name} is empty")
    if study.readings.kind == "category":
        table["value"] = level_codes(table, sheet.value, study.readings.levels, log)
    else:
        table["value"] = numbers(table, sheet.value, log)
    if BLIND in table:
        seen = words(table, BLIND).map(lambda word: str(word).lower() == "no")
        if seen.any():
            log.warn(
                None,
                BLIND,
                "",
                f"{int(seen.sum())} of {len(seen)} readings",
                "were made with the score in view; they are used",
            )
    return table


def level_codes(
    table: pd.DataFrame, column: str, levels: tuple[str, ...], log: FaultLog
) -> pd.Series:
    """Write the levels of an ordered category as 0, 1, 2 ...; NaN where missing."""
    text = words(table, column)
    order = {level.casefold(): float(index) for index, level in enumerate(levels)}
    codes = text.map(lambda word: order.get(str(word).casefold()) if word else None)
    for index in range(len(table)):
        if text.iloc[index] is not None and pd.isna(codes.iloc[index]):
            log.reject(
                int(table["row"].iloc[index]),
                column,
                str(table["id"].iloc[index]),
                text.iloc[index],
                f"is no level of readings.levels ({', '.join(levels)})",
            )
    return codes.astype(float)


def _check_series(table: pd.DataFrame, frame: pd.DataFrame, log: FaultLog) -> None:
    """Refuse readings of another series than the one that was scored."""
    if DIGEST not in table or DIGEST not in frame:
        return
    scored = frame.drop_duplicates("id").set_index("id")[DIGEST]
    for row, identifier, digest in zip(
        table["row"], table["id"], words(table, DIGEST), strict=True
    ):
        other = scored.get(identifier)
        if digest and other and str(other) != str(digest):
            log.reject(
                int(row),
                DIGEST,
                str(identifier),
                digest,
                "is the reading of another series than the one that was scored; take it out, or "
                "read the series that was scored",
            )


def _first_readings(table: pd.DataFrame, log: FaultLog) -> pd.DataFrame:
    order = ["date", "row"] if "date" in table else ["row"]
    table = table[table["value"].notna()].sort_values(order, kind="stable")
    again = table.duplicated(["id", "reader"])
    if again.any():
        example = table[again].iloc[0]
        log.warn(
            None,
            "",
            "",
            f"{int(again.sum())} readings",
            f"repeat a scan by the same reader (such as {example['id']} by {example['reader']}); "
            "the first of each is used",
        )
    return table[~again]
