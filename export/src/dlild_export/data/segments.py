"""DICOM SEG onto the voxels of its CT: by positions, never by the order of frames.

Read are BINARY, FRACTIONAL (half counts as inside) and LABELMAP objects, of one or many segments,
in one file or several. A segment means the class that its coded property type means in the
contract, or else the class that its label names. Where a segment of the lung covers one of a
lesion, the lesion counts: the lung holds its lesions. Two lesion classes in one voxel are a fault.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.dataset import Dataset as DicomDataset
from pydicom.uid import UID, SegmentationStorage

from dlild_client.contract import Contract
from dlild_client.volume import Volume
from dlild_export.data.faults import Kind, refuse
from dlild_export.data.labels import IGNORE, known_names, map_by_hand, plain, unknown_name

_LABELMAP_STORAGE = UID("1.2.840.10008.5.1.4.1.1.66.7")  # Supplement 243: newer than pydicom 3.0
_SEG_CLASSES = {SegmentationStorage, _LABELMAP_STORAGE}
_OFF_VOXEL = 0.25
"""Frames whose pixels lie further than this share of a voxel from the CT's are on another grid."""

_LUNG_CODES = {
    ("SRT", "T-28000"),  # the lung, before SNOMED RT was retired
    ("SRT", "T-28100"),
    ("SRT", "T-28500"),
    ("SCT", "3341006"),  # right lung
    ("SCT", "44029006"),  # left lung
}


@dataclass(frozen=True)
class Segment:
    """One segment: its number in the file, and the class it means."""

    number: int
    label: int


def find_segmentations(folder: Path) -> list[Path]:
    """Return the DICOM SEG files at any depth of a folder, in the order of their paths."""
    found = []
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and p.name[0] != "."):
        try:
            header = pydicom.dcmread(
                path, stop_before_pixels=True, specific_tags=["SOPClassUID", "Modality"]
            )
        except (pydicom.errors.InvalidDicomError, OSError, ValueError):
            continue
        if header.get("SOPClassUID") in _SEG_CLASSES or header.get("Modality") == "SEG":
            found.append(path)
    return found


def read_segmentations(
    files: list[Path], volume: Volume, contract: Contract, overrides: Mapping[str, str]
) -> npt.NDArray[np.uint8]:
    """Put the segments of one or more DICOM SEG files onto the voxels of a CT.

    Parameters
    ----------
    files : list of Path
        DICOM SEG.
    volume : Volume
        The CT, as `read_volume` gives it.
    contract : Contract
        The classes.
    overrides : mapping of str to str
        Segment label to class, by hand.

    Returns
    -------
    ndarray of uint8, shape of `volume`
        Labels of the contract, and `IGNORE`.

    Raises
    ------
    DatasetError
        A file cannot be read, a segment means nothing, frames do not lie on the CT's voxels, or
        lesions of two classes overlap.
    """
    painted = np.zeros(volume.shape, np.uint8)
    canvas = _Canvas(volume, painted, {c.label: c.lesion for c in contract.classes})
    for path in files:
        dataset = _read(path)
        segments = _segments(dataset, path, contract, overrides)
        for indices, label in _frames(dataset, path, volume, segments):
            canvas.paint(indices, label, path)
    return painted


@dataclass(frozen=True)
class _Canvas:
    volume: Volume
    painted: npt.NDArray[np.uint8]
    is_lesion: Mapping[int, bool]

    def paint(self, indices: npt.NDArray[np.intp], label: int, path: Path) -> None:
        """Paint voxels (n, 3): lesions over lung, nothing over lesions."""
        if label == 0:
            return
        here = tuple(indices.T)
        before = self.painted[here]
        lesion_before = np.isin(before, [k for k, lesion in self.is_lesion.items() if lesion])
        if self.is_lesion.get(label, False):
            clash = lesion_before & (before != label)
            if clash.any():
                other = int(before[clash][0])
                reason = (
                    f"segments of the classes {other} and {label} share {int(clash.sum())} voxels "
                    "of one slice; a voxel has one class"
                )
                raise refuse(Kind.OVERLAP, path.name, reason)
            self.painted[here] = label
        else:
            # Lung gives way to what is there; what is to be ignored stays so.
            keep = lesion_before | (before == IGNORE) if label != IGNORE else np.zeros(1, bool)
            self.painted[here] = np.where(keep, before, label)


