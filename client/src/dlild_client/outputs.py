"""Files of a result, `result.json`, `labels.nii.gz`, `overlay.png`: whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dlild_client.errors import DlildError
from dlild_client.nifti import write_nifti
from dlild_client.overlay import draw_overlay
from dlild_client.result import Result

__all__ = ["write_nifti", "write_result"]


def write_result(result: Result, folder: str | os.PathLike[str]) -> list[Path]:
    """Write `result.json`, `labels.nii.gz` and `overlay.png` into a folder, made if need be.

    Parameters
    ----------
    result : Result
    folder : path

    Returns
    -------
    list of Path
        The files, in the order above.

    Raises
    ------
    DlildError
        The folder or a file cannot be written.
    """
    place = Path(folder)
    writers: dict[str, Callable[[Path], Any]] = {
        "labels.nii.gz": lambda path: write_nifti(result.labels, path),
        "overlay.png": lambda path: draw_overlay(result).save(path),
        # Last, so that whoever waits for the result finds the other files beside it.
        "result.json": lambda path: path.write_text(result.to_json() + "\n", encoding="utf-8"),
    }
    try:
        place.mkdir(parents=True, exist_ok=True)
        for name, write in writers.items():
            _write_whole(place / name, write)
    except (OSError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or "the disk may be full"
        raise DlildError(
            f"{place.name}: cannot be written: {reason}; choose another folder"
        ) from None
    return [place / name for name in ("result.json", "labels.nii.gz", "overlay.png")]


def _write_whole(path: Path, write: Callable[[Path], Any]) -> None:
    """Write into a temporary file beside the target, then put it in place in one step."""
    suffix = "".join(path.suffixes)
    handle, name = tempfile.mkstemp(prefix=".", suffix=suffix, dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        write(temporary)
        # mkstemp is for the owner's eyes only; results follow the user's own rule.
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o666 & ~mask)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
