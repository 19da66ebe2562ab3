"""The record of a batch: `results.csv`, a row a scan, and a JSON file for each.

A row is the record: it is written whole, after its JSON file, and is on the disk before the next.
Whatever kills a run, the next one finds what is done and does the rest; half a row at the end is
dropped, and a JSON file without a row gets its row.

::

    OUT/results.csv        one row a scan
    OUT/scans/NAME.json    the result of a scan that was scored
    OUT/failed/NAME.json   the error of one that was not

`NAME` is the id of the list, or the scan's key: no file name leads to a patient.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, cast

from dlild_client.batch.scans import BatchScan
from dlild_client.contract import Contract
from dlild_client.errors import BadSettings, DlildError, InputError
from dlild_client.outputs import cannot_be_written
from dlild_client.result import Result
from dlild_client.transport.wire import ZONES

Status = Literal["scored", "rejected", "failed"]

ROWS = "results.csv"
_LOCK = ".lock"


class Record:
    """Rows of a batch in a folder; one process at a time may hold it.

    Parameters
    ----------
    folder : Path
        Made if need be.
    contract : Contract
        Of the server: its classes are columns.

    Raises
    ------
    BadSettings
        Another run is at work there, or the rows there are of another model.
    DlildError
        The folder cannot be written.
    """

    def __init__(self, folder: Path, contract: Contract) -> None:
        self.folder = folder
        self.columns = columns(contract)
        self._weights = f"sha256:{contract.model.weights_sha256}"
        self._stack = contextlib.ExitStack()
        try:
            for name in ("scans", "failed"):
                (folder / name).mkdir(parents=True, exist_ok=True)
            self._stack.enter_context(_held(folder / _LOCK))
            self.rows = self._recover()
            self._file = self._stack.enter_context((folder / ROWS).open("ab"))
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
        """Let go of the folder."""
        self._stack.close()

    def is_done(self, key: str) -> bool:
        """Whether a scan has its row."""
        return key in self.rows

    def status(self, key: str) -> Status:
        """Return what became of a scan that has its row."""
        return cast(Status, self.rows[key]["status"])

    def adopt(self, scan: BatchScan, key: str) -> bool:
        """Write the row of a scan whose JSON file is there without one; tell whether it is."""
        path = self.folder / "scans" / f"{scan.id or key}.json"
        try:
            stored = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return False
        if stored.get("key") != key or stored["model"]["weights_digest"] != self._weights:
            return False
        self._add(key, {**_names(scan, key), **result_row(stored)})
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
            place = self.folder / "failed" / f"{stem}.json"
            row: Mapping[str, Any] = facts
        else:
            facts = outcome.to_dict()
            place = self.folder / "scans" / f"{stem}.json"
            row = result_row(facts)
        try:
            _write_whole(place, json.dumps({"key": key, **facts}, indent=2, allow_nan=False))
            self._add(key, {**_names(scan, key), **row})
        except OSError as error:
            raise cannot_be_written(self.folder, error) from None
        return self.status(key)

    def forget_failed(self) -> int:
        """Drop the rows of scans that failed, so that they are tried again; return how many."""
        kept = {key: row for key, row in self.rows.items() if row["status"] != "failed"}
        dropped = len(self.rows) - len(kept)
        if dropped:
            try:
                self._rewrite(kept)
            except OSError as error:
                raise cannot_be_written(self.folder, error) from None
        return dropped

    def _rewrite(self, rows: dict[str, dict[str, str]]) -> None:
        """Write all rows anew, in one step."""
        lines = [self.columns, *([row[c] for c in self.columns] for row in rows.values())]
        _write_whole(self.folder / ROWS, "".join(_line(line) for line in lines))
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
        """Read the rows that are there; cut off a last one that is not whole."""
        path = self.folder / ROWS
        if not path.exists():
            return {}
        data = path.read_bytes()
        whole = data[: data.rfind(b"\n") + 1]
        if len(whole) < len(data):
            with path.open("r+b") as file:
                file.truncate(len(whole))
        lines = list(csv.reader(io.StringIO(whole.decode("utf-8", "replace"))))
        if not lines:
            return {}
        rows = [dict(zip(lines[0], line, strict=False)) for line in lines[1:]]
        weights = {row.get("weights_digest") for row in rows if row.get("weights_digest")}
        if lines[0] != self.columns or weights - {self._weights}:
            raise BadSettings(
                f"{self.folder.name}: the rows there are of another model or version; "
                "choose another folder, so that scores of two models do not mix"
            )
        return {row["key"]: row for row in rows}


def columns(contract: Contract) -> list[str]:
    """Columns of `results.csv`, for the classes of a contract."""
    classes = [c.name for c in contract.classes if c.lung]
    return [
        "key", "id", "scan", "status", "error", "message",
        "dl_ild_percent", "lung_volume_ml", "lesion_volume_ml",
        *(f"{name}_percent" for name in classes),
        *(f"{name}_ml" for name in classes),
        *(f"{zone}_{what}_ml" for zone in ZONES for what in ("lung", "lesion")),
        "flags", "model", "model_version", "weights_digest", "profile", "engine", "precision",
        "slices", "slice_thickness_mm", "slice_step_mm", "manufacturer", "kernel",
        "series_digest", "seconds",
    ]  # fmt: skip


def result_row(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Values of a row, from the contents of a result's JSON file."""
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
    for zone, part in facts["zones"].items():
        row |= {f"{zone}_lung_ml": part["lung_ml"], f"{zone}_lesion_ml": part["lesion_ml"]}
    return row


def error_facts(error: DlildError) -> dict[str, Any]:
    """Keep of an error whether the scan was rejected or something failed on the way, and why."""
    status: Status = "rejected" if isinstance(error, InputError) else "failed"
    return {"status": status, "error": type(error).__name__, "message": str(error)}


def _names(scan: BatchScan, key: str) -> dict[str, str]:
    return {"key": key, "id": scan.id, "scan": scan.name}


def _text(value: Any) -> str:
    """One cell: no line breaks, and nothing that a spreadsheet would take for a formula."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.6g}"
    text = " ".join(str(value).split())
    return f"'{text}" if text[:1] in {"=", "+", "-", "@"} else text


def _line(cells: list[str]) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerow(cells)
    return out.getvalue()


def _write_whole(path: Path, text: str) -> None:
    """Write a file in one step, and have it on the disk before anything speaks of it."""
    handle, name = tempfile.mkstemp(prefix=".", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        mask = os.umask(0)
        os.umask(mask)
        Path(name).chmod(0o666 & ~mask)
        Path(name).replace(path)
    finally:
        Path(name).unlink(missing_ok=True)


@contextlib.contextmanager
def _held(path: Path) -> Iterator[None]:
    """Hold a folder: a lock that the system lets go of, however the process ends."""
    with path.open("a") as file:
        try:
            import fcntl  # noqa: PLC0415  (not on Windows, where nothing guards the folder)
        except ImportError:
            yield
            return
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BadSettings(
                f"{path.parent.name}: another run is writing there; wait, or choose another folder"
            ) from None
        yield
