"""Labelled scans on disk: as a dataset of NIfTI files, as DICOM with DICOM SEG, or prepared.

==========  =================================================================================
`nnunet`    `dataset.json`, `imagesTr`, `labelsTr`
`dicom`     a folder a case: `ct` with its series, `seg.dcm` with its labels
`both`      the two above, in the folders `nnunet` and `dicom`
`cache`     `CASE.npz` as `dlild_export.data.prepare` writes them: the shortest way to a training
==========  =================================================================================

`cases.json` says what each case was made from, `groups.csv` whose scans belong together. What is on
disk is kept: a run that was stopped goes on, and a second one with other cases adds to it.
"""

from __future__ import annotations

import csv
import io
import json
import math
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dlild_client.contract import Contract
from dlild_client.contract.score import score_labels
from dlild_client.results.files import write_nifti
from dlild_export.data.faults import Kind, refuse
from dlild_export.data.layout import image_path, label_path, write_dataset_json, write_text
from dlild_export.data.prepare import write_case
from dlild_export.data.scans import LabelledScan
from dlild_export.phantom.dicom import Scanner, slice_labels, write_series

FORMATS = ("nnunet", "dicom", "both", "cache")
SEG_KINDS = ("labelmap", "binary")


@dataclass(frozen=True, kw_only=True)
class Writing:
    """In which form cases are written.

    Attributes
    ----------
    form : str
        One of `FORMATS`.
    pixel_mm, tilt_deg, padding_hu
        Of DICOM slices, as in `Scanner`.
    slice_mm : float or None
        Distance of DICOM slices; None: the thickness of each case.
    seg_kind : str
        One of `SEG_KINDS`.
    """

    form: str = "cache"
    pixel_mm: float = 0.75
    slice_mm: float | None = None
    tilt_deg: float = 0.0
    padding_hu: int | None = None
    seg_kind: str = "labelmap"

    def __post_init__(self) -> None:
        """Refuse a format that is none, and slices that no scanner makes."""
        if self.form not in FORMATS:
            raise ValueError(f"format is {self.form!r}, give {', '.join(FORMATS)}")
        if self.seg_kind not in SEG_KINDS:
            raise ValueError(f"kind of SEG is {self.seg_kind!r}, give {', '.join(SEG_KINDS)}")
        self.scanner(1.0)

    def scanner(self, thickness_mm: float) -> Scanner:
        """Return the slices of a case of this thickness."""
        return Scanner(
            pixel_mm=self.pixel_mm,
            slice_mm=thickness_mm if self.slice_mm is None else self.slice_mm,
            tilt_deg=self.tilt_deg,
            padding_hu=self.padding_hu,
        )

    def targets(self, folder: Path) -> dict[str, Path]:
        """Return the folder of each format that is written."""
        if self.form == "both":
            return {"nnunet": folder / "nnunet", "dicom": folder / "dicom"}
        return {self.form: folder}


@dataclass(frozen=True)
class CaseJob:
    """A case to make and write.

    Attributes
    ----------
    name, group : str
    about : mapping
        What it is made from, for `cases.json`; JSON values.
    thickness_mm : float
        Of its slices.
    make : callable
        Makes it, on the contract's grid; it may run in another process.
    """

    name: str
    group: str
    about: Mapping[str, Any]
    thickness_mm: float
    make: Callable[[], LabelledScan]


@dataclass(frozen=True)
class _Plan:
    writing: Writing
    contract: Contract
    targets: Mapping[str, Path]


def write_cases(
    folder: Path, jobs: list[CaseJob], writing: Writing, contract: Contract, *, workers: int
) -> Iterator[str]:
    """Make cases, those that are not there yet, and name each that is done.

    Parameters
    ----------
    folder : Path
        Where to; made if need be.
    jobs : list of CaseJob
    writing : Writing
    contract : Contract
        Names and codes of the classes.
    workers : int
        Processes.

    Yields
    ------
    str
        Name of a case that is on disk now.

    Raises
    ------
    DatasetError
        A case of this name, but made from something else, is there already.
    """
    plan = _Plan(writing, contract, writing.targets(folder))
    for form, target in plan.targets.items():
        target.mkdir(parents=True, exist_ok=True)
        _record(target, form, jobs, writing)
    if workers == 1:
        yield from (_make(job, plan) for job in jobs)
    else:
        with ProcessPoolExecutor(workers) as pool:
            for done in as_completed([pool.submit(_make, job, plan) for job in jobs]):
                yield done.result()
    if "nnunet" in plan.targets:
        _describe(plan.targets["nnunet"], contract)


