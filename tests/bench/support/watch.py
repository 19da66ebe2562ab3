"""Samples a running server: peak memory, and its own metrics."""

from __future__ import annotations

import contextlib
import re
import threading
from urllib.request import urlopen

from bench.support.memory import server_memory

from dlild_deploy.server import EmbeddedServer

STEP_S = 0.05


def read_metric(server: EmbeddedServer, name: str) -> float:
    """Read one metric without labels; NaN where it is absent."""
    with urlopen(server.metrics_url, timeout=10) as answer:
        found = re.search(rf"^{name} (\S+)", answer.read().decode(), re.MULTILINE)
    return float(found[1]) if found else float("nan")


class Watch:
    """Looks again and again, for as long as the ``with`` block lasts.

    Parameters
    ----------
    server : EmbeddedServer

    Attributes
    ----------
    before, peak : dict of str to int
        Resident bytes of each process at the start, and at most.
    open_scans, bytes_held : float
        The largest that the server's metrics reported.
    """

    def __init__(self, server: EmbeddedServer) -> None:
        self._server = server
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self.before = self._rss()
        self.peak = dict(self.before)
        self.open_scans = 0.0
        self.bytes_held = 0.0

    def __enter__(self) -> Watch:
        """Begin to look."""
        self._thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        """Stop looking."""
        self._done.set()
        self._thread.join()

    def _rss(self) -> dict[str, int]:
        assert self._server.pid is not None
        return {name: held.rss for name, held in server_memory(self._server.pid).items()}

    def _look(self) -> None:
        while not self._done.wait(STEP_S):
            for name, rss in self._rss().items():
                self.peak[name] = max(self.peak.get(name, 0), rss)
            with contextlib.suppress(OSError):  # the server may be too busy to answer
                self.open_scans = max(
                    self.open_scans, read_metric(self._server, "dlild_open_scans")
                )
                self.bytes_held = max(
                    self.bytes_held, read_metric(self._server, "dlild_bytes_held")
                )
