"""Headers of a DICOM series that was scored, to which the objects of its result refer."""

from __future__ import annotations

import os
from pathlib import Path

from dlild_client.errors import NoSeriesError
from dlild_client.reading.images.read import is_image_name
from dlild_client.reading.read import read_volume
from dlild_client.source import SourceSeries as SourceSeries  # noqa: PLC0414
from dlild_client.source import SourceSlice as SourceSlice  # noqa: PLC0414
from dlild_client.volume import Volume


def read_source(path: str | os.PathLike[str], series: str | None = None) -> SourceSeries:
    """Read the headers of the series that `read_volume` selects.

    Where the scan is read anyway, ``read_volume(path, with_source=True).source`` saves a second
    reading: this one decodes the pixels, too, which decide between series that look alike.

    Parameters
    ----------
    path : path
        Folder, zip archive, DICOMDIR or multi-frame file.
    series : str, optional
        As of `read_volume`.

    Returns
    -------
    SourceSeries

    Raises
    ------
    NoSeriesError
        An image file, such as NIfTI: no series that an object could refer to.
    InputError
        As of `read_volume`.
    """
    return source_of(read_volume(path, series=series, with_source=True), Path(path).name)


def check_series(path: Path) -> None:
    """Raise `NoSeriesError` where a path is an image file, which has no series to refer to."""
    if path.is_file() and is_image_name(path):
        raise NoSeriesError(_no_series(path.name))


def source_of(volume: Volume, name: str = "") -> SourceSeries:
    """Return the headers of a volume that was read with them.

    Raises
    ------
    NoSeriesError
        The volume was not read from DICOM, or without its headers.
    """
    if volume.source is None:
        raise NoSeriesError(_no_series(name))
    return volume.source


def _no_series(name: str) -> str:
    where = f"{name}: " if name else ""
    return (
        f"{where}no DICOM series that SEG, SR, capture or PDF could refer to; give the series as "
        "DICOM, or leave these out"
    )
