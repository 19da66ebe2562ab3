"""The folders that datasets come in: nnU-Net, Medical Segmentation Decathlon, DICOM.

========== ==================================================================================
nnU-Net    `dataset.json` with `channel_names`, `labels: {name: value}`, `file_ending`;
           `imagesTr/CASE_0000.nii.gz`, `labelsTr/CASE.nii.gz`
Decathlon  `dataset.json` with `modality`, `labels: {"value": name}`,
           `training: [{"image": …, "label": …}]`
DICOM      no `dataset.json`: a folder a case, with a CT series and its DICOM SEG at any depth
========== ==================================================================================

Beside them may lie `groups.csv` (columns `case,group`), which says whose scans belong together: all
scans of a patient are one group, and no group is divided between training and validation.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pydicom

from dlild_client.reading.images.nifti import SUFFIXES
from dlild_export.data.faults import Fault, Kind, refuse

NNUNET, DECATHLON, DICOM = "nnunet", "decathlon", "dicom"
CHANNEL = "_0000"
"""What nnU-Net adds to the name of an image: the number of its channel."""


@dataclass(frozen=True)
class DatasetCase:
    """One scan and its labels.

    Attributes
    ----------
    name : str
        Unique within the dataset.
    image : Path
        NIfTI file, or folder with a DICOM series.
    label : Path or None
        NIfTI file; None where the DICOM SEG lies within the folder of the image.
    group : str
        The patient's scans share one.
    """

    name: str
    image: Path
    label: Path | None
    group: str


@dataclass(frozen=True)
class Dataset:
    """What a folder holds.

    Attributes
    ----------
    folder : Path
    layout : str
        `nnunet`, `decathlon` or `dicom`.
    names : mapping of str to int
        Label names and their values; empty for DICOM, whose segments carry their own.
    cases : tuple of DatasetCase
        Those with an image and labels, in the order of their names.
    faults : tuple of Fault
        What is wrong with the folder, apart from what its files hold.
    """

    folder: Path
    layout: str
    names: Mapping[str, int]
    cases: tuple[DatasetCase, ...]
    faults: tuple[Fault, ...]

    def relative(self, path: Path) -> str:
        """Return a path as faults name it: from the dataset's folder on."""
        return path.relative_to(self.folder).as_posix() if path != self.folder else path.name


def is_dataset(folder: Path) -> bool:
    """Return whether a folder is a dataset, not one of prepared cases (`*.npz`)."""
    if (folder / "dataset.json").is_file():
        return True
    return folder.is_dir() and not any(folder.glob("*.npz")) and any(_subfolders(folder))


def _subfolders(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))


def read_dataset(folder: Path) -> Dataset:
    """Find the cases of a dataset, without reading a voxel.

    Parameters
    ----------
    folder : Path
        In one of the layouts above.

    Returns
    -------
    Dataset

    Raises
    ------
    DatasetError
        There is no dataset, or its `dataset.json` cannot be understood.
    """
    if not folder.is_dir():
        raise refuse(Kind.DATASET, folder.name, "no such folder")
    if (folder / "dataset.json").is_file():
        described = read_json(folder / "dataset.json")
        dataset = (
            _read_decathlon(folder, described)
            if isinstance(described.get("training"), list)
            else _read_nnunet(folder, described)
        )
    else:
        dataset = _read_dicom(folder)
    if not dataset.cases and not dataset.faults:
        raise refuse(Kind.DATASET, folder.name, "neither a dataset.json nor a folder a case")
    return with_groups(dataset)


# ---- nnU-Net ------------------------------------------------------------------------------------


def _read_nnunet(folder: Path, described: Mapping[str, Any]) -> Dataset:
    faults: list[Fault] = []
    channels = described.get("channel_names", {"0": "CT"})
    if len(channels) != 1:
        reason = f"{len(channels)} channels ({channels}); a CT has one"
        raise refuse(Kind.DATASET, "dataset.json", reason)
    ending = str(described.get("file_ending", ".nii.gz"))
    if ending not in SUFFIXES:
        reason = f"file_ending is {ending!r}; convert the files to .nii.gz"
        raise refuse(Kind.DATASET, "dataset.json", reason)
    images = {p.name.removesuffix(CHANNEL + ending): p for p in _files(folder / "imagesTr", ending)}
    labels = {p.name.removesuffix(ending): p for p in _files(folder / "labelsTr", ending)}
    if isinstance(described.get("dataset"), dict):
        images, labels = _listed(folder, described["dataset"])
    cases, missing = _paired(folder, images, labels)
    count = described.get("numTraining")
    if count is not None and count != len(images):
        reason = f"numTraining is {count}, but imagesTr holds {len(images)} image(s)"
        faults.append(Fault(Kind.DATASET, "dataset.json", reason))
    names = values_by_name(described.get("labels"))
    return Dataset(folder, NNUNET, names, cases, (*faults, *missing))


