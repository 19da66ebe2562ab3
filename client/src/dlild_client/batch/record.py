"""Record of a batch: `results.csv` with one row per scan, and a JSON file for each.

A row marks a scan as done: it is written after its JSON file, and flushed to the disk before the
next. After a crash the next run resumes: an incomplete last row is dropped, and a JSON file without
a row gets its row.

::

    OUT/results.csv        one row a scan
    OUT/scans/NAME.json    the result of a scan that was scored
    OUT/failed/NAME.json   the error of one that was not

`NAME` is the id of the list, or the key of the scan: no file name identifies a patient. An id that
a list gives to another scan than before is that one's from then on: the row of the former goes with
its files.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, cast, get_args

from dlild_client.batch.scans import BatchScan, Notify, no_notice
from dlild_client.batch.tables import Table, read_table
from dlild_client.contract import Contract
from dlild_client.contract.score import ZONES
from dlild_client.errors import BadSettingsError, DlildError, InputError, printable
from dlild_client.results.densitometry import PERCENTILES
from dlild_client.results.files import cannot_be_written, write_atomically
from dlild_client.results.result import Result

Status = Literal["scored", "rejected", "failed"]

ROWS = "results.csv"
DENSITY_COLUMNS = (
    *(f"density_{name}" for name in ("mean_hu", "sd_hu", "skewness", "kurtosis")),
    *(f"density_percentile_{q}_hu" for q in PERCENTILES),
    *(f"density_{name}" for name in (
        "high_attenuation_percent", "low_attenuation_percent", "mass_g",
    )),
)  # fmt: skip
"""Densitometry of the lung; empty where a result has none. Older tables lack these columns."""
_LOCK = ".lock"
_KEY = re.compile(r"[0-9a-f]{16}")


class Record:
    """Rows of a batch in a folder, locked for one process.

    Parameters
    ----------
    folder : Path
        Created if missing.
    contract : Contract
        Contract of the server: its classes are columns.
    notify : callable, optional
        Called with a line about rows that another program has saved.
    anonymous : bool
        Leave the column `scan`, the path, empty.

    Raises
    ------
    BadSettingsError
        Another run uses the folder, or its rows are of another model.
    DlildError
        The folder cannot be written.
    """

    def __init__(
        self,
        folder: Path,
        contract: Contract,
        notify: Notify = no_notice,
        *,
        anonymous: bool = False,
    ) -> None:
        self.folder = folder
        self._anonymous = anonymous
        self.columns = columns(contract)
        self._weights = f"sha256:{contract.model.weights_sha256}"
        self._notify = notify
        self._stack = contextlib.ExitStack()
        try:
            for name in ("scans", "failed"):
                (folder / name).mkdir(parents=True, exist_ok=True)
            self._stack.enter_context(_locked(folder / _LOCK))
            self._file = self._stack.enter_context((folder / ROWS).open("ab"))
            self.rows = self._recover()
            if not (folder / ROWS).stat().st_size:
                self._write(dict(zip(self.columns, self.columns, strict=True)))
        except OSError as error:
            self._stack.close()
            raise cannot_be_written(folder, error) from None
        except BaseException:
            self._stack.close()
            raise

    def __enter__(self) -> Record:
        """Return the record itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Unlock the folder."""
        self._stack.close()

    def is_done(self, key: str) -> bool:
        """Whether a scan has its row."""
        return key in self.rows

    def status(self, key: str) -> Status:
        """Return the status of a scan that has its row."""
        return cast(Status, self.rows[key]["status"])

    def adopt(self, scan: BatchScan, key: str) -> bool:
        """Write the missing row of a scan that has a JSON file; return whether it has."""
        path = self.folder / "scans" / f"{scan.id or key}.json"
        try:
            stored = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return False
        if not isinstance(stored, dict) or stored.get("key") != key:
            return False
        if stored["model"]["weights_digest"] != self._weights:
            return False
        self._settle(scan, key, result_row(stored))
        return True

    def add(self, scan: BatchScan, key: str, outcome: Result | DlildError) -> Status:
        """Write the JSON file and the row of a scan.

        Raises
        ------
        DlildError
            They cannot be written.
        """
        stem = scan.id or key
        if isinstance(outcome, DlildError):
            facts = error_facts(outcome)
            path = self.folder / "failed" / f"{stem}.json"
            row: Mapping[str, Any] = facts
        else:
            facts = outcome.to_dict()
            path = self.folder / "scans" / f"{stem}.json"
            row = result_row(facts)
        try:
            write_atomically(path, json.dumps({"key": key, **facts}, indent=2, allow_nan=False))
            self._settle(scan, key, row)
        except OSError as error:
            raise cannot_be_written(self.folder, error) from None
        return self.status(key)

    def _settle(self, scan: BatchScan, key: str, row: Mapping[str, Any]) -> None:
        """Add the row of a scan; remove what an earlier run left under its name."""
        other = "failed" if row["status"] == "scored" else "scans"
        (self.folder / other / f"{scan.id or key}.json").unlink(missing_ok=True)
        former = [k for k, r in self.rows.items() if scan.id and r["id"] == scan.id and k != key]
        if former:
            self._rewrite({k: r for k, r in self.rows.items() if k not in former})
            self._notify(f"{scan.id}: the id of another scan before, whose row is replaced")
        self._add(key, {**self._names(scan, key), **row})

    def _names(self, scan: BatchScan, key: str) -> dict[str, str]:
        name = "" if self._anonymous else scan.name
        return {"key": key, "id": scan.id or scan.part, "scan": name}

    def forget_failed(self) -> int:
        """Drop the rows of failed scans, so that they are retried; return their number."""
        kept = {key: row for key, row in self.rows.items() if row["status"] != "failed"}
        dropped = len(self.rows) - len(kept)
        if dropped:
            try:
                self._rewrite(kept)
            except OSError as error:
                raise cannot_be_written(self.folder, error) from None
        return dropped

    def _rewrite(self, rows: dict[str, dict[str, str]]) -> None:
        """Rewrite all rows atomically."""
        lines = [self.columns, *([row.get(c, "") for c in self.columns] for row in rows.values())]
        write_atomically(self.folder / ROWS, "".join(_line(line) for line in lines))
        self._file.close()
        self._file = self._stack.enter_context((self.folder / ROWS).open("ab"))
        self.rows = rows

    def _add(self, key: str, row: Mapping[str, Any]) -> None:
        text = {name: _text(row.get(name)) for name in self.columns}
        self._write(text)
        self.rows[key] = text

    def _write(self, row: Mapping[str, str]) -> None:
        self._file.write(_line([row[name] for name in self.columns]).encode())
        self._file.flush()
        os.fsync(self._file.fileno())

    def _recover(self) -> dict[str, dict[str, str]]:
        """Read the existing rows; truncate an incomplete last one."""
        path = self.folder / ROWS
        data = path.read_bytes() if path.exists() else b""
        if not data.strip():
            return {}
        whole = data[: data.rfind(b"\n") + 1]
        ours = self._is_ours(whole)
        if ours and len(whole) < len(data):
            with path.open("r+b") as file:
                file.truncate(len(whole))
        table = read_table(whole if ours else data, ROWS, "key")
        self._check_columns(table)
        rows = {row.cells["key"]: row.cells for row in table.rows}
        return rows if ours else self._restore(table)

    def _is_ours(self, whole: bytes) -> bool:
        """Whether the rows have the format of this class, not that of a spreadsheet or editor.

        Additional columns of the user follow ours.
        """
        start = _line(self.columns).encode().rstrip()
        head = whole[: whole.find(b"\n")]
        return b"\r" not in whole and (head == start or head.startswith(start + b","))

    def _check_columns(self, table: Table) -> None:
        """Raise where the rows are of another model; adopt additional columns of the user."""
        weights = {row.cells.get("weights_digest") for row in table.rows} - {"", None}
        lost = [
            name
            for name in self.columns
            if name not in table.columns and name not in DENSITY_COLUMNS
        ]
        if lost or weights - {self._weights}:
            what = f"; {ROWS} lacks the column {lost[0]}" if lost else ""
            raise BadSettingsError(
                f"{self.folder.name}: the rows there are of another model or version{what}; "
                "choose another folder, so that scores of two models do not mix"
            )
        self.columns += [name for name in table.columns if name not in self.columns]

    def _restore(self, table: Table) -> dict[str, dict[str, str]]:
        """Rewrite rows of another program or an earlier version, from the JSON files; report it.

        Spreadsheets convert numbers to dates and round them, so the JSON file of a scan takes
        precedence.
        """
        older = not {*DENSITY_COLUMNS} <= {*table.columns}
        rows, damaged = {}, 0
        for row in table.rows:
            key = row.cells["key"]
            if not _KEY.fullmatch(key) or row.cells["status"] not in get_args(Status):
                damaged += 1
                continue
            rows[key] = {**row.cells, **self._stored(row.cells)}
        self._rewrite(rows)
        self._notify(
            f"{ROWS} was saved by {'an earlier version' if older else 'another program'} "
            f"({table.encoding}, separator {table.separator!r}): {len(rows)} rows are read and "
            "written anew from their JSON files"
            + (f", {damaged} whose key or status was changed are left out" if damaged else "")
        )
        return rows

    def _stored(self, row: Mapping[str, str]) -> dict[str, str]:
        """Cells of a row from its JSON file; empty where there is no such file."""
        folder = "scans" if row["status"] == "scored" else "failed"
        for stem in (row["id"], row["key"]):
            path = self.folder / folder / f"{stem}.json"
            try:
                stored = json.loads(path.read_text(encoding="utf-8"))
                if stored["key"] != row["key"]:
                    continue
                facts = result_row(stored) if folder == "scans" else stored
                return {name: _text(facts[name]) for name in self.columns if name in facts}
            except (OSError, ValueError, KeyError):
                continue
        return {}


def columns(contract: Contract) -> list[str]:
    """Columns of `results.csv`, for the classes of a contract."""
    classes = [c.name for c in contract.classes if c.lung]
    return [
        "key", "id", "scan", "status", "error", "message",
        "dl_ild_percent", "lung_volume_ml", "lesion_volume_ml",
        *(f"{name}_percent" for name in classes),
        *(f"{name}_ml" for name in classes),
        *(f"{zone}_{what}_ml" for zone in ZONES for what in ("lung", "lesion")),
        *DENSITY_COLUMNS,
        "flags", "model", "model_version", "weights_digest", "profile", "engine", "precision",
        "slices", "slice_thickness_mm", "slice_step_mm", "manufacturer", "kernel",
        "series_digest", "seconds",
    ]  # fmt: skip


def result_row(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Values of a row from the contents of the JSON file of a result."""
    model, series = facts["model"], facts["series"]
    row = {
        "status": "scored",
        **{name: facts[name] for name in ("dl_ild_percent", "lung_volume_ml", "lesion_volume_ml")},
        "flags": " ".join(facts["flags"]),
        "model": model["name"],
        "model_version": model["version"],
        **{name: model[name] for name in ("weights_digest", "profile", "engine", "precision")},
        **{name: series[name] for name in ("slices", "slice_thickness_mm", "slice_step_mm")},
        "manufacturer": series["manufacturer"],
        "kernel": series["kernel"],
        "series_digest": series["digest"],
        "seconds": facts["timings_s"]["total"],
    }
    for name, part in facts["classes"].items():
        row |= {f"{name}_percent": part["percent_of_lung"], f"{name}_ml": part["volume_ml"]}
    row |= _density_row((facts.get("densitometry") or {}).get("lung"))
    for zone, part in facts["zones"].items():
        row |= {f"{zone}_lung_ml": part["lung_ml"], f"{zone}_lesion_ml": part["lesion_ml"]}
    return row