def _read(path: Path) -> DicomDataset:
    try:
        dataset = pydicom.dcmread(path)
        if dataset.get("SegmentSequence") is None or "PixelData" not in dataset:
            raise ValueError("no segments or no pixels")
        return dataset
    except Exception as error:
        text = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise refuse(Kind.UNREADABLE, path.name, f"not a readable DICOM SEG: {text}") from None


def _segments(
    dataset: DicomDataset, path: Path, contract: Contract, overrides: Mapping[str, str]
) -> list[Segment]:
    segments = []
    for item in dataset.SegmentSequence:
        number, name = int(item.SegmentNumber), str(item.get("SegmentLabel", ""))
        label = map_by_hand(name, contract, overrides)
        if label is None:
            label = _class_of(item, name, path, contract)
        segments.append(Segment(number, label))
    return segments


def _class_of(item: DicomDataset, name: str, path: Path, contract: Contract) -> int:
    by_code = _class_of_code(item, contract)
    by_name = known_names(contract).get(plain(name))
    if by_code is None and by_name is None:
        raise refuse(Kind.UNKNOWN_LABEL, path.name, unknown_name(name, contract))
    if by_code is not None and by_name is not None and by_code != by_name:
        reason = (
            f"segment {item.SegmentNumber} is coded as class {by_code} but labelled {name!r}, "
            f'class {by_name}; say which with --map "{name}=…"'
        )
        raise refuse(Kind.UNKNOWN_LABEL, path.name, reason)
    chosen = by_code if by_code is not None else by_name
    assert chosen is not None
    return chosen


def _class_of_code(item: DicomDataset, contract: Contract) -> int | None:
    codes = {
        (str(code.get("CodingSchemeDesignator", "")), str(code.get("CodeValue", "")))
        for code in item.get("SegmentedPropertyTypeCodeSequence") or []
    }
    for kind in contract.classes:
        if kind.code is not None and (kind.code.scheme, kind.code.value) in codes:
            return kind.label
    lung = next(c.label for c in contract.classes if c.lung and not c.lesion)
    return lung if codes & _LUNG_CODES else None


# ---- frames -------------------------------------------------------------------------------------


def _frames(
    dataset: DicomDataset, path: Path, volume: Volume, segments: list[Segment]
) -> list[tuple[npt.NDArray[np.intp], int]]:
    """Voxels (n, 3) of each segment in each frame, with their class."""
    label_of = {s.number: s.label for s in segments}
    pixels = _pixels(dataset, path)
    painted: list[tuple[npt.NDArray[np.intp], int]] = []
    is_labelmap = str(dataset.get("SegmentationType", "")).upper() == "LABELMAP"
    fraction = float(dataset.get("MaximumFractionalValue", 1)) / 2
    for number, plane in enumerate(pixels):
        if not plane.any():
            continue
        groups = _groups(dataset, number, path)
        indices_of = _grid_indices(groups, volume, plane.shape, path, number)
        if is_labelmap:
            present = [int(v) for v in np.unique(plane) if v in label_of]
            unknown = set(np.unique(plane).tolist()) - set(label_of) - {0}
            if unknown:
                reason = f"frame {number + 1} holds {sorted(unknown)}, which are no segments of it"
                raise refuse(Kind.UNKNOWN_LABEL, path.name, reason)
            painted += [(indices_of(plane == v), label_of[v]) for v in present]
        else:
            segment = int(groups("SegmentIdentificationSequence").ReferencedSegmentNumber)
            if segment not in label_of:
                reason = f"frame {number + 1} belongs to segment {segment}, which is not described"
                raise refuse(Kind.UNKNOWN_LABEL, path.name, reason)
            inside = plane >= fraction if plane.dtype != np.bool_ else plane
            painted.append((indices_of(inside), label_of[segment]))
    return painted


