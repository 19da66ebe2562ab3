"""A phantom as a DICOM CT series, as a scanner would have sent it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian, generate_uid

from dlild_client.volume import AIR_HU, Volume
from dlild_export.phantom.compose import Phantom
from dlild_export.phantom.fields import Array, interpolate

_RESCALE_INTERCEPT = -1024


@dataclass(frozen=True, kw_only=True)
class Scanner:
    """How a phantom is laid on slices.

    Attributes
    ----------
    pixel_mm : float
        Distance of two pixels.
    slice_mm : float
        Distance of two slices, and their thickness.
    tilt_deg : float
        Tilt of the gantry: slices lean to the back, and still follow each other along the table.
    padding_hu : int or None
        Value outside a circular field of view, such as -2000 or -3024; None leaves a rectangle
        without padding.
    """

    pixel_mm: float = 0.75
    slice_mm: float = 1.5
    tilt_deg: float = 0.0
    padding_hu: int | None = None

    def __post_init__(self) -> None:
        """Refuse what no scanner does."""
        if not 0.2 <= self.pixel_mm <= 5.0:
            raise ValueError(f"the pixel is {self.pixel_mm} mm, give 0.2 to 5 mm")
        if not 0.3 <= self.slice_mm <= 10.0:
            raise ValueError(f"the slice is {self.slice_mm} mm, give 0.3 to 10 mm")
        if abs(self.tilt_deg) > 30:
            raise ValueError(f"the tilt is {self.tilt_deg} degrees, give -30 to 30")
        if self.padding_hu is not None and not -31744 <= self.padding_hu <= AIR_HU:
            raise ValueError(f"the padding is {self.padding_hu} HU, give -31744 to {AIR_HU}")


def write_dicom_series(
    phantom: Phantom,
    folder: Path,
    *,
    pixel_mm: float = 0.75,
    slice_mm: float = 1.5,
    tilt_deg: float = 0.0,
    padding_hu: int | None = None,
) -> int:
    """Write a phantom as axial slices in explicit little-endian DICOM.

    Parameters
    ----------
    phantom : Phantom
        The scan.
    folder : pathlib.Path
        Gets one file a slice, the head first as most scanners number them.
    pixel_mm, slice_mm, tilt_deg, padding_hu
        As in `Scanner`.

    Returns
    -------
    int
        Slices written.
    """
    scanner = Scanner(
        pixel_mm=pixel_mm, slice_mm=slice_mm, tilt_deg=tilt_deg, padding_hu=padding_hu
    )
    spacing = phantom.spacing_mm
    volume = Volume(phantom.hu, (spacing, spacing, spacing))
    return len(write_series(volume, folder, scanner, patient=f"PHANTOM-{phantom.spec.seed}"))


def write_series(
    volume: Volume, folder: Path, scanner: Scanner, *, patient: str
) -> list[FileDataset]:
    """Write a volume on the grid as axial slices.

    Parameters
    ----------
    volume : Volume
        HU in cubes, feet to head, front to back, right to left.
    folder : pathlib.Path
        Gets one file a slice.
    scanner : Scanner
        How it is laid on slices.
    patient : str
        Identifier of the patient, made up.

    Returns
    -------
    list of FileDataset
        The slices, the head first.
    """
    folder.mkdir(parents=True, exist_ok=True)
    slices = slice_hu(volume, scanner)
    # Equal scans have equal identifiers, and no others have.
    content = hashlib.sha256(slices.tobytes()).hexdigest()
    study, series, frame = (
        generate_uid(entropy_srcs=[content, f"{patient}{scanner}", kind])
        for kind in ("study", "series", "frame")
    )
    tilt = np.radians(scanner.tilt_deg)
    first = _first_position(volume, scanner, slices.shape)
    datasets = []
    for number, plane in enumerate(slices[::-1], start=1):
        dataset = _dataset(generate_uid(entropy_srcs=[str(series), str(number)]))
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = study, series
        dataset.FrameOfReferenceUID = frame
        dataset.PatientID = patient
        dataset.InstanceNumber = number
        height_mm = first[2] + (len(slices) - number) * scanner.slice_mm
        position = [first[0], first[1], height_mm]
        dataset.ImagePositionPatient = [round(v, 4) for v in position]
        column = [0, round(float(np.cos(tilt)), 6), round(float(np.sin(tilt)), 6)]
        dataset.ImageOrientationPatient = [1, 0, 0, *column]
        dataset.SliceLocation = round(height_mm, 4)
        dataset.PixelSpacing = [scanner.pixel_mm, scanner.pixel_mm]
        dataset.SliceThickness = scanner.slice_mm
        if scanner.tilt_deg:
            dataset.GantryDetectorTilt = scanner.tilt_deg
        _set_pixels(dataset, plane, scanner.padding_hu)
        dataset.save_as(folder / f"CT{number:04d}.dcm", enforce_file_format=True)
        datasets.append(dataset)
    return datasets


def slice_hu(volume: Volume, scanner: Scanner) -> npt.NDArray[np.int16]:
    """Sample the grid linearly at the centres of the series' voxels; int16, (slice, row, column).

    Outside the field of view stands the padding.
    """
    field = volume.array.astype(np.float32)
    sampled = _sample(field, volume.spacing_mm[0], scanner, nearest=False, outside=AIR_HU)
    whole = np.clip(np.rint(sampled), AIR_HU, 3071).astype(np.int16)
    if scanner.padding_hu is not None:
        whole[:, ~_field_of_view(whole.shape[1:])] = scanner.padding_hu
    return whole


def slice_labels(
    labels: npt.NDArray[np.uint8], spacing_mm: float, scanner: Scanner
) -> npt.NDArray[np.uint8]:
    """Pick the truth of the nearest voxel for every pixel; uint8, (slice, row, column)."""
    field = labels.astype(np.float32)
    picked = _sample(field, spacing_mm, scanner, nearest=True, outside=0).astype(np.uint8)
    if scanner.padding_hu is not None:
        picked[:, ~_field_of_view(picked.shape[1:])] = 0
    return picked


# ---- sampling -----------------------------------------------------------------------------------


def _sample(
    volume: Array, spacing_mm: float, scanner: Scanner, *, nearest: bool, outside: float
) -> Array:
    """Values of the grid at every pixel: x first, then y and z, which a tilt mixes."""
    tilt = np.radians(scanner.tilt_deg)
    depth, height, width = (float(n * spacing_mm) for n in volume.shape)
    rows, columns = int(height / scanner.pixel_mm), int(width / scanner.pixel_mm)
    if scanner.padding_hu is not None:
        rows = columns = max(rows, columns)
    x = _centres(columns, scanner.pixel_mm) + width / 2
    y_in_slice = _centres(rows, scanner.pixel_mm)
    z = (np.arange(int(depth / scanner.slice_mm)) + 0.5) * scanner.slice_mm
    across = _along(volume, 2, x / spacing_mm - 0.5, nearest, outside)
    slices = np.empty((len(z), rows, columns), np.float32)
    for row, along in enumerate(y_in_slice):
        y = along * np.cos(tilt) + height / 2
        plane = _along(across, 1, np.array([y / spacing_mm - 0.5]), nearest, outside)
        positions = (z + along * np.sin(tilt)) / spacing_mm - 0.5
        slices[:, row] = _along(plane, 0, positions, nearest, outside)[:, 0]
    return slices


def _centres(count: int, step_mm: float) -> npt.NDArray[np.float64]:
    """Distance of pixel centres from the middle of the slice."""
    return np.asarray((np.arange(count) - (count - 1) / 2) * step_mm, np.float64)


def _along(
    field: Array, axis: int, positions: npt.NDArray[np.float64], nearest: bool, outside: float
) -> Array:
    """Interpolate along one axis; more than half a voxel beyond its ends there is `outside`."""
    size = field.shape[axis]
    inside = np.clip(positions, 0, size - 1)
    if nearest:
        sampled: Array = np.take(field, np.floor(inside + 0.5).astype(np.intp), axis)
    else:
        sampled = interpolate(field, axis, inside)
    beyond = np.abs(positions - inside) > 0.5 + 1e-6
    if beyond.any():
        index: list[slice | npt.NDArray[np.bool_]] = [slice(None)] * 3
        index[axis] = beyond
        sampled[tuple(index)] = outside
    return sampled


def _field_of_view(shape: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    y, x = (np.arange(n) - (n - 1) / 2 for n in shape)
    inside: npt.NDArray[np.bool_] = y[:, None] ** 2 + x[None, :] ** 2 <= (min(shape) / 2) ** 2
    return inside


def _first_position(
    volume: Volume, scanner: Scanner, shape: tuple[int, ...]
) -> tuple[float, float, float]:
    """Centre of the first pixel of the lowest slice (x, y, z)."""
    tilt = np.radians(scanner.tilt_deg)
    half_mm = volume.spacing_mm[0] / 2
    middle_y, middle_x = (n * half_mm - half_mm for n in volume.shape[1:])
    up, left = ((n - 1) / 2 * scanner.pixel_mm for n in shape[1:])
    lowest = scanner.slice_mm / 2 - half_mm
    x, y, z = volume.origin_mm
    return (
        x + middle_x - left,
        y + middle_y - up * float(np.cos(tilt)),
        z + lowest - up * float(np.sin(tilt)),
    )


# ---- data sets ----------------------------------------------------------------------------------


def _set_pixels(dataset: FileDataset, plane: npt.NDArray[np.int16], padding: int | None) -> None:
    dataset.Rows, dataset.Columns = plane.shape
    stored = plane.astype(np.int32) - _RESCALE_INTERCEPT
    if padding is None:
        dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 12, 11, 0
    else:
        dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 15, 1
        dataset.PixelPaddingValue = padding - _RESCALE_INTERCEPT
    dataset.PixelData = stored.astype("<i2" if padding is not None else "<u2").tobytes()


def _dataset(instance_uid: UID) -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = instance_uid
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID, dataset.SOPInstanceUID = CTImageStorage, instance_uid
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.Modality = "CT"
    dataset.Manufacturer = "DL-ILD phantom"
    dataset.PatientName = "Phantom^"
    dataset.PatientBirthDate = dataset.PatientSex = ""
    dataset.StudyDate = dataset.StudyTime = dataset.AccessionNumber = dataset.StudyID = ""
    dataset.ReferringPhysicianName = ""
    dataset.SeriesNumber = 1
    dataset.BodyPartExamined = "CHEST"
    dataset.PatientPosition = "HFS"
    dataset.KVP = "120"
    dataset.ConvolutionKernel = "PHANTOM"
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.BitsAllocated = 16
    dataset.RescaleIntercept, dataset.RescaleSlope = _RESCALE_INTERCEPT, 1
    dataset.RescaleType = "HU"
    return dataset
