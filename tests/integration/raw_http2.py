"""HTTP/2 by hand, for what no gRPC library would send: one connection, frames as they are."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import time
from types import TracebackType

from dlild_client import TLS

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_STREAM, ACK, END_HEADERS = 0x1, 0x1, 0x4
STREAM_CALL = "/inference.GRPCInferenceService/ModelStreamInfer"
UNARY_CALL = "/inference.GRPCInferenceService/ModelInfer"
HEADER_BYTES = 9


class RawConnection:
    """A connection that speaks HTTP/2 frames.

    Parameters
    ----------
    port : int
        On loopback.
    tls : TLS, optional
        Without it the connection is plain.
    source : str, optional
        Address of loopback to come from.
    timeout_s : float, optional
        Of every wait.
    """

    def __init__(
        self,
        port: int,
        tls: TLS | None = None,
        *,
        source: str = "127.0.0.1",
        timeout_s: float = 5.0,
    ) -> None:
        plain = socket.create_connection(("127.0.0.1", port), timeout_s, (source, 0))
        self.line = plain
        try:
            if tls is not None:
                self.line = tls.context().wrap_socket(plain, server_hostname="localhost")
            self.line.sendall(PREFACE + frame(SETTINGS, 0, 0))
        except BaseException:
            plain.close()
            raise
        self._buffer = b""

    def __enter__(self) -> RawConnection:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Hang up."""
        with contextlib.suppress(OSError):
            self.line.close()

    def open_stream(self, number: int, path: str, key: str | None, *, ends: bool = False) -> None:
        """Begin a call; `number` is odd and grows."""
        flags = END_HEADERS | (END_STREAM if ends else 0)
        self.line.sendall(frame(HEADERS, flags, number, header_block(path, key)))

    def send_data(self, number: int, data: bytes) -> None:
        """Send content of a call, in one frame of at most 16 KiB."""
        self.line.sendall(frame(DATA, 0, number, data))

    def reset(self, number: int) -> None:
        """Take a call back (CANCEL)."""
        self.line.sendall(frame(RST_STREAM, 0, number, struct.pack(">I", 8)))

    def frames(self, within_s: float) -> list[tuple[int, int, int, bytes]]:
        """Collect frames (kind, flags, stream, content) for so long, or until the peer hangs up."""
        found = []
        deadline = time.monotonic() + within_s
        while (left := deadline - time.monotonic()) > 0:
            self.line.settimeout(left)
            try:
                data = self.line.recv(65536)
            except (TimeoutError, ssl.SSLError, OSError):
                break
            if not data:
                break
            self._buffer += data
            found += self._cut()
        return found

    def is_hung_up(self, within_s: float) -> bool:
        """Whether the peer closes the connection within this time."""
        deadline = time.monotonic() + within_s
        while (left := deadline - time.monotonic()) > 0:
            self.line.settimeout(left)
            try:
                if not self.line.recv(65536):
                    return True
            except TimeoutError:
                return False
            except OSError:
                return True
        return False

    def _cut(self) -> list[tuple[int, int, int, bytes]]:
        found = []
        while len(self._buffer) >= HEADER_BYTES:
            length = int.from_bytes(self._buffer[:3], "big")
            if len(self._buffer) < HEADER_BYTES + length:
                break
            kind, flags, stream = struct.unpack(">BBI", self._buffer[3:HEADER_BYTES])
            found.append((kind, flags, stream, self._buffer[HEADER_BYTES : HEADER_BYTES + length]))
            self._buffer = self._buffer[HEADER_BYTES + length :]
        return found


def frame(kind: int, flags: int, stream: int, content: bytes = b"") -> bytes:
    """Make a frame."""
    return len(content).to_bytes(3, "big") + struct.pack(">BBI", kind, flags, stream) + content


def header_block(path: str, key: str | None) -> bytes:
    """Make the headers of a gRPC call, each as a literal that no table keeps (RFC 7541, 6.2.2)."""
    headers = {
        ":method": "POST",
        ":scheme": "https",
        ":path": path,
        ":authority": "localhost",
        "content-type": "application/grpc",
        "te": "trailers",
    }
    if key is not None:
        headers["triton-grpc-protocol-x-ild-key"] = key
    words = (word.encode() for pair in headers.items() for word in pair)
    literals = [bytes([len(word)]) + word for word in words]
    assert all(len(literal) <= 127 for literal in literals)
    return b"".join(b"\x00" + a + b for a, b in zip(literals[::2], literals[1::2], strict=True))


def message_prefix(length: int) -> bytes:
    """Announce a gRPC message of so many bytes."""
    return struct.pack(">BI", 0, length)
