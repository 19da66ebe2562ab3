"""Inflates deflated data sets within a bound: a few MB can unpack to many GB."""

from __future__ import annotations

import zlib
from typing import BinaryIO

from dlild_client.errors import TooLargeError, UnreadableFileError

DEFLATED = b"1.2.840.10008.1.2.1.99"
EXPLICIT = b"1.2.840.10008.1.2.1\0\0\0"
GROUP_LENGTH = b"\x02\x00\x00\x00UL\x04\x00"
MAXIMUM_BYTES = 1 << 28
"""256 MB, or 500 slices of 512 x 512."""

_HEAD = 2048  # file meta information is far shorter


def is_deflated(file: BinaryIO) -> bool:
    """Whether the file meta information names the deflated transfer syntax."""
    offset = file.tell()
    head = file.read(_HEAD)
    file.seek(offset)
    return head[128:132] == b"DICM" and DEFLATED in head


def inflate(file: BinaryIO, name: str) -> bytes:
    """Convert a deflated file to explicit VR little endian.

    Parameters
    ----------
    file : binary file
        At its beginning.
    name : str
        For messages.

    Raises
    ------
    TooLargeError
        It inflates to more than 256 MB.
    UnreadableFileError
        The stream is broken, or its start cannot be found.
    """
    content = file.read()
    if content[132:140] != GROUP_LENGTH:
        raise UnreadableFileError(f"{name}: deflated, without the length of its meta information")
    start = 144 + int.from_bytes(content[140:144], "little")
    stream = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        body = stream.decompress(content[start:], MAXIMUM_BYTES)
    except zlib.error:
        raise UnreadableFileError(
            f"{name}: deflated, and broken; export the series again"
        ) from None
    if stream.unconsumed_tail:
        raise TooLargeError(f"{name}: inflates to more than 256 MB; export the series uncompressed")
    return content[:start].replace(DEFLATED, EXPLICIT, 1) + body
