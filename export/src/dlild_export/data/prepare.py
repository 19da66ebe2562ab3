"""A dataset onto the model grid, once: what the training reads.

HU come from the client's own reader and resampler, so that a network is trained on the very voxels
that it will be sent. Labels go through the same resampler, class by class, and the class with the
largest share of a voxel wins.

A prepared case is one `CASE.npz`: `hu` int16 and `labels` uint8, both (z, y, x) on the contract's
grid, and `info`, a JSON text with `name`, `group`, `spacing_mm`, `source` (layout), `thickness_mm`,
`dl_ild_percent`, `digest`, `fingerprint`, and whatever `cases.json` says of the case: for phantoms
all that they were made from, such as `pattern` and `severity`.
"""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dlild_client.contract import Contract
from dlild_client.preparation.grid import to_grid
from dlild_client.volume import Volume
from dlild_export.data.check import check_case, duplicates
from dlild_export.data.contracts import find_contract
from dlild_export.data.faults import DatasetError, Fault, Kind, refuse
from dlild_export.data.layout import Dataset, DatasetCase, read_dataset, straddling
from dlild_export.data.scans import LabelRule, label_rule

_VERSION = 1
"""Changes when the same files would be prepared differently."""

_OWN_KEYS = {"name", "digest", "group", "spacing_mm", "source", "dl_ild_percent", "fingerprint"}
"""Of `info`: what `cases.json` says of the same name does not count."""

_WEIGHT = 2000
"""A class is resampled as 0 and this: large, so that rounding decides nothing, and a valid HU."""


def prepare(
    dataset: Path,
    out: Path,
    *,
    contract: Contract | None = None,
    overrides: Mapping[str, str] | None = None,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> list[Path]:
    """Prepare every case of a dataset that is not prepared yet, or has changed since.

    Parameters
    ----------
    dataset : Path
        In one of the layouts of `dlild_export.data.layout`.
    out : Path
        Folder for the `CASE.npz`; made if need be. What it holds of cases that the dataset has no
        longer is removed.
    contract : Contract, optional
        Grid and classes; the checkout's when left out.
    overrides : mapping of str to str, optional
        Their label names to ours, where they are not known.
    workers : int
        Processes.
    progress : callable, optional
        Called with the cases done, and all of them.

    Returns
    -------
    list of Path
        One file a case, in the order of their names. Killed and called again, it goes on.

    Raises
    ------
    DatasetError
        With every fault of the dataset; cases without a fault have been prepared nevertheless.
    """
    contract = contract or find_contract()
    found = read_dataset(dataset)
    rule = label_rule(found, contract, overrides)
    out.mkdir(parents=True, exist_ok=True)
    extras = read_extras(found)
    jobs = [
        _Job(found, case, rule, out / f"{case.name}.npz", extras.get(case.name, {}))
        for case in found.cases
    ]
    faults = [*found.faults, *straddling(found)]
    reports = []
    for done, (report, own) in enumerate(_run_all(jobs, workers), start=1):
        faults += own
        reports.append(report)
        if progress:
            progress(done, len(jobs))
    _remove_others(out, {job.target for job in jobs})
    faults += _duplicate_faults(found, reports)
    if faults:
        raise DatasetError(sorted(faults, key=lambda f: (f.case or "", f.where)))
    return [job.target for job in jobs]


def _remove_others(out: Path, kept: set[Path]) -> None:
    """Remove cases that were prepared from this dataset before and are no more in it."""
    for path in set(out.glob("*.npz")) - kept:
        try:
            ours = "fingerprint" in read_info(path)
        except (OSError, ValueError, KeyError, zipfile.BadZipFile):
            ours = False
        if ours:
            path.unlink()


def prepared_files(folder: Path) -> list[Path]:
    """Return the prepared cases in a folder, in the order of their names; none is an error."""
    files = sorted(p for p in folder.glob("*.npz") if not p.name.startswith((".", "unfinished")))
    if not files:
        raise FileNotFoundError(
            f"no cases (*.npz) in {folder}: make some with `dlild-export phantom --format cache`, "
            "or give the folder of a dataset with its dataset.json"
        )
    return files


def read_info(path: Path) -> dict[str, Any]:
    """Read what a prepared case says of itself, without its voxels."""
    with np.load(path) as stored:
        info: dict[str, Any] = json.loads(str(stored["info"]))
    return info


# ---- one case -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Job:
    dataset: Dataset
    case: DatasetCase
    rule: LabelRule
    target: Path
    extra: Mapping[str, Any]


_Outcome = tuple[dict[str, Any], list[Fault]]


def _run_all(jobs: list[_Job], workers: int) -> Iterator[_Outcome]:
    if workers == 1 or len(jobs) < 2:
        yield from map(_run, jobs)
        return
    with ProcessPoolExecutor(min(workers, len(jobs))) as pool:
        for future in as_completed([pool.submit(_run, job) for job in jobs]):
            yield future.result()


def _run(job: _Job) -> _Outcome:
    """Prepare a case, unless that has been done; its info and its faults."""
    fingerprint = _fingerprint(job)
    try:
        info = read_info(job.target)
        if info.get("fingerprint") == fingerprint:
            return info, []
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):
        pass  # not there, or not whole
    report, scan = check_case(job.dataset, job.case, job.rule)
    info = {"name": job.case.name, "digest": report.digest}
    if report.faults or scan is None:
        job.target.unlink(missing_ok=True)  # what it was before must not be trained on
        return info, list(report.faults)
    grid = to_grid(scan.volume, job.rule.contract)
    labels = labels_to_grid(scan.volume, scan.labels, job.rule.contract)
    info |= {
        "group": job.case.group,
        "spacing_mm": list(grid.spacing_mm),
        "source": job.dataset.layout,
        "dl_ild_percent": report.dl_ild_percent,
        "thickness_mm": _thickness_mm(scan.volume),
        "fingerprint": fingerprint,
    }
    info |= {key: value for key, value in job.extra.items() if key not in _OWN_KEYS}
    write_case(job.target, grid.array, labels, info)
    return info, []