def _listed(folder: Path, listed: Mapping[str, Any]) -> tuple[dict[str, Path], dict[str, Path]]:
    """Cases that `dataset.json` names file by file, as nnU-Net allows."""
    try:
        images = {name: folder / entry["images"][0] for name, entry in listed.items()}
        labels = {name: folder / entry["label"] for name, entry in listed.items()}
    except (KeyError, IndexError, TypeError):
        reason = 'an entry of `dataset` is not {"images": [file], "label": file}'
        raise refuse(Kind.DATASET, "dataset.json", reason) from None
    return images, labels


def _files(folder: Path, ending: str) -> list[Path]:
    if not folder.is_dir():
        return []
    found = (p for p in folder.iterdir() if p.is_file() and not p.name.startswith("."))
    return sorted(p for p in found if p.name.endswith(ending))


def _paired(
    folder: Path, images: Mapping[str, Path], labels: Mapping[str, Path]
) -> tuple[tuple[DatasetCase, ...], list[Fault]]:
    cases, faults = [], []
    for name in sorted(images.keys() | labels.keys()):
        image, label = images.get(name), labels.get(name)
        if image is not None and not image.is_file():
            reason = "named in dataset.json, but there is no such file"
            faults.append(Fault(Kind.PAIR, _inside(image, folder), reason, name))
        elif label is not None and not label.is_file():
            reason = "named in dataset.json, but there is no such file"
            faults.append(Fault(Kind.PAIR, _inside(label, folder), reason, name))
        elif image is None and label is not None:
            reason = f"labels without an image; expected imagesTr/{name}{CHANNEL}…"
            faults.append(Fault(Kind.PAIR, _inside(label, folder), reason, name))
        elif label is None and image is not None:
            reason = f"an image without labels; expected labelsTr/{name}…"
            faults.append(Fault(Kind.PAIR, _inside(image, folder), reason, name))
        elif image is not None:
            cases.append(DatasetCase(name, image, label, name))
    return tuple(cases), faults


