"""Strips the identity of the patient from the headers of a series."""

from __future__ import annotations

from dataclasses import replace

from dlild_client.reading.dicom.dicomlib import load_pydicom, quiet
from dlild_client.results.dicom.uids import derive_uid
from dlild_client.source import SourceSeries

KEPT = ("Modality", "Manufacturer", "ManufacturerModelName", "BodyPartExamined", "SeriesNumber")
METHOD = "DL-ILD: identity, dates removed; UIDs replaced"


def strip_identity(source: SourceSeries, scan_digest: str) -> SourceSeries:
    """Replace all that identifies the patient.

    Parameters
    ----------
    source : SourceSeries
    scan_digest : str
        Digest of the voxels, which names the patient instead.

    Returns
    -------
    SourceSeries
        Without names, numbers, dates, sex and age. UIDs are derived from the original ones: objects
        of one study stay together, and they refer to no image that an archive knows.
    """
    pydicom = load_pydicom()
    header = pydicom.Dataset()
    with quiet():
        header.SpecificCharacterSet = "ISO_IR 192"
        for name in KEPT:
            if name in source.header:
                header[name] = source.header[name]
        header.PatientName = "Anonymous"
        header.PatientID = f"DLILD-{scan_digest.removeprefix('sha256:')[:12]}"
        header.PatientIdentityRemoved = "YES"
        header.DeidentificationMethod = METHOD
        for name in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"):
            if source.header.get(name):
                setattr(header, name, _replaced(source.header[name].value))
    slices = tuple(
        replace(s, sop_instance=_replaced(s.sop_instance), series=_replaced(s.series))
        for s in source.slices
    )
    return replace(source, header=header, slices=slices)


def _replaced(uid: str) -> str:
    return derive_uid("anonymous", uid) if uid else ""
