"""Writers of what scanners and archives make of a series: Enhanced CT, compression, media."""

from __future__ import annotations

import copy
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gdcm
import numpy as np
import pydicom
import SimpleITK as sitk
from pydicom.dataset import Dataset
from pydicom.fileset import FileSet
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    EnhancedCTImageStorage,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

LOSSLESS = [
    ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian, RLELossless,
    JPEG2000Lossless, JPEGLSLossless, JPEGLossless, JPEGLosslessSV1,
]  # fmt: skip


def transcode(path: Path, uid: str) -> None:
    """Write a slice anew in another transfer syntax, without loss."""
    if uid in {JPEGLossless, JPEGLosslessSV1}:
        _by_gdcm(path, uid)
        return
    ds = pydicom.dcmread(path)
    if uid in {RLELossless, JPEG2000Lossless, JPEGLSLossless}:
        ds.compress(uid, generate_instance_uid=False)
        ds.save_as(path)
        return
    big = uid == ExplicitVRBigEndian
    if big:
        ds.PixelData = ds.pixel_array.astype(">i2").tobytes()
    meta, ds = ds.file_meta, Dataset({element.tag: element for element in ds})
    meta.TransferSyntaxUID = uid
    ds.file_meta = meta
    ds.save_as(
        path, implicit_vr=uid == ImplicitVRLittleEndian, little_endian=not big,
        enforce_file_format=True,
    )  # fmt: skip


def _by_gdcm(path: Path, uid: str) -> None:
    reader = gdcm.ImageReader()
    reader.SetFileName(str(path))
    assert reader.Read()
    change = gdcm.ImageChangeTransferSyntax()
    kind = gdcm.TransferSyntax.GetTSType(str(uid))
    change.SetTransferSyntax(gdcm.TransferSyntax(kind))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer = gdcm.ImageWriter()
    writer.SetFileName(str(path))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    assert writer.Write()


def zip_up(folder: Path, archive: Path) -> Path:
    """Put a folder into a zip archive."""
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        for path in sorted(folder.rglob("*")):
            file.write(path, path.relative_to(folder.parent))
    return archive


def write_image(volume: Any, path: Path) -> Path:
    """Write a volume as ITK does, in the format that the name says."""
    image = sitk.GetImageFromArray(np.ascontiguousarray(volume.array))
    image.SetSpacing(volume.spacing_mm[::-1])
    image.SetOrigin(volume.origin_mm)
    image.SetDirection(np.asarray(volume.direction)[:, ::-1].ravel().tolist())
    sitk.WriteImage(image, str(path), useCompression=True)
    return path


def write_medium(folder: Path, medium: Path) -> Path:
    """Copy a folder to a medium with a DICOMDIR, as a hospital burns it; return the DICOMDIR."""
    files = FileSet()
    for path in sorted(folder.rglob("*.dcm")):
        ds = pydicom.dcmread(path)
        ds.StudyDate, ds.StudyTime, ds.StudyID = "20200101", "120000", "1"
        files.add(ds)
    files.write(medium)
    return medium / "DICOMDIR"


def write_enhanced(
    folder: Path,
    target: Path,
    *,
    order: Callable[[int], float] = lambda i: i,
    per_frame: bool = False,
    uid: str | None = None,
) -> Path:
    """Join the slices of a folder into one Enhanced CT object.

    `order` sorts the frames; `per_frame` repeats in each frame what all frames share; `uid` is a
    transfer syntax to compress with.
    """
    slices = sorted(
        (pydicom.dcmread(p) for p in folder.iterdir()), key=lambda ds: order(ds.InstanceNumber)
    )
    ds = copy.deepcopy(slices[0])
    for name in (
        "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness",
        "RescaleSlope", "RescaleIntercept", "ConvolutionKernel", "ImageType",
    ):  # fmt: skip
        if name in ds:
            delattr(ds, name)
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = EnhancedCTImageStorage
    ds.ImageType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    ds.NumberOfFrames = len(slices)
    shared = Dataset()
    ds.SharedFunctionalGroupsSequence = [shared]
    frames = [_own(s, i) for i, s in enumerate(slices)]
    for frame, s in zip(frames, slices, strict=True):
        _common(frame if per_frame else shared, s)
    ds.PerFrameFunctionalGroupsSequence = frames
    ds.PixelData = b"".join(s.PixelData for s in slices)
    if uid is not None:
        ds.compress(uid, generate_instance_uid=False)
    ds.save_as(target, enforce_file_format=True)
    return target


def _own(s: Dataset, index: int) -> Dataset:
    """What a frame says of itself alone."""
    frame, content, position = Dataset(), Dataset(), Dataset()
    content.StackID, content.InStackPositionNumber = "1", index + 1
    content.FrameAcquisitionNumber = int(s.get("AcquisitionNumber", None) or 1)
    position.ImagePositionPatient = s.ImagePositionPatient
    frame.FrameContentSequence, frame.PlanePositionSequence = [content], [position]
    return frame


def _common(groups: Any, s: Dataset) -> None:
    """What frames may share: orientation, pixel measures, rescale, frame type."""
    orientation, measures, rescale, kind, kernel = (Dataset() for _ in range(5))
    orientation.ImageOrientationPatient = s.ImageOrientationPatient
    measures.PixelSpacing, measures.SliceThickness = s.PixelSpacing, s.SliceThickness
    rescale.RescaleSlope, rescale.RescaleIntercept = s.RescaleSlope, s.RescaleIntercept
    rescale.RescaleType = "HU"
    kind.FrameType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    kernel.ConvolutionKernel = s.ConvolutionKernel
    groups.PlaneOrientationSequence, groups.PixelMeasuresSequence = [orientation], [measures]
    groups.PixelValueTransformationSequence = [rescale]
    groups.CTImageFrameTypeSequence = [kind]
    groups.CTReconstructionSequence = [kernel]


def to_unsigned(ds: Any, values: np.ndarray, intercept: int = -1024, bits: int = 12) -> None:
    """Store HU as unsigned numbers of some bits, as most scanners do."""
    ds.PixelRepresentation, ds.BitsStored, ds.HighBit = 0, bits, bits - 1
    ds.RescaleIntercept = intercept
    ds.PixelData = (values.astype(int) - intercept).astype("<u2").tobytes()
