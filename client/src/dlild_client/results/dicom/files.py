"""Files of the DICOM objects of a result, for `write_result`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image

from dlild_client.reading.dicom.dicomlib import quiet
from dlild_client.results.dicom.objects import make_objects
from dlild_client.results.dicom.source import source_of
from dlild_client.results.files import Writer
from dlild_client.results.result import Result

FILES: Mapping[str, str] = {
    "seg": "seg.dcm",
    "labelmap": "seg-labelmap.dcm",
    "sr": "sr.dcm",
    "capture": "capture.dcm",
    "pdf": "pdf.dcm",
}
"""Name of the file of each kind of object."""


def object_files(
    result: Result,
    kinds: Sequence[str],
    *,
    summary: Image.Image | None = None,
    anonymous: bool = False,
) -> dict[str, Writer]:
    """Make objects of a result; return their writers by the name of the file.

    Parameters
    ----------
    result : Result
        Of a volume that was read with its headers.
    kinds, summary, anonymous
        As of `make_objects`.

    Raises
    ------
    DlildError
        As of `source_of` and `make_objects`.
    """
    if not kinds:
        return {}
    source = source_of(result.image)
    objects = make_objects(result, source, kinds=kinds, summary=summary, anonymous=anonymous)
    return {
        FILES[kind]: object_writer(dataset) for kind, dataset in zip(kinds, objects, strict=True)
    }


def object_writer(dataset: Any) -> Writer:
    """Return the writer of one object."""
    return partial(write_object, dataset)


def write_object(dataset: Any, path: Path) -> None:
    """Write one object as a DICOM file."""
    with quiet():
        dataset.save_as(path, enforce_file_format=True)
