"""TCP proxy on loopback that counts bytes, and can drop its connections silently."""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import threading

CHUNK = 1 << 18
LOOK_S = 0.05
PATIENCE_S = 5.0
# Linger for 0 s: the kernel sends a reset and forgets, as a machine that lost its power.
RESET = struct.pack("ii", 1, 0)


class Proxy:
    """Passes bytes between clients and one server, for as long as the ``with`` block lasts.

    Parameters
    ----------
    port : int
        The server's port on 127.0.0.1.

    Attributes
    ----------
    sent, received : int
        Bytes from clients to the server, and back: all that crosses the wire but the headers of
        TCP and IP.
    """

    def __init__(self, port: int) -> None:
        self._target = ("127.0.0.1", port)
        self.sent = 0
        self.received = 0
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
            for end in (client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._ends += [client, server]
            for source, target, counter in (
                (client, server, "sent"),
                (server, client, "received"),
            ):
                passing = threading.Thread(
                    target=self._pass, args=(source, target, counter), daemon=True
                )
                self._passing.append(passing)
                passing.start()

    def _pass(self, source: socket.socket, target: socket.socket, counter: str) -> None:
        buffer = bytearray(CHUNK)
        try:
            while not self._cut.is_set():
                if not _has_something(source):
                    continue
                count = source.recv_into(buffer)
                if not count:
                    target.shutdown(socket.SHUT_WR)
                    return
                with self._lock:
                    setattr(self, counter, getattr(self, counter) + count)
                target.sendall(memoryview(buffer)[:count])
        except OSError:
            pass


def _has_something(source: socket.socket) -> bool:
    readable, _, _ = select.select([source], [], [], LOOK_S)
    return bool(readable)
