"""A TCP proxy on loopback that counts bytes, and can cut its connections without a word."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from types import TracebackType

CHUNK = 1 << 18
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
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._accept, daemon=True)

    @property
    def url(self) -> str:
        """Address for clients."""
        return f"grpc://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> Proxy:
        """Begin to listen."""
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close everything."""
        self.cut()

    def cut(self) -> None:
        """Take nobody any more, and reset all connections, on both sides."""
        self._listener.close()
        with self._lock:
            pairs, self._pairs = self._pairs, []
        for pair in pairs:
            for end in pair:
                with contextlib.suppress(OSError):
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
                end.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(self._target)
            except OSError:
                client.close()
                continue
            for end in (client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self._pairs.append((client, server))
            for source, target, counter in (
                (client, server, "sent"),
                (server, client, "received"),
            ):
                threading.Thread(
                    target=self._pass, args=(source, target, counter), daemon=True
                ).start()

    def _pass(self, source: socket.socket, target: socket.socket, counter: str) -> None:
        buffer = bytearray(CHUNK)
        try:
            while count := source.recv_into(buffer):
                with self._lock:
                    setattr(self, counter, getattr(self, counter) + count)
                target.sendall(memoryview(buffer)[:count])
            target.shutdown(socket.SHUT_WR)
        except OSError:
            pass
