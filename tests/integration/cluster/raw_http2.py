"""HTTP/2 by hand, for what no gRPC library would send: one connection, frames as they are."""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from collections.abc import Iterator

from dlild_client import TLS

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS = 0, 1, 3, 4
END_STREAM, END_HEADERS = 0x1, 0x4
STREAM_CALL = "/inference.GRPCInferenceService/ModelStreamInfer"
UNARY_CALL = "/inference.GRPCInferenceService/ModelInfer"
READY_CALL = "/inference.GRPCInferenceService/ServerReady"
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
        self._buffer = b""
        self._timeout_s = timeout_s
        plain = socket.create_connection(("127.0.0.1", port), timeout_s, (source, 0))
        self.line = plain
        try:
            if tls is not None:
                self.line = tls.context().wrap_socket(plain, server_hostname="localhost")
            self._send(PREFACE + frame(SETTINGS, 0, 0))
        except BaseException:
            plain.close()
            raise

    def __enter__(self) -> RawConnection:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Hang up."""
        with contextlib.suppress(OSError):
            self.line.close()

    def open_stream(self, number: int, path: str, key: str | None) -> None:
        """Begin a call; `number` is odd and grows."""
        self._send(frame(HEADERS, END_HEADERS, number, header_block(path, key)))

    def send_data(self, number: int, data: bytes, *, ends: bool = False) -> None:
        """Send content of a call, in one frame of at most 16 KiB."""
        self._send(frame(DATA, END_STREAM if ends else 0, number, data))

    def reset(self, number: int) -> None:
        """Take a call back (CANCEL)."""
        self._send(frame(RST_STREAM, 0, number, struct.pack(">I", 8)))

    def ends(self, stream: int, within_s: float) -> int | None:
        """Wait until the peer ends a call; return the kind of the frame, None where it does not.

        Headers end it where they carry END_STREAM, as gRPC's refusals do.
        """
        deadline = time.monotonic() + within_s
        while (left := deadline - time.monotonic()) > 0:
            self.line.settimeout(left)
            try:
                data = self.line.recv(65536)
            except OSError:
                return None
            if not data:
                return None
            self._buffer += data
            for kind, flags, found in self._cut():
                if found == stream and (kind == RST_STREAM or flags & END_STREAM):
                    return kind
        return None

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

    def _send(self, data: bytes) -> None:
        self.line.settimeout(self._timeout_s)
        self.line.sendall(data)

    def _cut(self) -> Iterator[tuple[int, int, int]]:
        """Take whole frames from what has arrived: kind, flags, stream."""
        while len(self._buffer) >= HEADER_BYTES:
            end = HEADER_BYTES + int.from_bytes(self._buffer[:3], "big")
            if len(self._buffer) < end:
                return
            yield struct.unpack(">BBI", self._buffer[3:HEADER_BYTES])
            self._buffer = self._buffer[end:]


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
