"""A TCP proxy on loopback that counts bytes, and is slow, cuts lines or goes silent if asked."""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

CHUNK, SLOW_CHUNK = 1 << 18, 1 << 14
LOOK_S = 0.05
PATIENCE_S = 5.0
# Linger for 0 s: the kernel sends a reset and forgets, as a machine that lost its power.
RESET = struct.pack("ii", 1, 0)


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
    """Passes bytes between clients and one server, for as long as the ``with`` block lasts.

    Parameters
    ----------
    port : int
        The server's port on 127.0.0.1.
    fault : callable, optional
        Called with the number of the connection, from 0.

    Attributes
    ----------
    sent, received : int
        Bytes from clients to the server, and back: all that crosses the wire but the headers of
        TCP and IP.
    connections : int
    """

    def __init__(self, port: int, fault: Callable[[int], Fault | None] | None = None) -> None:
        self._target = ("127.0.0.1", port)
        self._fault = fault or (lambda _: None)
        self.sent = 0
        self.received = 0
        self.connections = 0
        self._lock = threading.Lock()
        self._cut = threading.Event()
        self._ends: list[socket.socket] = []
        self._passing: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._accept, daemon=True)

    @property
    def url(self) -> str:
        """Address for clients."""
        return f"grpc://127.0.0.1:{self._port}"

    def __enter__(self) -> Proxy:
        """Begin to listen."""
        self._thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        """Close everything."""
        self.cut()

    def cut(self) -> None:
        """Take nobody any more, and reset all connections, on both sides."""
        self._cut.set()
        self._thread.join(PATIENCE_S)
        self._listener.close()
        # A socket that a thread still reads is not reset by closing it.
        for passing in self._passing:
            passing.join(PATIENCE_S)
        for end in self._ends:
            with contextlib.suppress(OSError):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            end.close()

    def _accept(self) -> None:
        while not self._cut.is_set():
            if not _has_something(self._listener):
                continue
            client, _ = self._listener.accept()
            try:
                server = socket.create_connection(self._target)
            except OSError:
                client.close()
                continue
            fault = self._fault(self.connections) or Fault()
            self.connections += 1
            silent = threading.Event()
            for end in (client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._ends += [client, server]
            for source, target, counter in (
                (client, server, "sent"),
                (server, client, "received"),
            ):
                passing = threading.Thread(
                    target=self._pass, args=(source, target, counter, fault, silent), daemon=True
                )
                self._passing.append(passing)
                passing.start()

    def _pass(
        self,
        source: socket.socket,
        target: socket.socket,
        counter: str,
        fault: Fault,
        silent: threading.Event,
    ) -> None:
        buffer, passed = bytearray(SLOW_CHUNK if fault.bytes_per_s else CHUNK), 0
        # Faults count what the client sends.
        silent_after, cut_after = fault.silent_after, fault.cut_after
        if counter != "sent":
            silent_after = cut_after = None
        with contextlib.suppress(OSError):
            while not self._cut.is_set():
                if not _has_something(source):
                    continue
                count = source.recv_into(buffer)
                passed += count
                if silent_after is not None and passed > silent_after:
                    silent.set()
                if count and cut_after is not None and passed > cut_after:
                    source.shutdown(socket.SHUT_RDWR)
                    target.shutdown(socket.SHUT_RDWR)
                    return
                if fault.bytes_per_s:
                    time.sleep(count / fault.bytes_per_s)
                if not silent.is_set():
                    with self._lock:
                        setattr(self, counter, getattr(self, counter) + count)
                    target.sendall(memoryview(buffer)[:count])
                if not count:
                    if not silent.is_set():
                        target.shutdown(socket.SHUT_WR)
                    return


def _has_something(source: socket.socket) -> bool:
    readable, _, _ = select.select([source], [], [], LOOK_S)
    return bool(readable)
