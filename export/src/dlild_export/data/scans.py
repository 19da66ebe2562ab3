"""One labelled scan: image and labels of a case, read, compared, and free of faults or refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import SimpleITK

from dlild_client.contract import Contract
from dlild_client.errors import InputError, NotHUError, UnreadableFileError
from dlild_client.reading.images.nifti import survey
from dlild_client.reading.images.read import is_image_name
from dlild_client.reading.read import read_volume
from dlild_client.volume import Volume
from dlild_export.data.faults import DatasetError, Fault, Kind, refuse
from dlild_export.data.labels import LabelMap, map_labels, read_label_map
from dlild_export.data.layout import DICOM, Dataset, DatasetCase
from dlild_export.data.segments import find_segmentations, read_segmentations

_SAME_MM = 0.1
"""Voxels of image and labels may lie this far apart: headers are written with few digits."""
_LONGEST_MM = 500.0


@dataclass(frozen=True)
class LabelRule:
    """How labels become classes: the contract, the names in `dataset.json`, and what `--map` says.

    Attributes
    ----------
    contract : Contract
    label_map : LabelMap or None
        None for DICOM, whose segments carry their names.
    overrides : mapping of str to str
        Their name to ours.
    """

    contract: Contract
    label_map: LabelMap | None
    overrides: Mapping[str, str]


@dataclass(frozen=True)
class LabelledScan:
    """A scan with its labels on the same voxels.

    Attributes
    ----------
    volume : Volume
        HU, as the client reads them.
    labels : ndarray of uint8, shape (z, y, x)
        Classes of the contract, and `IGNORE`.
    """

    volume: Volume
    labels: npt.NDArray[np.uint8]


def label_rule(
    dataset: Dataset, contract: Contract, overrides: Mapping[str, str] | None = None
) -> LabelRule:
    """Make the rule of a dataset: the names known, its `label_map.csv`, and `overrides` over both.

    Raises
    ------
    DatasetError
        With every label name that is unknown.
    """
    overrides = read_label_map(dataset.folder) | dict(overrides or {})
    if dataset.layout == DICOM:
        return LabelRule(contract, None, overrides)
    return LabelRule(contract, map_labels(dataset.names, contract, overrides), overrides)


def read_scan(dataset: Dataset, case: DatasetCase, rule: LabelRule) -> LabelledScan:
    """Read image and labels of a case.

    Parameters
    ----------
    dataset : Dataset
    case : DatasetCase
        One of its cases.
    rule : LabelRule

    Returns
    -------
    LabelledScan

    Raises
    ------
    DatasetError
        With every fault of either file that keeps it from being read.
    """
    faults: list[Fault] = []
    volume: Volume | None = None
    labels: npt.NDArray[Any] | None = None
    try:
        volume = _read_image(dataset, case)
    except DatasetError as error:
        faults += error.faults
    try:
        if case.label is not None:
            labels = _read_label_file(dataset, case, rule, volume)
        elif volume is not None:
            labels = _read_dicom_labels(dataset, case, rule, volume)
    except DatasetError as error:
        faults += error.faults
    if faults:
        raise DatasetError(faults)
    assert volume is not None
    assert labels is not None
    return LabelledScan(volume, labels)


def _read_image(dataset: Dataset, case: DatasetCase) -> Volume:
    where = dataset.relative(case.image)
    try:
        if is_image_name(case.image):
            found = survey(case.image)
            if found.not_finite:
                reason = (
                    f"{found.not_finite} voxels are NaN or infinite; write HU, and -1024 where "
                    "there is no scan"
                )
                raise refuse(Kind.NOT_FINITE, where, reason, case.name)
        return read_volume(case.image)
    except DatasetError:
        raise
    except UnreadableFileError as error:
        raise refuse(Kind.UNREADABLE, where, _bare(error, case.image), case.name) from None
    except NotHUError as error:
        raise refuse(Kind.NOT_HU, where, _bare(error, case.image), case.name) from None
    except InputError as error:
        raise refuse(Kind.NOT_A_CHEST, where, _bare(error, case.image), case.name) from None


def _bare(error: InputError, path: Path) -> str:
    return str(error).removeprefix(f"{path.name}: ")


# ---- NIfTI labels -------------------------------------------------------------------------------


def _read_label_file(
    dataset: Dataset, case: DatasetCase, rule: LabelRule, volume: Volume | None
) -> npt.NDArray[np.uint8]:
    """Labels as classes of the contract; compared with the image where that could be read."""
    assert case.label is not None
    assert rule.label_map is not None
    where = dataset.relative(case.label)
    image = _open_label_image(case.label, where, case.name)
    faults = [] if volume is None else _geometry_faults(image, volume, where, case.name)
    values = SimpleITK.GetArrayFromImage(image)
    try:
        whole = _whole_numbers(values, where, case.name)
        present = sorted(set().union(*(np.unique(plane).tolist() for plane in whole)))
    except DatasetError as error:
        raise DatasetError([*faults, *error.faults]) from None
    unknown = rule.label_map.unknown(present)
    if unknown:
        known = ", ".join(f"{v} ({n})" for n, v in dataset.names.items())
        reason = f"value {', '.join(map(str, unknown[:8]))}, but dataset.json has {known}"
        faults.append(Fault(Kind.UNKNOWN_LABEL, where, reason, case.name))
    if faults:
        raise DatasetError(faults)
    return rule.label_map.apply(whole)


def _open_label_image(path: Path, where: str, case: str) -> Any:
    try:
        if survey(path).not_finite:
            raise refuse(Kind.NOT_FINITE, where, "NaN or infinite labels", case)
        image: Any = SimpleITK.ReadImage(str(path))
    except UnreadableFileError as error:
        raise refuse(Kind.UNREADABLE, where, _bare(error, path), case) from None
    except RuntimeError as error:
        lines = str(error).strip().splitlines()
        raise refuse(Kind.UNREADABLE, where, f"not readable: {lines[-1][:120]}", case) from None
    if image.GetDimension() != 3 or image.GetNumberOfComponentsPerPixel() != 1:
        reason = f"{image.GetDimension()} dimensions; labels are one 3D image"
        raise refuse(Kind.NOT_A_LABEL, where, reason, case)
    return image


def _geometry_faults(image: Any, volume: Volume, where: str, case: str) -> list[Fault]:
    """Compare the positions of voxels, whatever the headers call them."""
    shape = tuple(image.GetSize()[::-1])
    if shape != volume.shape:
        reason = f"shape {shape} (z, y, x), but the image has {volume.shape}"
        return [Fault(Kind.GEOMETRY, where, reason, case)]
    spacing = np.array(image.GetSpacing()[::-1])
    direction = np.asarray(image.GetDirection()).reshape(3, 3)[:, ::-1]
    faults = []
    for name, theirs, ours, tolerance in (
        ("spacing", spacing, np.asarray(volume.spacing_mm), _SAME_MM / max(shape)),
        ("origin", np.asarray(image.GetOrigin()), np.asarray(volume.origin_mm), _SAME_MM),
        ("direction", direction, np.asarray(volume.direction), _SAME_MM / _LONGEST_MM),
    ):
        if np.abs(theirs - ours).max() > tolerance:
            reason = f"{name} {_numbers(theirs)}, but the image has {_numbers(ours)}"
            faults.append(Fault(Kind.GEOMETRY, where, reason, case))
    return faults


def _numbers(values: npt.NDArray[np.float64]) -> str:
    return "(" + ", ".join(f"{v:.5g}" for v in values.ravel()) + ")"


def _whole_numbers(values: npt.NDArray[Any], where: str, case: str) -> npt.NDArray[Any]:
    if np.issubdtype(values.dtype, np.integer):
        return values
    odd = values != np.rint(values)
    if odd.any():
        reason = f"{int(odd.sum())} values are no whole numbers, such as {values[odd][0]:g}"
        raise refuse(Kind.NOT_A_LABEL, where, reason, case)
    low, high = float(values.min()), float(values.max())
    if low < -32768 or high > 65535:
        raise refuse(Kind.NOT_A_LABEL, where, f"values from {low:g} to {high:g}", case)
    return values.astype(np.int32)


# ---- DICOM SEG ----------------------------------------------------------------------------------


def _read_dicom_labels(
    dataset: Dataset, case: DatasetCase, rule: LabelRule, volume: Volume
) -> npt.NDArray[np.uint8]:
    files = find_segmentations(case.image)
    if not files:
        where = dataset.relative(case.image)
        raise refuse(Kind.PAIR, where, "a CT series without a DICOM SEG", case.name)
    try:
        return read_segmentations(files, volume, rule.contract, rule.overrides)
    except DatasetError as error:
        where = dataset.relative(case.image)
        raise DatasetError(
            Fault(f.kind, f"{where}/{f.where}", f.reason, case.name) for f in error.faults
        ) from None
