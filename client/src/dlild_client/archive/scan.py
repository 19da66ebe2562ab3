"""The scan that `dlild score` is given: a path, or a study of an archive."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from dlild_client.archive.addresses import (
    check_uid,
    is_web_address,
    load_extra,
    parse_web_address,
)
from dlild_client.archive.dicomweb import DicomWeb, Progress, find_web_settings
from dlild_client.archive.objects import SENT, objects_to_send
from dlild_client.errors import BadSettingsError, DlildError
from dlild_client.reading.files import check_path
from dlild_client.reading.read import read_volume
from dlild_client.results.result import Result
from dlild_client.source import SourceSeries
from dlild_client.volume import Volume


class GivenScan:
    """A scan on disk, or a study that is retrieved before it is read.

    Parameters
    ----------
    path : Path
        What the readers read; of a study, an empty folder until it is retrieved.
    archive : DicomWeb, optional
        Where the study is.
    study, series : str, optional
        Of the study.
    """

    def __init__(
        self,
        path: Path,
        archive: DicomWeb | None = None,
        study: str = "",
        series: str | None = None,
    ) -> None:
        self.path, self.archive = path, archive
        self._study, self._series = study, series
        self._fetched = archive is None
        self._source: SourceSeries | None = None

    def fetch(self, progress: Progress | None = None) -> None:
        """Retrieve a study, once.

        Raises
        ------
        DlildError
            As of `DicomWeb.retrieve`.
        """
        if not self._fetched:
            assert self.archive is not None
            self.archive.retrieve(self._study, self.path, self._series, progress)
            self._fetched = True

    def read(self, series: str | None, *, with_source: bool = False) -> Volume:
        """Read the scan; with its headers, if results are to be stored.

        Raises
        ------
        InputError
            As of `read_volume`.
        """
        volume = read_volume(self.path, series=series, with_source=with_source)
        self._source = volume.source
        return volume

    def check_store(self) -> None:
        """Raise `BadSettingsError` where there is no archive, or an extra is missing."""
        if self.archive is None:
            raise BadSettingsError(
                "--store puts results into the archive that the scan comes from; give "
                "dicomweb+https://… with --study"
            )
        load_extra("highdicom")

    def store(self, result: Result, kinds: Sequence[str] = SENT) -> None:
        """Store a result in the archive, in the study of the scan.

        Raises
        ------
        DlildError
            As of `objects_to_send` and `DicomWeb.store`.
        """
        assert self.archive is not None
        assert self._source is not None
        self.archive.store(objects_to_send(result, self._source, kinds))


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
        yield GivenScan(path)
        return
    address = parse_web_address(source)
    if study is None:
        raise BadSettingsError(f"{address}: which study? give --study with its UID")
    check_uid(study, "--study")
    if series is not None and not series.isdecimal():
        check_uid(series, "--series")
    archive = DicomWeb(find_web_settings(address))
    with _temporary_folder() as folder:
        yield GivenScan(folder, archive, study, series)


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
