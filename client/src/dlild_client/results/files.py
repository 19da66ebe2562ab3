"""Writes the files of a result, `result.json`, `labels.nii.gz`, `overlay.png`, atomically."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from dlild_client.errors import DlildError
from dlild_client.reading.dicom.dicomlib import load_pydicom, quiet
from dlild_client.results.nifti import write_nifti
from dlild_client.results.overlay import draw_overlay
from dlild_client.results.provenance import document_digest
from dlild_client.results.result import Result
from dlild_client.results.stored import (
    COMPARISON,
    COMPARISON_PAGE,
    COMPARISON_SR,
    LABELS,
    OVERLAY,
    READING,
    REPORT,
    RESULT,
)

__all__ = ["Writer", "write_nifti", "write_result"]

OUTPUTS = (
    RESULT, LABELS, OVERLAY, REPORT, READING,
    "seg.dcm", "seg-labelmap.dcm", "sr.dcm", "capture.dcm", "pdf.dcm",
)  # fmt: skip
"""Every file that this software writes of a result into its folder."""
NO_PAGES = {*OUTPUTS} - {REPORT, READING}
"""Those that hold no page."""
COMPARISON_OUTPUTS = (COMPARISON, COMPARISON_PAGE, COMPARISON_SR)
_MARKS = {
    ".html": re.compile(rb"DL-ILD"),
    ".dcm": re.compile(rb"\x08\0\x70\0(?:LO\x06\0|\x06\0\0\0)DL-ILD"),
}
"""What stands in the first bytes of our pages and DICOM objects: of the latter, their manufacturer.
That of a phantom's scan and SEG is another."""
_MARK_WITHIN = 1 << 16
TRIAL_BYTES = 1 << 16
"""Size of the trial file: a full disk may still accept an empty one."""

Writer = Callable[[Path], object]
"""Writes one file at the path that it is given."""


def write_result(
    result: Result,
    folder: str | os.PathLike[str],
    more: Mapping[str, Writer] | None = None,
    *,
    alone: bool = False,
) -> list[Path]:
    """Write `result.json`, `labels.nii.gz` and `overlay.png` into a folder, created if missing.

    Replaces the files of an earlier result, all of them or none. Outputs of another result that
    this one does not replace (`OUTPUTS`: its report, its DICOM objects) are removed together with
    it, so that nobody takes them for this one's; those of the very same result stay, unless they
    are of another study than those written now, as with and without identity. Files of other names,
    and files of these names that this software did not write, are left alone.

    Parameters
    ----------
    result : Result
    folder : path
    more : mapping of str to callable, optional
        Further files of this result, by name: each callable writes its file at the path that it
        is given. They are exchanged together with the others.
    alone : bool
        Remove earlier outputs of the very same result, too, such as those with identity where this
        run strips it.

    Returns
    -------
    list of Path
        The files, in the order above, then `more` in its own order.

    Raises
    ------
    DlildError
        The folder or a file cannot be written.
    """
    folder = Path(folder)
    more, document = more or {}, result.to_dict()
    writers: dict[str, Writer] = {
        **more,
        LABELS: lambda path: write_nifti(result.labels, path),
        OVERLAY: lambda path: draw_overlay(result).save(path),
        # Last: once it exists, the other files exist, too.
        RESULT: text_writer(json.dumps(document, indent=2, allow_nan=False) + "\n"),
    }
    same = not alone and is_of(folder / RESULT, document)
    write_files(folder, writers, () if same else OUTPUTS)
    return [folder / name for name in (RESULT, LABELS, OVERLAY, *more)]


def write_files(
    folder: Path, writers: Mapping[str, Writer], replaces: Collection[str] = ()
) -> None:
    """Write files into a folder, created if missing, all of them or none.

    Parameters
    ----------
    folder : Path
    writers : mapping of str to callable
        By name; the last file marks the others as complete.
    replaces : collection of str
        Names of outputs that are removed where this software wrote them, and `writers` does not.

    Raises
    ------
    DlildError
        The folder or a file cannot be written.
    """
    try:
        with _made_folder(folder), _stage(folder) as stage:
            _write_all(stage, folder, writers, replaces)
    except (OSError, RuntimeError) as error:
        raise cannot_be_written(folder, error) from None


def _write_all(
    stage: Path, folder: Path, writers: Mapping[str, Writer], replaces: Collection[str]
) -> None:
    for name, write in writers.items():
        write(stage / name)
        _sync(stage / name)
    replaced = [*replaces, *_of_another_study(stage, folder, writers)]
    stale = [n for n in dict.fromkeys(replaced) if n not in writers and is_ours(folder / n)]
    _exchange(stage, folder, list(writers), stale)


def _of_another_study(stage: Path, folder: Path, names: Collection[str]) -> list[str]:
    """Objects of an earlier run that are of another study than the new ones.

    The same scan has one study without its identity, and one with it.
    """
    objects = [name for name in OUTPUTS if name.endswith(".dcm")]
    studies = {_study(stage / name) for name in objects if name in names}
    return [name for name in objects if studies and _study(folder / name) not in studies]


