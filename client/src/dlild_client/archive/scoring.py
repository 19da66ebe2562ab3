"""Scores a study on disk by a server, and makes the DICOM objects that are sent."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dlild_client.archive.objects import objects_to_send
from dlild_client.client import Client
from dlild_client.reading.read import read_volume
from dlild_client.results.dicom.source import SourceSeries, source_of
from dlild_client.settings import Settings
from dlild_client.transport.cancel import CancelToken
from dlild_client.volume import Volume

if TYPE_CHECKING:
    from pydicom import Dataset


class ServerScorer:
    """Scorer of a node: a client of a DL-ILD server. Thread-safe.

    Parameters
    ----------
    settings : Settings
        Of the server.
    kinds : sequence of str
        Objects of a result, as of `make_objects`.
    anonymous : bool
        Whether identity is left out of them.

    Raises
    ------
    BadSettingsError
        A certificate cannot be read.
    """

    def __init__(
        self, settings: Settings, kinds: Sequence[str], *, anonymous: bool = False
    ) -> None:
        self._client = Client.from_settings(settings)
        self._kinds, self._anonymous = tuple(kinds), anonymous

    def __call__(self, folder: Path, cancel: CancelToken) -> Sequence[Dataset]:
        """Score the study in a folder.

        Raises
        ------
        DlildError
            As of `Client.score` and `objects_to_send`.
        """
        sources: list[SourceSeries] = []

        def read() -> Volume:
            volume = read_volume(folder, with_source=True)
            sources.append(source_of(volume))
            return volume

        result = self._client.score(read, cancel=cancel)
        return objects_to_send(result, sources[-1], self._kinds, anonymous=self._anonymous)