def _inside(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else path.name


# ---- Medical Segmentation Decathlon -------------------------------------------------------------


def _read_decathlon(folder: Path, described: Mapping[str, Any]) -> Dataset:
    modality = described.get("modality", {"0": "CT"})
    if isinstance(modality, dict) and len(modality) != 1:
        raise refuse(Kind.DATASET, "dataset.json", f"{len(modality)} modalities; a CT is one")
    images: dict[str, Path] = {}
    labels: dict[str, Path] = {}
    faults: list[Fault] = []
    for entry in described["training"]:
        try:
            image, label = _with_channel(folder / entry["image"]), folder / entry["label"]
        except (KeyError, TypeError):
            reason = f'an entry of `training` is not {{"image": file, "label": file}}: {entry!r}'
            faults.append(Fault(Kind.DATASET, "dataset.json", reason))
            continue
        name = case_name(image).removesuffix(CHANNEL)
        if name in images:
            faults.append(Fault(Kind.DUPLICATE, "dataset.json", f"{name} is listed twice", name))
        images[name], labels[name] = image, label
    cases, missing = _paired(folder, images, labels)
    listed = {p.resolve() for p in (*images.values(), *labels.values())}
    for part in ("imagesTr", "labelsTr"):
        for path in (p for ending in SUFFIXES for p in _files(folder / part, ending)):
            if path.resolve() not in listed:
                reason = "not listed in dataset.json"
                missing.append(Fault(Kind.PAIR, _inside(path, folder), reason, case_name(path)))
    names = values_by_name(described.get("labels"))
    return Dataset(folder, DECATHLON, names, cases, (*faults, *missing))


def _with_channel(path: Path) -> Path:
    """Return the file that is there: the first nnU-Net lists images without their channel."""
    if path.is_file() or not path.name.endswith(SUFFIXES):
        return path
    name = case_name(path)
    numbered = path.with_name(name + CHANNEL + path.name.removeprefix(name))
    return numbered if numbered.is_file() else path


def case_name(path: Path) -> str:
    """Return a NIfTI file's name without its ending."""
    return path.name.removesuffix(".gz").removesuffix(".nii")


# ---- DICOM --------------------------------------------------------------------------------------


def _read_dicom(folder: Path) -> Dataset:
    """Take every folder in it for a case; folders of one patient are one group."""
    folders = _subfolders(folder)
    if any(p.name in {"imagesTr", "labelsTr"} for p in folders):
        reason = "imagesTr and labelsTr, but no dataset.json beside them to name the labels"
        raise refuse(Kind.DATASET, folder.name, reason)
    first_of: dict[str, str] = {}
    cases = []
    for subfolder in folders:
        patient = patient_of(subfolder)
        group = first_of.setdefault(patient, subfolder.name) if patient else subfolder.name
        cases.append(DatasetCase(subfolder.name, subfolder, None, group))
    return Dataset(folder, DICOM, {}, tuple(cases), ())


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


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object, or raise `DatasetError`."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise refuse(Kind.DATASET, path.name, f"not readable as JSON: {error}") from None
    if not isinstance(content, dict):
        raise refuse(Kind.DATASET, path.name, "not a JSON object")
    return content


def values_by_name(labels: object) -> dict[str, int]:
    """Label names and values, written in either dialect."""
    if not isinstance(labels, dict) or not labels:
        raise refuse(Kind.DATASET, "dataset.json", "it names no labels")
    names: dict[str, int] = {}
    for key, value in labels.items():
        if isinstance(value, list):
            reason = f"{key!r} is a region ({value}); give each label a value of its own"
            raise refuse(Kind.DATASET, "dataset.json", reason)
        by_value = isinstance(value, str) and not value.lstrip("-").isdigit()
        name, number = (value, key) if by_value else (key, value)
        try:
            names[str(name)] = int(number)
        except (TypeError, ValueError):
            reason = f"the label {key!r}: {value!r} has no whole number"
            raise refuse(Kind.DATASET, "dataset.json", reason) from None
    return names


def image_path(folder: Path, name: str, layout: str = NNUNET) -> Path:
    """Return where a layout keeps the image of a case."""
    return folder / "imagesTr" / f"{name}{CHANNEL if layout == NNUNET else ''}.nii.gz"


def label_path(folder: Path, name: str) -> Path:
    """Return where the labels of a case are kept."""
    return folder / "labelsTr" / f"{name}.nii.gz"


def write_dataset_json(
    folder: Path, names: Mapping[str, int], cases: Iterable[str], *, layout: str = NNUNET
) -> Path:
    """Write `dataset.json` in either dialect.

    Parameters
    ----------
    folder : Path
        The dataset.
    names : mapping of str to int
        Label names and values.
    cases : iterable of str
        Names of the cases; their files lie where `image_path` and `label_path` say.
    layout : str
        `nnunet` or `decathlon`.

    Returns
    -------
    Path
        The file.
    """
    listed = sorted(cases)
    content: dict[str, Any] = {"name": folder.name, "numTraining": len(listed)}
    if layout == NNUNET:
        content |= {
            "channel_names": {"0": "CT"},
            "labels": dict(names),
            "file_ending": ".nii.gz",
        }
    else:
        content |= {
            "tensorImageSize": "3D",
            "modality": {"0": "CT"},
            "labels": {str(value): name for name, value in names.items()},
            "training": [
                {
                    "image": f"./imagesTr/{name}.nii.gz",
                    "label": f"./labelsTr/{name}.nii.gz",
                }
                for name in listed
            ],
            "numTest": 0,
            "test": [],
        }
    path = folder / "dataset.json"
    write_text(path, json.dumps(content, indent=2) + "\n")
    return path


def write_text(path: Path, text: str) -> None:
    """Write a small file whole or not at all."""
    part = path.with_name(f".{path.name}.part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)
