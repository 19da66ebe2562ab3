"""Whose scans belong together: no group is divided between training and validation."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pydicom

from dlild_export.data.faults import Fault, Kind

if TYPE_CHECKING:
    from dlild_export.data.layout import Dataset


def with_groups(dataset: Dataset) -> Dataset:
    """Give every case the group that `groups.csv` (columns `case,group`) names.

    Parameters
    ----------
    dataset : Dataset
        Stays as it is where there is no such file.

    Returns
    -------
    Dataset
        With a fault for each case that the file forgets.
    """
    path = dataset.folder / "groups.csv"
    if not path.is_file():
        return dataset
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
        groups = {row["case"].strip(): row["group"].strip() for row in rows}
    except (KeyError, AttributeError, ValueError, csv.Error):
        fault = Fault(Kind.DATASET, path.name, "not a table with the columns case,group")
        return replace(dataset, faults=(*dataset.faults, fault))
    faults = [
        Fault(Kind.DATASET, path.name, f"no group for the case {case.name}", case.name)
        for case in dataset.cases
        if not groups.get(case.name)
    ]
    cases = tuple(replace(c, group=groups.get(c.name) or c.name) for c in dataset.cases)
    return replace(dataset, cases=cases, faults=(*dataset.faults, *faults))


def patient_of(folder: Path) -> str:
    """Return the identifier of the patient of a DICOM folder, empty where it has none.

    It serves to group by and must never be shown.
    """
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        try:
            header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=["PatientID"])
        except (pydicom.errors.InvalidDicomError, OSError, ValueError):
            continue
        return str(header.get("PatientID") or "").strip()
    return ""


def straddling(dataset: Dataset) -> list[Fault]:
    """Find groups that `splits_final.json` (nnU-Net) divides between training and validation."""
    path = dataset.folder / "splits_final.json"
    if not path.is_file():
        return []
    groups = {case.name: case.group for case in dataset.cases}
    try:
        folds = [
            ({groups.get(n, n) for n in fold["train"]}, {groups.get(n, n) for n in fold["val"]})
            for fold in json.loads(path.read_text(encoding="utf-8"))
        ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        return [Fault(Kind.DATASET, path.name, f"not a list of train and val: {error}")]
    return [
        Fault(
            Kind.STRADDLING,
            path.name,
            f"fold {number}: the group {group} is in training and in validation",
        )
        for number, (train, val) in enumerate(folds)
        for group in sorted(train & val)
    ]
