"""Entry point of the readers: from a path to a `Volume`."""

from __future__ import annotations

import os
from pathlib import Path

from dlild_client.errors import InputError, NoSeriesError, UnreadableFileError, printable
from dlild_client.reading.assemble import read_dicom
from dlild_client.reading.files import check_path, is_zip
from dlild_client.reading.images.read import is_image_name, read_image
from dlild_client.reading.series.candidates import SeriesRules
from dlild_client.volume import Volume

ARCHIVE_SUFFIXES = (".gz", ".tgz", ".tar", ".bz2", ".xz", ".7z", ".rar")
"""Suffixes of archives and compressed files that are not supported."""

PAIR_SUFFIXES = (".hdr", ".img")
"""Suffixes of NIfTI and Analyze pairs: programs disagree on their geometry."""


def read_volume(
    path: str | os.PathLike[str],
    rules: SeriesRules | None = None,
    series: str | None = None,
    *,
    with_source: bool = False,
) -> Volume:
    """Read a chest CT.

    Parameters
    ----------
    path : path
        A folder with DICOM files at any depth, a zip archive of them, a DICOMDIR, a multi-frame
        DICOM file, or a `.nii`, `.nii.gz`, `.nrrd` or `.mha` file.
    rules : SeriesRules, optional
        Requirements on a DICOM series.
    series : str, optional
        UID or number of the DICOM series to read. Default: the one that ranks first
        (`dlild_client.reading.series.ranking`).
    with_source : bool
        Also keep the headers of a DICOM series, **which identify the patient**: `Volume.source`,
        for the DICOM objects of the result.

    Returns
    -------
    Volume
        int16 HU, axes (z, y, x).

    Raises
    ------
    InputError
        The path holds no chest CT; class and message say why.
    """
    path = Path(path)
    check_path(path)
    try:
        if path.is_file() and is_image_name(path):
            return read_image(path)
        return read_dicom(path, rules, series, with_source=with_source)
    except PermissionError:
        raise UnreadableFileError(f"{path.name}: no permission to read it") from None
    except OSError as error:
        raise UnreadableFileError(f"{path.name}: {error.strerror}") from None
    except InputError as error:
        if path.is_dir():
            raise
        raise _of_one_file(path, error) from None


def _of_one_file(path: Path, error: InputError) -> InputError:
    """Return an error that says what a single file is, and what to give instead."""
    if isinstance(error, NoSeriesError) and path.suffix.lower() in PAIR_SUFFIXES:
        return UnreadableFileError(
            f"{path.name}: a pair of .hdr and .img files is not read; convert it to one .nii file"
        )
    if isinstance(error, NoSeriesError) and path.suffix.lower() in ARCHIVE_SUFFIXES:
        return UnreadableFileError(f"{path.name}: of archives only .zip is read; unpack it first")
    if isinstance(error, NoSeriesError) and not is_zip(path) and path.name.upper() != "DICOMDIR":
        return UnreadableFileError(
            f"{path.name}: neither DICOM nor NIfTI, NRRD, MetaImage or zip; give a chest CT series"
        )
    text = str(error)
    return error if printable(path.name) in text else type(error)(f"{path.name}: {text}")
