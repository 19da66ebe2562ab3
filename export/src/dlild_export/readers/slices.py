"""Slices that were read, as label planes on the voxels of one frame: the CT, or the label map.

Everything is compared on the frame's own slices. Label maps on another grid are looked up at the
centres of the frame's voxels; outlines are filled by the even-odd rule, a pixel counts where its
centre lies inside.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pydicom

from dlild_client.contract import Contract
from dlild_client.errors import InputError, UnreadableFileError
from dlild_client.preparation.grid import load_sitk
from dlild_client.reading.images.read import is_image_name
from dlild_client.volume import Volume
from dlild_export.data.faults import DatasetError
from dlild_export.data.labels import IGNORE
from dlild_export.data.segments import find_segmentations, read_segmentations
from dlild_export.readers.outlines import (
    UNNAMED,
    Outline,
    Points,
    Reading,
    SliceName,
    read_outlines,
)

Plane = npt.NDArray[np.uint8]

_OFF_SLICE = 0.25
"""Share of the step between slices that a slice's `z_mm` may lie off the CT's own."""


@dataclass(frozen=True, eq=False)
class Frame:
    """The slices that everything is compared on.

    Attributes
    ----------
    volume : Volume
        The CT in HU; or the label map, where no CT was given.
    is_ct : bool
    uids : mapping of str to float
        SOP instance UID of a slice to its `z_mm`, for DICOM.
    """

    volume: Volume
    is_ct: bool
    uids: Mapping[str, float]

    def __post_init__(self) -> None:
        """Check that the array's slices are axial ones."""
        if abs(np.asarray(self.volume.direction)[2, 0]) < 0.9:
            raise InputError("its slices are not axial: readers' slices cannot be found in it")

    @property
    def z_mm(self) -> npt.NDArray[np.float64]:
        """Patient coordinate z of the first voxel of every slice: Image Position (Patient)."""
        indices = np.zeros((self.volume.shape[0], 3))
        indices[:, 0] = np.arange(len(indices))
        heights: npt.NDArray[np.float64] = self.volume.points_mm(indices)[:, 2]
        return heights

    def from_feet(self, index: int) -> int:
        """Count a slice from the lowest, which is 0."""
        heights = self.z_mm
        return int((heights < heights[index]).sum())

    def index(self, name: SliceName) -> int:
        """Find a slice.

        Raises
        ------
        InputError
            There is none here.
        """
        heights = self.z_mm
        if name.key == "slice":
            if int(name.value) >= len(heights):
                raise InputError(f"there is no slice {name.value:g}: {len(heights)} slices, from 0")
            return int(np.argsort(heights)[int(name.value)])
        if name.key == "sop_instance_uid":
            if str(name.value) not in self.uids:
                raise InputError("no slice of the CT has the sop_instance_uid that a reader names")
            wanted = self.uids[str(name.value)]
        else:
            wanted = float(name.value)
        nearest = int(np.argmin(np.abs(heights - wanted)))
        off = abs(float(heights[nearest]) - wanted)
        steps = np.abs(np.diff(heights[max(0, nearest - 1) : nearest + 2]))
        # A label map has slices of its own between those of the CT.
        allowed = float(steps.min(initial=np.inf)) * (_OFF_SLICE if self.is_ct else 0.5)
        if off > allowed + 0.01:
            raise InputError(
                f"no slice at z {wanted:g} mm: the nearest lies at {heights[nearest]:g} mm; give "
                "the third number of Image Position (Patient)"
            )
        return nearest

    def to_pixels(self, points_mm: Points, index: int) -> Points:
        """Turn patient coordinates (x, y) on a slice into pixels (column, row)."""
        volume = self.volume
        corners = np.asarray([[index, 0, 0], [index, 1, 0], [index, 0, 1]], float)
        first, row, column = volume.points_mm(corners)[:, :2]
        steps = np.stack([column - first, row - first], axis=1)
        pixels: Points = np.linalg.solve(steps, (points_mm - first).T).T
        return pixels

    def look_up(self, labels: Volume, index: int) -> Plane:
        """Return the labels of another volume at the voxels of a slice; 0 beyond its end."""
        _, rows, columns = self.volume.shape
        corners = np.asarray([[index, 0, 0], [index, 1, 0], [index, 0, 1]], float)
        first, row, column = self.volume.points_mm(corners)
        to_index = np.linalg.inv(np.asarray(labels.direction) * np.asarray(labels.spacing_mm))
        start = to_index @ (first - np.asarray(labels.origin_mm))
        down, along = to_index @ (row - first), to_index @ (column - first)
        positions = (
            start[:, None, None]
            + down[:, None, None] * np.arange(rows)[None, :, None]
            + along[:, None, None] * np.arange(columns)[None, None, :]
        )
        # A tie between two slices goes to the same one everywhere.
        whole = np.floor(positions + 0.5 - 1e-6).astype(np.intp)
        size = np.asarray(labels.shape)[:, None, None]
        inside = ((whole >= 0) & (whole < size)).all(axis=0)
        z, y, x = np.clip(whole, 0, size - 1)
        plane: Plane = np.where(inside, labels.array[z, y, x], 0).astype(np.uint8)
        return plane