def _study(path: Path) -> str:
    """UID of the study of a DICOM object; empty where it has none."""
    try:
        with quiet():
            found = load_pydicom().dcmread(
                path, specific_tags=["StudyInstanceUID"], stop_before_pixels=True
            )
        return str(found.get("StudyInstanceUID", ""))
    except Exception:  # pydicom raises anything on a broken header
        return ""


def is_ours(path: Path) -> bool:
    """Whether this software wrote a page or DICOM object: its mark stands in the first bytes."""
    if not path.is_file():
        return False
    mark = _MARKS.get(path.suffix)
    if mark is None:
        return True
    try:
        with path.open("rb") as file:
            return mark.search(file.read(_MARK_WITHIN)) is not None
    except OSError:
        return False


def is_of(path: Path, document: Mapping[str, Any]) -> bool:
    """Whether the JSON of an earlier result or comparison says what this one says."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return isinstance(found, dict) and document_digest(found) == document_digest(document)
    except (OSError, ValueError):
        return False


def text_writer(text: str) -> Writer:
    """Return the writer of a text file."""
    return lambda path: path.write_text(text, encoding="utf-8")


def write_atomically(path: Path, text: str) -> None:
    """Write a text file atomically, and flush it to the disk.

    Raises
    ------
    OSError
        It cannot be written.
    """
    handle, name = tempfile.mkstemp(prefix=".", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        _sync(Path(name))
        Path(name).replace(path)
    finally:
        Path(name).unlink(missing_ok=True)


def try_folder(folder: str | os.PathLike[str], names: Collection[str] = ()) -> None:
    """Check that a folder can be created and written to, and leave it as it was.

    Called before a scan is scored, which takes minutes.

    Parameters
    ----------
    folder : path
    names : collection of str, optional
        Of the files that may be written there.

    Raises
    ------
    DlildError
        It cannot, or a folder has the name of one of the files; the message says which.
    """
    folder = Path(folder)
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _stage(folder) as stage:
            trial = stage / "trial"
            trial.write_bytes(bytes(TRIAL_BYTES))
            _sync(trial)
        for name in names:
            _check_not_folder(folder / name)
    except OSError as error:
        raise cannot_be_written(folder, error) from None
    finally:
        for path in missing:
            with suppress(OSError):
                path.rmdir()


def write_comparison(document: Mapping[str, Any], folder: Path, more: Mapping[str, Writer]) -> None:
    """Write `comparison.json` and further files of a comparison, as `write_result` does.

    Parameters
    ----------
    document : mapping
        Of `Comparison.to_dict`.
    folder : Path
    more : mapping of str to callable
        Writers of page and SR, by name.

    Raises
    ------
    DlildError
        The folder or a file cannot be written.
    """
    text = json.dumps(document, indent=2, allow_nan=False) + "\n"
    same = is_of(folder / COMPARISON, document)
    write_files(folder, {**more, COMPARISON: text_writer(text)}, () if same else COMPARISON_OUTPUTS)


def cannot_be_written(folder: Path, error: Exception) -> DlildError:
    """Construct the error of a result folder that cannot be written."""
    return DlildError(
        f"{folder.name or folder}: cannot be written: {write_fault(error)}; choose another folder"
    )


def write_fault(error: BaseException) -> str:
    """Return why something was not written, in the words of the system.

    pydicom raises an `OSError` anew, with a text of its own and without the error's number: that
    is found in its cause.
    """
    one: BaseException | None = error
    while one is not None:
        if isinstance(one, OSError) and one.strerror:
            return one.strerror
        one = one.__cause__ or one.__context__
    return "the disk may be full"


@contextmanager
def _made_folder(folder: Path) -> Iterator[None]:
    """Create a folder; on an error remove the created folders that are empty."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException:
        for path in missing:
            with suppress(OSError):
                path.rmdir()
        raise


@contextmanager
def _stage(folder: Path) -> Iterator[Path]:
    """Create a hidden temporary folder within a folder, on the same file system."""
    stage = Path(tempfile.mkdtemp(prefix=".dlild-", dir=folder))
    try:
        yield stage
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def _exchange(stage: Path, folder: Path, names: list[str], stale: list[str]) -> None:
    """Replace old files by new ones, and remove stale ones: all of them, or none.

    The last of `names` marks a complete result. Its old version is removed first, so that at no
    time, nor after a kill, does it exist beside files of another result.
    """
    old = stage / "old"
    old.mkdir()
    moved: list[tuple[Path, Path]] = []

    def move(source: Path, target: Path) -> None:
        source.replace(target)
        moved.append((source, target))

    try:
        for name in reversed(names):
            _check_not_folder(folder / name)
            if os.path.lexists(folder / name):
                move(folder / name, old / name)
        for name in stale:
            move(folder / name, old / name)
        for name in names:
            move(stage / name, folder / name)
    except BaseException:
        for source, target in reversed(moved):
            target.replace(source)
        raise


def _check_not_folder(path: Path) -> None:
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, f"{path.name} is a folder there")


def _sync(path: Path) -> None:
    """Flush a file to the disk, and give it the permissions of the umask."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
    mask = os.umask(0)
    os.umask(mask)
    path.chmod(0o666 & ~mask)
