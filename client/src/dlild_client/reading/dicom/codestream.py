"""Parses the size of a compressed image from its codestream, before it is decoded.

Decoders allocate the size of the codestream, not that of the DICOM header: a few hostile bytes
could request gigabytes.

References
----------
ITU-T T.81, B.2.2 (frame header); T.87, C.2.2 (SOF55); T.800, A.5.1 (SIZ).
"""

from __future__ import annotations

from dataclasses import dataclass

SOF = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}
"""Start-of-frame markers of JPEG (without DHT, JPG, DAC) and JPEG-LS."""

J2K_START = b"\xff\x4f\xff\x51"


@dataclass(frozen=True)
class StreamSize:
    """Size of a codestream: rows, columns, samples per pixel, bits per sample."""

    rows: int
    columns: int
    samples: int
    bits: int


def stream_size(stream: bytes) -> StreamSize | None:
    """Parse the size of a JPEG, JPEG-LS or JPEG 2000 codestream; None where there is none."""
    if stream[:2] == b"\xff\xd8":
        return _jpeg(stream)
    start = stream.find(J2K_START, 0, 512)  # at the beginning, or behind the boxes of a JP2 file
    return _jpeg2000(stream[start:]) if start >= 0 else None


def _jpeg(stream: bytes) -> StreamSize | None:
    offset = 2
    while offset + 9 < len(stream):
        if stream[offset] != 0xFF:
            return None
        marker = stream[offset + 1]
        if marker == 0xFF:  # fill byte
            offset += 1
            continue
        if marker in SOF:
            _, _, bits, rows, columns, samples = _numbers(stream[offset + 2 :], 1, 1, 1, 2, 2, 1)
            return StreamSize(rows, columns, samples, bits)
        length = int.from_bytes(stream[offset + 2 : offset + 4], "big")
        offset += 2 + max(2, length)
    return None


def _jpeg2000(stream: bytes) -> StreamSize | None:
    if len(stream) < 43:
        return None
    right, bottom, left, top = _numbers(stream[8:], 4, 4, 4, 4)
    samples, depth = _numbers(stream[40:], 2, 1)
    return StreamSize(bottom - top, right - left, samples, (depth & 0x7F) + 1)


def _numbers(data: bytes, *widths: int) -> list[int]:
    """Parse consecutive unsigned big-endian numbers of the given widths."""
    out, offset = [], 0
    for width in widths:
        out.append(int.from_bytes(data[offset : offset + width], "big"))
        offset += width
    return out