def _density_row(lung: Mapping[str, Any] | None) -> dict[str, Any]:
    if lung is None:
        return {}
    percentiles = lung["percentiles_hu"]
    values = {**lung, **{f"percentile_{q}_hu": percentiles.get(str(q)) for q in PERCENTILES}}
    return {name: values.get(name.removeprefix("density_")) for name in DENSITY_COLUMNS}


def error_facts(error: DlildError) -> dict[str, Any]:
    """Status, kind and message of an error."""
    status: Status = "rejected" if isinstance(error, InputError) else "failed"
    return {"status": status, "error": error.kind, "message": str(error)}


def _text(value: Any) -> str:
    """Format a cell without line breaks, and without a leading formula character."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, int):
        return str(value)
    text = " ".join(printable(str(value)).split())
    return f"'{text}" if text[:1] in {"=", "+", "-", "@"} else text


def _line(cells: list[str]) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerow(cells)
    return out.getvalue()


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Lock a folder; the system releases the lock however the process ends."""
    with path.open("a") as file:
        try:
            import fcntl  # noqa: PLC0415  (not on Windows, where there is no lock)
        except ImportError:
            yield
            return
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BadSettingsError(
                f"{path.parent.name}: another run is writing there; wait, or choose another folder"
            ) from None
        yield
