"""The scan that `dlild score` is given: a path, or a study of an archive."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from dlild_client.archive.addresses import check_uid, is_web_address, parse_web_address
from dlild_client.archive.dicomweb import DicomWeb, Progress, find_web_settings
from dlild_client.errors import BadSettingsError, DlildError
from dlild_client.reading.files import check_path


@dataclass(frozen=True)
class GivenScan:
    """A scan on disk, or one that is retrieved at first use.

    Attributes
    ----------
    path : Path
        What the readers read; the folder of a study that is not retrieved yet is empty.
    archive : DicomWeb or None
        Where it comes from.
    fetch : callable
        Called as ``fetch(progress)`` before `path` is read; retrieves a study once.
    """

    path: Path
    archive: DicomWeb | None
    fetch: Callable[[Progress | None], None]


@contextmanager
def open_scan(source: str, study: str | None, series: str | None) -> Iterator[GivenScan]:
    """Open a path, or a study of a DICOMweb service; its copy exists within the context.

    Parameters
    ----------
    source : str
        A path, or `dicomweb+https://host/path`.
    study : str or None
        StudyInstanceUID, where `source` is a service.
    series : str or None
        UID or number of the series.

    Raises
    ------
    BadSettingsError
        `study` is missing, malformed, or given with a path.
    UnreadableFileError
        The path cannot be read.
    """
    if not is_web_address(source):
        if study is not None:
            raise BadSettingsError(
                "--study belongs to an archive; give its address, dicomweb+https://…, or leave "
                "--study out"
            )
        path = Path(source)
        check_path(path)
        yield GivenScan(path, None, lambda _progress: None)
        return
    address = parse_web_address(source)
    if study is None:
        raise BadSettingsError(f"{address}: which study? give --study with its UID")
    check_uid(study, "--study")
    if series is not None and not series.isdecimal():
        check_uid(series, "--series")
    archive = DicomWeb(find_web_settings(address))
    with _temporary_folder() as folder:
        retrieved: list[int] = []

        def fetch(progress: Progress | None) -> None:
            if not retrieved:
                for leftover in folder.iterdir():
                    leftover.unlink()
                retrieved.append(archive.retrieve(study, folder, series, progress))

        yield GivenScan(folder, archive, fetch)


@contextmanager
def _temporary_folder() -> Iterator[Path]:
    """Make a folder that only its owner can read, and remove it with what is in it."""
    try:
        root = tempfile.TemporaryDirectory(prefix="dlild-", ignore_cleanup_errors=True)
    except OSError as error:
        raise DlildError(
            f"no temporary folder can be made: {error.strerror}; set TMPDIR to a folder with space"
        ) from None
    with root as name:
        folder = Path(name) / "study"
        folder.mkdir(mode=0o700)
        yield folder