def _thickness_mm(volume: Volume) -> float | None:
    return volume.series.slice_thickness_mm or volume.series.slice_step_mm


def labels_to_grid(
    volume: Volume, labels: npt.NDArray[np.uint8], contract: Contract
) -> npt.NDArray[np.uint8]:
    """Resample labels to the grid that `to_grid` puts their scan on.

    Parameters
    ----------
    volume : Volume
        The scan that the labels belong to.
    labels : ndarray of uint8, shape of `volume`
    contract : Contract
        Grid.

    Returns
    -------
    ndarray of uint8, shape of the grid (z, y, x)
        The class with the largest share of each voxel; of equal ones the lower.
    """
    present = [int(v) for v in np.unique(labels)]
    best: npt.NDArray[np.int16] | None = None
    chosen = np.zeros((0,), np.uint8)
    for label in present:
        indicator = volume.with_array((labels == label).astype(np.int16) * np.int16(_WEIGHT))
        share = to_grid(indicator, contract).array
        if best is None:
            best = share
            # Off the scan, where a tilted one leaves corners of the grid, there is no label.
            chosen = np.where(share >= 0, label, 0).astype(np.uint8)
        else:
            better = share > best
            chosen[better] = label
            best = np.maximum(best, share)
    return chosen


def write_case(
    path: Path,
    hu: npt.NDArray[np.int16],
    labels: npt.NDArray[np.uint8],
    info: Mapping[str, Any],
) -> None:
    """Write a prepared case, whole or not at all."""
    part = path.with_name(f".{path.stem}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            np.savez(file, hu=hu, labels=labels, info=np.array(json.dumps(info)))
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


# ---- what has changed ---------------------------------------------------------------------------


def _fingerprint(job: _Job) -> str:
    """Digest of all that a prepared case hangs on: files by size and time, labels, grid."""
    files = [job.case.image] if job.case.label is None else [job.case.image, job.case.label]
    stats = [
        (path.name, path.stat().st_size, path.stat().st_mtime_ns)
        for file in files
        for path in (sorted(file.rglob("*")) if file.is_dir() else [file])
        if path.is_file()
    ]
    contract = job.rule.contract
    labels = job.rule.label_map and sorted(job.rule.label_map.values.items())
    content = (
        _VERSION, stats, labels, sorted(job.rule.overrides.items()), job.case.group,
        contract.grid, contract.hu, [c.name for c in contract.classes], dict(job.extra),
    )  # fmt: skip
    return hashlib.sha256(repr(content).encode()).hexdigest()


def read_extras(dataset: Dataset) -> dict[str, dict[str, Any]]:
    """Return what `cases.json`, which phantoms come with, says of cases."""
    path = dataset.folder / "cases.json"
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return {name: dict(entry) for name, entry in content.items()}
    except (OSError, ValueError, AttributeError, TypeError) as error:
        reason = f"not a JSON object of one object a case: {error}"
        raise refuse(Kind.DATASET, path.name, reason) from None


def _duplicate_faults(dataset: Dataset, infos: list[dict[str, Any]]) -> list[Fault]:
    return duplicates(dataset, [(i["name"], i.get("digest")) for i in infos])
