"""A phantom as a DICOM CT series, as a scanner would have sent it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian, generate_uid

from dlild_export.phantom.compose import Phantom
from dlild_export.phantom.fields import interpolate

_RESCALE_INTERCEPT = -1024


def write_dicom_series(
    phantom: Phantom, folder: Path, *, pixel_mm: float = 0.75, slice_mm: float = 1.5
) -> int:
    """Write a phantom as axial slices in explicit little-endian DICOM.

    Parameters
    ----------
    phantom : Phantom
        The scan.
    folder : pathlib.Path
        Gets one file a slice, the head first as most scanners number them.
    pixel_mm : float
        Distance of two pixels.
    slice_mm : float
        Distance of two slices, and their thickness.

    Returns
    -------
    int
        Slices written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    slices = _resample(phantom, slice_mm, pixel_mm)
    # Everything random about a phantom hangs on its seed: so do its identifiers.
    study, series, frame = (
        generate_uid(entropy_srcs=[f"{phantom.spec}{kind}"])
        for kind in ("study", "series", "frame")
    )
    half_mm = phantom.spacing_mm / 2
    origin_mm = [pixel_mm / 2 - half_mm, pixel_mm / 2 - half_mm, slice_mm / 2 - half_mm]
    for number, plane in enumerate(slices[::-1], start=1):
        dataset = _dataset(generate_uid(entropy_srcs=[str(series), str(number)]))
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = study, series
        dataset.FrameOfReferenceUID = frame
        dataset.InstanceNumber = number
        height_mm = origin_mm[2] + (len(slices) - number) * slice_mm
        dataset.ImagePositionPatient = [origin_mm[0], origin_mm[1], round(height_mm, 4)]
        dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        dataset.SliceLocation = round(height_mm, 4)
        dataset.PixelSpacing = [pixel_mm, pixel_mm]
        dataset.SliceThickness = slice_mm
        dataset.Rows, dataset.Columns = plane.shape
        dataset.PixelData = (plane - _RESCALE_INTERCEPT).astype("<u2").tobytes()
        dataset.save_as(folder / f"CT{number:04d}.dcm", enforce_file_format=True)
    return len(slices)


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
    dataset.PatientName, dataset.PatientID = "Phantom", "PHANTOM"
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
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 12, 11
    dataset.PixelRepresentation = 0
    dataset.RescaleIntercept, dataset.RescaleSlope = _RESCALE_INTERCEPT, 1
    dataset.RescaleType = "HU"
    return dataset


def _resample(phantom: Phantom, slice_mm: float, pixel_mm: float) -> np.ndarray:
    """Sample the grid linearly at the centres of the series' voxels; int16, (z, y, x)."""
    volume = phantom.hu.astype(np.float32)
    for axis, step_mm in enumerate((slice_mm, pixel_mm, pixel_mm)):
        count = int(volume.shape[axis] * phantom.spacing_mm / step_mm)
        place = (np.arange(count) + 0.5) * step_mm / phantom.spacing_mm - 0.5
        place = np.clip(place, 0, volume.shape[axis] - 1)
        volume = interpolate(volume, axis, place)
    return np.clip(np.rint(volume), -1024, 3071).astype(np.int16)
