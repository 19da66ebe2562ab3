"""Mutants of DICOM files: each is made from its number alone, and so can be re-made."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable

NASTY = [
    b"\0", b"\xff", b"\xff" * 4, b"\0" * 4, b"\xfe\xff\x00\xe0", b"\xfe\xff\x0d\xe0",
    b"\xfe\xff\xdd\xe0", b"UN\0\0", b"SQ\0\0", b"OB\0\0", b"-1", b"1e999", b"nan", b"9" * 16,
    b"\xff\xd8", b"\xff\xd9", b"\xff\xff\xff\x7f", b"\x00\x00\x00\x80", b"1.2.840.10008.1.2.4.90",
]  # fmt: skip
NUMBERS = [0, 1, 2, 7, 8, 12, 16, 17, 31, 32, 64, 127, 255, 4096, 4097, 32767, 32768, 65535]
SIZES = [0, 1, 2, 3, 8, 100, 2**16, 2**24, 2**31 - 1, 2**31, 2**32 - 2, 2**32 - 1]

# Elements that say how much there is to decode, and how: rows, columns, frames, bits, and so on.
TELLING = [
    (0x28, 0x02), (0x28, 0x04), (0x28, 0x08), (0x28, 0x10), (0x28, 0x11), (0x28, 0x30),
    (0x28, 0x100), (0x28, 0x101), (0x28, 0x102), (0x28, 0x103), (0x28, 0x120), (0x28, 0x1052),
    (0x28, 0x1053), (0x20, 0x32), (0x20, 0x37), (0x18, 0x50), (0x02, 0x10), (0x08, 0x08),
    (0x08, 0x60), (0x20, 0x13), (0x7FE0, 0x10), (0x5200, 0x9229), (0x5200, 0x9230),
]  # fmt: skip


def mutate(content: bytes, number: int) -> bytes:
    """Make mutant `number` of a file: one to four changes, drawn from its number."""
    rng = random.Random(number)
    data = bytearray(content)
    for _ in range(rng.choice([1, 1, 2, 4])):
        if data:
            rng.choice(CHANGES)(data, rng)
    return bytes(data)


def _flip(data: bytearray, rng: random.Random) -> None:
    for _ in range(rng.choice([1, 3, 20])):
        data[rng.randrange(len(data))] = rng.randrange(256)


def _flip_in_header(data: bytearray, rng: random.Random) -> None:
    for _ in range(rng.choice([1, 3, 20])):
        data[rng.randrange(min(len(data), 4000))] = rng.randrange(256)


def _flip_in_stream(data: bytearray, rng: random.Random) -> None:
    """Change the beginning of the pixels, where a compressed stream has its own header."""
    start = max(0, bytes(data).rfind(b"\xe0\x7f\x10\x00"))
    for _ in range(rng.choice([1, 3, 20])):
        data[min(len(data) - 1, start + rng.randrange(400))] = rng.randrange(256)


def _overwrite(data: bytearray, rng: random.Random) -> None:
    value, place = rng.choice(NASTY), rng.randrange(len(data))
    data[place : place + len(value)] = value


def _truncate(data: bytearray, rng: random.Random) -> None:
    del data[rng.randrange(len(data)) :]


def _remove(data: bytearray, rng: random.Random) -> None:
    place = rng.randrange(len(data))
    del data[place : place + rng.choice([1, 2, 8, 100, 5000])]


def _repeat(data: bytearray, rng: random.Random) -> None:
    place = rng.randrange(len(data))
    part = data[place : place + rng.choice([1, 8, 200])]
    data[place:place] = part * rng.choice([1, 2, 50])


def _element_value(data: bytearray, rng: random.Random) -> None:
    """Give an element that tells a size or a format another value."""
    place = _find(data, rng)
    if place is None or place + 10 > len(data):
        return
    number = rng.choice(NUMBERS)
    data[place + 8 : place + 10] = struct.pack("<H", number)


def _element_text(data: bytearray, rng: random.Random) -> None:
    """Fill an element with text that is no number of any use, of the same length."""
    place = _find(data, rng)
    if place is None or place + 8 > len(data):
        return
    length = struct.unpack("<H", data[place + 6 : place + 8])[0]
    if length > 64:
        return
    text = rng.choice([b"", b"nan", b"-1", b"1e308", b"\\\\\\", b"0", b"99999999", b"abc\xff"])
    data[place + 8 : place + 8 + length] = text.ljust(length)[:length]


def _element_length(data: bytearray, rng: random.Random) -> None:
    place = _find(data, rng)
    if place is None or place + 12 > len(data):
        return
    if rng.random() < 0.5:
        data[place + 8 : place + 12] = struct.pack("<I", rng.choice(SIZES))
    else:
        data[place + 6 : place + 8] = struct.pack("<H", rng.choice(SIZES) & 0xFFFF)


def _find(data: bytearray, rng: random.Random) -> int | None:
    place = data.find(struct.pack("<HH", *rng.choice(TELLING)))
    return None if place < 0 else place


CHANGES: list[Callable[[bytearray, random.Random], None]] = [
    _flip, _flip_in_header, _flip_in_header, _flip_in_stream, _flip_in_stream, _overwrite,
    _truncate, _remove, _repeat, _element_value, _element_value, _element_text, _element_length,
]  # fmt: skip
