"""One door for every input: a path in, a Volume out."""

from __future__ import annotations

import os
from pathlib import Path

from dlild_client.dicom import read_dicom_file, read_dicom_folder
from dlild_client.errors import UnreadableFile
from dlild_client.images import is_image_name, read_image
from dlild_client.series import SeriesRules
from dlild_client.volume import Volume


def read_volume(path: str | os.PathLike[str], rules: SeriesRules | None = None) -> Volume:
    """Read a chest CT from a DICOM folder or an image file.

    Parameters
    ----------
    path : path
        A folder with a DICOM series at any depth, or a `.nii`, `.nii.gz`, `.nrrd` or `.mha` file.
    rules : SeriesRules, optional
        What a DICOM series must be to be scored.

    Returns
    -------
    Volume
        int16 HU, axes (z, y, x).

    Raises
    ------
    InputError
        The path does not lead to a chest CT; its kind and message say why.
    """
    place = Path(path)
    try:
        if not place.exists():
            raise UnreadableFile(f"{place.name or place}: no such file or folder")
        if place.is_dir():
            return read_dicom_folder(place, rules)
    except PermissionError:
        raise UnreadableFile(f"{place.name}: no permission to read it") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a path"
        raise UnreadableFile(f"{place.name[:80]}: {reason}") from None
    return read_image(place) if is_image_name(place) else read_dicom_file(place)
