"""`dataset.json` in the two dialects of the field, and where the files it speaks of lie."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from dlild_export.data.faults import Kind, refuse

NNUNET, DECATHLON = "nnunet", "decathlon"
CHANNEL = "_0000"
"""What nnU-Net adds to the name of an image: the number of its channel."""


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