def _make(job: CaseJob, plan: _Plan) -> str:
    missing = {f: p for f, p in plan.targets.items() if not _finished(f, p, job.name).exists()}
    if missing:
        scan = job.make()
        for form, target in missing.items():
            _WRITERS[form](scan, job, target, plan)
    return job.name


def _finished(form: str, target: Path, name: str) -> Path:
    """Return the file or folder that is put in place last."""
    if form == "nnunet":
        return image_path(target, name)
    return target / (name if form == "dicom" else f"{name}.npz")


def _write_nnunet(scan: LabelledScan, job: CaseJob, target: Path, _plan: _Plan) -> None:
    for array, path in (
        (scan.labels, label_path(target, job.name)),
        (scan.volume.array, image_path(target, job.name)),
    ):
        path.parent.mkdir(exist_ok=True)
        part = path.with_name(f".{os.getpid()}.{path.name}")
        try:
            write_nifti(scan.volume.with_array(array), part)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)


def _write_dicom(scan: LabelledScan, job: CaseJob, target: Path, plan: _Plan) -> None:
    from dlild_export.phantom.dicom_seg import write_segmentation  # noqa: PLC0415  (half a second)

    part = target / f".{job.name}.part"
    shutil.rmtree(part, ignore_errors=True)
    scanner = plan.writing.scanner(job.thickness_mm)
    slices = write_series(scan.volume, part / "ct", scanner, patient=job.group)
    labels = slice_labels(scan.labels, scan.volume.spacing_mm[0], scanner)[::-1]
    write_segmentation(slices, labels, part / "seg.dcm", plan.contract, kind=plan.writing.seg_kind)
    part.rename(target / job.name)


def _write_cache(scan: LabelledScan, job: CaseJob, target: Path, plan: _Plan) -> None:
    range_hu = plan.contract.hu
    hu = np.clip(scan.volume.array, range_hu.minimum, range_hu.maximum)
    percent = score_labels(scan.labels, plan.contract.classes)
    info = dict(job.about) | {
        "name": job.name,
        "group": job.group,
        "spacing_mm": list(scan.volume.spacing_mm),
        "source": "phantom",
        "dl_ild_percent": None if math.isnan(percent) else round(percent, 2),
    }
    write_case(target / f"{job.name}.npz", hu, scan.labels, info)


_WRITERS: Mapping[str, Callable[[LabelledScan, CaseJob, Path, _Plan], None]] = {
    "nnunet": _write_nnunet,
    "dicom": _write_dicom,
    "cache": _write_cache,
}


def _record(target: Path, form: str, jobs: list[CaseJob], writing: Writing) -> None:
    """Write down what is to be made, before it is: so that a stopped run is known from another."""
    path = target / "cases.json"
    known = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    for job in jobs:
        entry = dict(job.about) | {"group": job.group}
        if form == "dicom":
            scanner = asdict(writing.scanner(job.thickness_mm))
            entry |= {f"dicom_{key}": value for key, value in scanner.items()}
            entry["dicom_seg"] = writing.seg_kind
        wanted = json.loads(json.dumps(entry))
        there = known.get(job.name, wanted)
        if there != wanted and _finished(form, target, job.name).exists():
            odd = ", ".join(sorted(k for k in wanted if there.get(k) != wanted[k]))
            reason = f"is there already, made with another {odd}; choose another folder or seed"
            raise refuse(Kind.DUPLICATE, job.name, reason, job.name)
        known[job.name] = wanted
    write_text(path, json.dumps(dict(sorted(known.items())), indent=1) + "\n")
    table = io.StringIO()
    rows = csv.writer(table, lineterminator="\n")
    rows.writerow(["case", "group"])
    rows.writerows([name, known[name]["group"]] for name in sorted(known))
    write_text(target / "groups.csv", table.getvalue())


def _describe(target: Path, contract: Contract) -> None:
    names = {c.name: c.label for c in contract.classes}
    made = [p.name.removesuffix("_0000.nii.gz") for p in (target / "imagesTr").glob("[!.]*.nii.gz")]
    write_dataset_json(target, names, made)