@dataclass(frozen=True, eq=False)
class ReadSlice:
    """A slice as one reader labelled it.

    Attributes
    ----------
    labels : ndarray of uint8, shape (rows, columns)
        Labels of the contract, `UNNAMED` and `IGNORE`; 0 where nothing is outlined.
    has_lung : bool
        Whether the lung is outlined too: then lesions count within it only.
    """

    labels: Plane
    has_lung: bool


@dataclass(frozen=True, eq=False)
class Side:
    """What one side, a reader or the label map, says of one scan.

    Attributes
    ----------
    slices : dict of int to ReadSlice
        By the frame's index, those that were outlined.
    extents : dict of int to float
        Percent of the lung, in slices that were estimated.
    zones : dict of str to float
        The same for zones.
    """

    slices: dict[int, ReadSlice] = field(default_factory=dict)
    extents: dict[int, float] = field(default_factory=dict)
    zones: dict[str, float] = field(default_factory=dict)

    def add(self, other: Side, name: str, frame: Frame) -> None:
        """Add what another file of the same reader says.

        Raises
        ------
        InputError
            Both say something of the same slice or zone.
        """
        read = self.slices.keys() | self.extents.keys()
        if twice := read & (other.slices.keys() | other.extents.keys()):
            z_mm = frame.z_mm[min(twice)]
            raise InputError(f"{name}: the slice at z {z_mm:g} mm was read in another file too")
        if again := self.zones.keys() & other.zones.keys():
            raise InputError(f"{name}: zone {min(again)} was read in another file too")
        self.slices.update(other.slices)
        self.extents.update(other.extents)
        self.zones.update(other.zones)


def read_side(files: tuple[Path, ...], frame: Frame, contract: Contract) -> Side:
    """Read what a reader said of one scan.

    Parameters
    ----------
    files : tuple of pathlib.Path
        JSON, CSV, label images, DICOM SEG, or folders of DICOM SEG.
    frame : Frame
        Of the scan.
    contract : Contract

    Returns
    -------
    Side

    Raises
    ------
    InputError
        A file cannot be used, or two of them read the same slice.
    """
    side = Side()
    for path in files:
        try:
            side.add(_read(path, frame, contract), path.name, frame)
        except DatasetError as error:
            raise UnreadableFileError(str(error.faults[0])) from None
    return side


def _read(path: Path, frame: Frame, contract: Contract) -> Side:
    if path.suffix.lower() in {".json", ".csv"}:
        return _of_reading(read_outlines(path, contract), path, frame, contract)
    if path.is_file() and is_image_name(path):
        labels = read_labels(path, contract, also=(UNNAMED, IGNORE))
        planes = {k: frame.look_up(labels, k) for k in range(frame.volume.shape[0])}
    else:
        if not frame.is_ct:
            raise InputError(f"{path.name}: DICOM SEG lies on the CT's voxels: give its `scan`")
        files = find_segmentations(path) if path.is_dir() else [path]
        if not files:
            raise InputError(f"{path.name}: no DICOM SEG in this folder")
        painted = read_segmentations(files, frame.volume, contract, {})
        planes = dict(enumerate(painted))
    slices = {k: _read_plane(p, contract) for k, p in planes.items() if p.any()}
    if not slices:
        raise InputError(f"{path.name}: it labels nothing on the slices of this scan")
    return Side(slices)


def _of_reading(reading: Reading, path: Path, frame: Frame, contract: Contract) -> Side:
    if reading.outlined and not reading.in_mm and not frame.is_ct:
        raise InputError(f"{path.name}: coordinates in pixels are the CT's: give its `scan`")
    side = Side(zones=dict(reading.zones))
    for name in (*reading.outlined, *reading.extents):
        try:
            index = frame.index(name)
        except InputError as error:
            raise InputError(f"{path.name}: {error}") from None
        if index in side.slices or index in side.extents:
            raise InputError(f"{path.name}: {name} is a slice that was listed before")
        if name in reading.extents:
            side.extents[index] = reading.extents[name]
        else:
            where = f"{path.name}: {name}"
            drawn = reading.outlined[name]
            side.slices[index] = _paint(reading, drawn, index, frame, contract, where)
    return side


