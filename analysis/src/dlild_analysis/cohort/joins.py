"""Further tables joined to the patients' by id, and what did not match."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from dlild_analysis.cohort.study import JoinSpec, Study
from dlild_analysis.cohort.table.faults import FaultLog, check_repeats
from dlild_analysis.cohort.table.table_file import read_table
from dlild_analysis.cohort.table.tables import need_columns
from dlild_analysis.cohort.table.text import alike, plain_text
from dlild_analysis.errors import InputRejectedError

SHOWN = 5


@dataclass(frozen=True)
class JoinCount:
    """How the ids of a further table met those of the patients' table.

    Attributes
    ----------
    source : str
        Name of the file, with its sheet.
    ids : int
        Different ids in it.
    matched : int
        Of these, how many the patients' table has.
    without : int
        Patients whose id it lacks.
    """

    source: str
    ids: int
    matched: int
    without: int

    @property
    def words(self) -> str:
        """How many met, in words."""
        return (
            f"{self.matched} of {self.ids} ids of {self.source} are in the table; "
            f"{self.without} patients of the table are not in it"
        )


def count_join(known: pd.Series, other: pd.Series, source: str, log: FaultLog) -> JoinCount:
    """Count how two tables meet, and name what did not match.

    Parameters
    ----------
    known, other : Series of str
        Ids of the patients' table, and of the other.

    Raises
    ------
    InputRejectedError
        No id is in both.
    """
    here, there = set(known), set(other)
    lost, alone = sorted(there - here), sorted(here - there)
    count = JoinCount(source, len(there), len(there & here), len(alone))
    near = _near(lost, alone)
    hint = ""
    if near:
        pairs = ", ".join(f"{a!r} and {b!r}" for a, b in near[:3])
        hint = (
            f"; {len(near)} ids differ in case, signs or leading zeros only ({pairs}): write them "
            "alike"
        )
    if count.matched == 0:
        raise InputRejectedError(
            f"{log.source}: no id is in {source} too (here such as {_listed(sorted(here), 2)}, "
            f"there such as {_listed(sorted(there), 2)}){hint}"
        )
    if lost:
        log.warn(
            None,
            "",
            "",
            f"{len(lost)} of {len(there)} ids",
            f"of {source} are not in the table and not used: {_listed(lost)}{hint}",
        )
    if alone:
        log.warn(
            None,
            "",
            "",
            f"{len(alone)} of {len(here)} ids",
            f"of the table are not in {source}; what it gives is missing for them: "
            f"{_listed(alone)}" + ("" if lost else hint),
        )
    return count


def _listed(ids: list[str], most: int = SHOWN) -> str:
    rest = len(ids) - most
    return ", ".join(ids[:most]) + (f" and {rest} more" if rest > 0 else "")


def _near(lost: list[str], alone: list[str]) -> list[tuple[str, str]]:
    """Pair ids that two people may have written for one."""
    keys = {alike(name): name for name in alone if alike(name)}
    return [(name, keys[alike(name)]) for name in lost if alike(name) in keys]


def join_tables(
    frame: pd.DataFrame, main: Path, study: Study, wanted: dict[str, str], log: FaultLog
) -> tuple[pd.DataFrame, list[JoinCount]]:
    """Join every further table of a study to the patients' table.

    Parameters
    ----------
    frame : DataFrame
        The patients' table, with `row` and `id`.
    main : Path
        Its file, for sheets of the same workbook.
    wanted : dict of str to str
        From the key of the TOML to the column that it names.

    Raises
    ------
    InputRejectedError
        A file cannot be read, no id matches, or two tables have a column that is used.
    """
    counts = []
    used = set(wanted.values())
    for join in study.joins:
        path = study.folder / join.file if join.file else main
        source = path.name + (f" ({join.format.sheet})" if join.format.sheet else "")
        table = _identified(path, source, join, study, log)
        if join.columns:
            need_columns(table, {f"join.columns: {n}": n for n in join.columns}, source)
            table = table[["row", "id", *join.columns]]
        counts.append(count_join(frame["id"], table["id"], source, log))
        there = [name for name in table.columns if name not in ("row", "id")]
        clash = [name for name in there if name in frame.columns and name in used]
        if clash:
            raise InputRejectedError(
                f"{source}: {clash[0]!r} is a column of {log.source} too; say which tables give "
                "it: join.columns lists what is taken"
            )
        new = [name for name in there if name not in frame.columns]
        rows = dict(zip(table["id"], table["row"], strict=True))
        for name in new:
            log.places[name] = (source, rows)
        frame = frame.merge(table[["id", *new]], on="id", how="left")
        for name in new:
            if not pd.api.types.is_numeric_dtype(frame[name]):
                frame[name] = frame[name].fillna("")
    return frame, counts


def _identified(
    path: Path, source: str, join: JoinSpec, study: Study, log: FaultLog
) -> pd.DataFrame:
    file = read_table(path, join.format)
    for remark in file.remarks:
        log.warn(None, "", "", source, remark)
    table = file.frame
    need_columns(table, {"join.id": join.id}, source)
    if join.id != "id":
        table = table.drop(columns=["id"], errors="ignore").rename(columns={join.id: "id"})
    table["id"] = table["id"].fillna("").astype(str).map(plain_text)
    nameless = int((table["id"] == "").sum())
    if nameless:
        log.warn(None, join.id, "", f"{nameless} rows", f"of {source} have no id and are not used")
        table = table[table["id"] != ""].reset_index(drop=True)
    own = FaultLog(source)
    table = check_repeats(table, ["id"], "id", study.table.duplicates, own)
    own.raise_if_any()
    log.absorb(own)
    return table
