"""A TCP proxy on loopback that is slow, cuts lines, or goes silent: a network as bad as needed."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

CHUNK = 16384


@dataclass(frozen=True)
class Fault:
    """What befalls one connection; bytes count what the client sends.

    Attributes
    ----------
    bytes_per_s : float, optional
        Speed, both ways.
    cut_after : int, optional
        Both ends are closed after so many bytes.
    silent_after : int, optional
        Nothing more is passed on after so many bytes, and both ends stay open.
    """

    bytes_per_s: float | None = None
    cut_after: int | None = None
    silent_after: int | None = None


class Proxy:
    """Passes connections on to a port of loopback.

    Parameters
    ----------
    port : int
    fault : callable
        Called with the number of the connection, from 0.
    """

    def __init__(self, port: int, fault: Callable[[int], Fault | None]) -> None:
        self._target = port
        self._fault = fault
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self.connections = 0
        self.port = self._listener.getsockname()[1]

    def __enter__(self) -> Proxy:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_exception: object) -> None:
        for end in (self._listener, *self._open):
            _close(end)

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
                far = socket.create_connection(("127.0.0.1", self._target))
            except OSError:
                return
            fault = self._fault(self.connections) or Fault()
            self.connections += 1
            self._open += [near, far]
            silent = threading.Event()
            for source, sink, counts in ((near, far, True), (far, near, False)):
                threading.Thread(
                    target=_pass, args=(source, sink, fault, counts, silent), daemon=True
                ).start()


def _pass(
    source: socket.socket, sink: socket.socket, fault: Fault, counts: bool, silent: threading.Event
) -> None:
    passed = 0
    try:
        while data := source.recv(CHUNK):
            passed += len(data)
            if counts and fault.silent_after is not None and passed > fault.silent_after:
                silent.set()
            if counts and fault.cut_after is not None and passed > fault.cut_after:
                break
            if fault.bytes_per_s:
                time.sleep(len(data) / fault.bytes_per_s)
            if not silent.is_set():
                sink.sendall(data)
    except OSError:
        pass
    if not silent.is_set():
        _close(source)
        _close(sink)


def _close(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()