def _paint(
    reading: Reading,
    outlines: list[Outline],
    index: int,
    frame: Frame,
    contract: Contract,
    where: str,
) -> ReadSlice:
    """Fill the outlines of a slice: lung first, then lesions in their order, then `ignore`."""
    shape = frame.volume.shape[1:]
    healthy = set(contract.lung_labels) - set(contract.lesion_labels)
    plane: Plane = np.zeros(shape, np.uint8)
    lung = np.zeros(shape, np.bool_)
    for outline in sorted(outlines, key=lambda o: (o.label == IGNORE) - (o.label in healthy)):
        points = frame.to_pixels(outline.points, index) if reading.in_mm else outline.points
        _check_inside(points, shape, where)
        inside = fill(points, shape)
        plane[inside] = outline.label
        if outline.label in healthy:
            lung |= inside
    has_lung = bool(lung.any())
    if has_lung:
        plane[~lung & (plane != IGNORE)] = 0
    return ReadSlice(plane, has_lung)


def _check_inside(points: Points, shape: tuple[int, ...], where: str) -> None:
    """Outlines of another matrix, or mm taken for pixels, lie far outside the slice."""
    middle = points.mean(axis=0)
    if not ((middle > -1) & (middle < [shape[1], shape[0]])).all():
        raise InputError(
            f"{where}: an outline round ({middle[0]:.0f}, {middle[1]:.0f}) lies outside the slice "
            f"of {shape[1]} x {shape[0]} pixels; are its coordinates in pixels or in mm?"
        )


def _read_plane(plane: Plane, contract: Contract) -> ReadSlice:
    healthy = set(contract.lung_labels) - set(contract.lesion_labels)
    return ReadSlice(plane, bool(np.isin(plane, sorted(healthy)).any()))


def fill(points: Points, shape: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    """Fill a polygon by the even-odd rule.

    Parameters
    ----------
    points : ndarray of float, shape (corners, 2)
        (column, row); whole numbers are centres of pixels.
    shape : tuple of int
        (rows, columns).

    Returns
    -------
    ndarray of bool, shape `shape`
        True where the centre of a pixel lies inside.
    """
    mask = np.zeros((shape[0], shape[1]), np.bool_)
    ends = np.roll(points, -1, axis=0)
    low = max(0, int(np.ceil(points[:, 1].min())))
    high = min(shape[0] - 1, int(np.floor(points[:, 1].max())))
    for row in range(low, high + 1):
        # Half-open edges: a corner on the row counts for one of its two edges.
        crosses = (points[:, 1] <= row) != (ends[:, 1] <= row)
        a, b = points[crosses], ends[crosses]
        at = np.sort(a[:, 0] + (row - a[:, 1]) * (b[:, 0] - a[:, 0]) / (b[:, 1] - a[:, 1]))
        for left, right in zip(at[::2], at[1::2], strict=True):
            first = max(0, int(np.ceil(left)))
            mask[row, first : max(first, int(np.ceil(right)))] ^= True
    return mask


def read_labels(path: Path, contract: Contract, also: tuple[int, ...] = ()) -> Volume:
    """Read a label map: NIfTI, NRRD or MetaImage, with labels of the contract.

    Raises
    ------
    InputError
        The file cannot be read, is not three-dimensional, or holds other values.
    """
    sitk = load_sitk()
    try:
        image = sitk.ReadImage(str(path))
    except RuntimeError:
        raise UnreadableFileError(
            f"{path.name}: not an image that can be read; give NIfTI, NRRD or MetaImage"
        ) from None
    array = sitk.GetArrayFromImage(image)
    if array.ndim != 3:
        raise InputError(f"{path.name}: a label map has three axes, this one {array.ndim}")
    values = np.unique(array)
    known = {c.label for c in contract.classes} | set(also)
    if strange := [v for v in values.tolist() if v not in known]:
        raise InputError(
            f"{path.name}: value {strange[0]:g} is no label; a label map holds "
            f"{', '.join(str(v) for v in sorted(known))}"
        )
    return Volume(
        array.astype(np.uint8),
        image.GetSpacing()[::-1],
        image.GetOrigin(),
        np.asarray(image.GetDirection()).reshape(3, 3)[:, ::-1],  # type: ignore[arg-type]
    )


def slice_uids(path: Path) -> dict[str, float]:
    """Return SOP instance UID and `z_mm` of every slice in a DICOM folder; nothing elsewhere."""
    found: dict[str, float] = {}
    if not path.is_dir():
        return found
    for file in (p for p in path.rglob("*") if p.is_file()):
        try:
            header = pydicom.dcmread(
                file,
                stop_before_pixels=True,
                specific_tags=["SOPInstanceUID", "ImagePositionPatient"],
            )
            found[str(header.SOPInstanceUID)] = float(header.ImagePositionPatient[2])
        except (pydicom.errors.InvalidDicomError, OSError, ValueError, AttributeError, TypeError):
            continue
    return found