def _pixels(dataset: DicomDataset, path: Path) -> npt.NDArray[Any]:
    try:
        pixels = np.asarray(dataset.pixel_array)
    except Exception as error:
        text = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise refuse(Kind.UNREADABLE, path.name, f"pixels cannot be decoded: {text}") from None
    return pixels[None] if pixels.ndim == 2 else pixels


def _groups(dataset: DicomDataset, number: int, path: Path) -> Callable[[str], DicomDataset]:
    """Functional groups of a frame, or else those that all frames share."""

    def find(name: str) -> DicomDataset:
        shared = dataset.get("SharedFunctionalGroupsSequence") or [DicomDataset()]
        frames = dataset.get("PerFrameFunctionalGroupsSequence") or []
        own = frames[number] if number < len(frames) else DicomDataset()
        for groups in (own, shared[0]):
            if groups.get(name):
                item: DicomDataset = groups[name].value[0]
                return item
        raise refuse(Kind.GEOMETRY, path.name, f"frame {number + 1} has no {name}")

    return find


def _grid_indices(
    groups: Callable[[str], DicomDataset],
    volume: Volume,
    shape: tuple[int, ...],
    path: Path,
    number: int,
) -> Callable[[npt.NDArray[np.bool_]], npt.NDArray[np.intp]]:
    """Return the function that turns a frame's mask into voxels (n, 3) of the volume."""
    corner = np.array(groups("PlanePositionSequence").ImagePositionPatient, float)
    cosines = np.array(groups("PlaneOrientationSequence").ImageOrientationPatient, float)
    row_mm, column_mm = (float(v) for v in groups("PixelMeasuresSequence").PixelSpacing)
    steps_mm = np.stack([cosines[3:] * row_mm, cosines[:3] * column_mm])  # of a row, of a column
    to_index = np.linalg.inv(np.asarray(volume.direction) * np.asarray(volume.spacing_mm))
    first = to_index @ (corner - np.asarray(volume.origin_mm))
    steps = steps_mm @ to_index.T
    first[0] = volume.slice_indices(first[0] * volume.spacing_mm[0])
    if volume.slice_positions_mm is not None and np.abs(steps[:, 0]).max() > _OFF_VOXEL / max(
        shape
    ):
        # A frame across slices in uneven steps has no one step from slice to slice.
        steps[:, 0] = np.nan
    whole_first, whole_steps = np.rint(first), np.rint(steps)
    ends = np.array([[0, 0], [shape[0] - 1, 0], [0, shape[1] - 1]])
    off = np.abs((first + ends @ steps) - (whole_first + ends @ whole_steps)).max()
    if not np.isfinite(off) or off > _OFF_VOXEL:
        where = ", ".join(f"{v:.1f}" for v in corner)
        reason = (
            f"frame {number + 1} at ({where}) mm with pixels of {row_mm:g} x {column_mm:g} mm lies "
            f"up to {off:.1f} voxels off those of the CT; give the SEG made on this series"
        )
        raise refuse(Kind.GEOMETRY, path.name, reason)

    def indices_of(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.intp]:
        found = whole_first + np.argwhere(mask) @ whole_steps
        indices: npt.NDArray[np.intp] = np.rint(found).astype(np.intp)
        if ((indices < 0) | (indices >= volume.shape)).any():
            reason = f"frame {number + 1} reaches beyond the CT; give the SEG made on this series"
            raise refuse(Kind.GEOMETRY, path.name, reason)
        return indices

    return indices_of
