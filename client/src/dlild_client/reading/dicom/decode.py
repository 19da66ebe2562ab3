"""Decodes the stored values of one slice, within bounds.

Uncompressed 16-bit slices, nearly all, are read directly into the volume; others go through
pydicom's decoders. Every size is checked before memory is allocated.
"""

from __future__ import annotations

import math
import struct
import sys
from io import BytesIO
from typing import Any, BinaryIO, cast

import numpy as np
import numpy.typing as npt

from dlild_client.errors import DlildError, TooLargeError, UnreadableFileError
from dlild_client.reading.dicom.codestream import stream_size
from dlild_client.reading.dicom.deflate import inflate, is_deflated
from dlild_client.reading.dicom.dicomlib import PLUGIN, load_pydicom
from dlild_client.reading.dicom.slices import PixelFormat, SliceHeader
from dlild_client.reading.sources import READ_ERRORS

IMPLICIT_LITTLE, EXPLICIT_LITTLE = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"
MAXIMUM_SIDE = 4096
"""Most rows or columns of a slice; CT has up to 2048."""

MAXIMUM_VOXELS = 2_000_000_000
"""Most voxels of a volume: 1,900 slices of 1024 x 1024. Not a bound of memory: large scans are
read slab by slab (`dlild_client.slabs`)."""

_JPEG = "1.2.840.10008.1.2.4."
PLUGINS = {
    f"{_JPEG}50": "pillow",
    f"{_JPEG}51": "pillow",
    f"{_JPEG}57": PLUGIN,
    f"{_JPEG}70": PLUGIN,
    f"{_JPEG}80": PLUGIN,
    f"{_JPEG}81": PLUGIN,
    f"{_JPEG}90": "pylibjpeg",
    f"{_JPEG}91": "pylibjpeg",
    f"{_JPEG}201": "pylibjpeg",
    f"{_JPEG}202": "pylibjpeg",
    f"{_JPEG}203": "pylibjpeg",
    "1.2.840.10008.1.2.5": "pydicom",
}
"""Decoder plugin of each transfer syntax: correct, freely licensed, robust to broken streams.

Broken JPEG-LS hangs pyjpegls for seconds, and broken RLE makes pylibjpeg-rle panic.
"""

END_OF_IMAGE = b"\xff\xd9"
"""End marker of JPEG, JPEG-LS and JPEG 2000; decoders fill a truncated image with grey."""

_UNDEFINED = 0xFFFFFFFF
_PIXEL_TAG = b"\xe0\x7f\x10\x00"

Stored = npt.NDArray[Any]


def check_size(slices: tuple[SliceHeader, ...]) -> None:
    """Raise `TooLargeError` where slices exceed the bounds of a slice or of a volume."""
    pixels = slices[0].pixels
    check_voxels(slices[0].name, (pixels.columns, pixels.rows, len(slices)))


def check_voxels(name: str, size: tuple[int, int, int]) -> None:
    """Raise `TooLargeError` where a volume exceeds the bounds of a slice or of a volume.

    Parameters
    ----------
    name : str
        Of the file, for the message.
    size : tuple of int
        Columns, rows, slices.
    """
    columns, rows, slices = size
    if not (0 < rows <= MAXIMUM_SIDE and 0 < columns <= MAXIMUM_SIDE):
        raise TooLargeError(
            f"{name}: {columns} x {rows} x {slices} voxels, slices of {rows} x {columns} pixels, "
            f"more than {MAXIMUM_SIDE} a side; give one chest CT series"
        )
    if math.prod(size) > MAXIMUM_VOXELS:
        raise TooLargeError(
            f"{name}: {columns} x {rows} x {slices} voxels are more than "
            f"{MAXIMUM_VOXELS / 1e6:.0f} million; give one chest CT series"
        )


def read_stored(header: SliceHeader, out: npt.NDArray[np.int16] | None = None) -> Stored:
    """Decode the stored values of one slice.

    Parameters
    ----------
    header : SliceHeader
        With rows and columns checked by `check_size`.
    out : ndarray of int16, shape (rows, columns), optional
        Contiguous; filled and returned (as uint16 where values are unsigned) if the slice is
        stored as uncompressed 16-bit numbers.

    Returns
    -------
    ndarray, shape (rows, columns)
        Integers as stored, before any rescale; an uncompressed slice still holds the bits beyond
        BitsStored.

    Raises
    ------
    UnreadableFileError
        The file is truncated, or no decoder can decode it.
    """
    try:
        with header.source.open() as file:
            whole = BytesIO(inflate(file, header.name)) if is_deflated(file) else file
            if _is_plain(header.pixels):
                return _read_plain(header, whole, out)
            return _decode(header, whole)
    except DlildError:
        raise
    except READ_ERRORS as error:
        raise UnreadableFileError(
            f"{header.name}: cannot be read: {_last_line(error)}; copy or export it again"
        ) from None


def _is_plain(p: PixelFormat) -> bool:
    return (
        sys.byteorder == "little"
        and p.transfer_syntax in {"", IMPLICIT_LITTLE, EXPLICIT_LITTLE}
        and p.bits_allocated == 16
        and p.samples == 1
    )


def _read_plain(header: SliceHeader, file: BinaryIO, out: npt.NDArray[np.int16] | None) -> Stored:
    p = header.pixels
    length = _native_length(header, file)
    frame_bytes = 2 * p.rows * p.columns
    if length < (header.frame + 1) * frame_bytes:
        raise _too_short(header, length)
    target = np.empty((p.rows, p.columns), dtype="<i2") if out is None else out
    file.seek(header.frame * frame_bytes, 1)
    got = file.readinto(target.data.cast("B"))  # type: ignore[attr-defined]
    if got != frame_bytes:
        raise _too_short(header, header.frame * frame_bytes + got)
    return target if p.signed else target.view(np.uint16)


def _too_short(header: SliceHeader, length: int) -> UnreadableFileError:
    p = header.pixels
    needed = p.frames * p.rows * p.columns * p.samples * math.ceil(p.bits_allocated / 8)
    return UnreadableFileError(
        f"{header.name}: pixels cannot be decoded ({_syntax_name(p.transfer_syntax)}): {length} "
        f"bytes where {p.rows} x {p.columns} need {needed}; copy or export it again"
    )


def _seek_value(header: SliceHeader, file: BinaryIO) -> int:
    """Seek to the value of the pixel data; return its length, or `_UNDEFINED`."""
    offset = header.pixels.offset
    assert offset is not None
    file.seek(offset)
    head = file.read(8)
    if head[:4] != _PIXEL_TAG and head[:4] != b"\x7f\xe0\x00\x10":
        raise UnreadableFileError(f"{header.name}: no pixel data; export the series again")
    if head[4:6] not in {b"OW", b"OB", b"UN"}:
        # No VR: implicit, whatever the transfer syntax says. A length is even, so its first bytes
        # are none of these.
        return int(struct.unpack("<I", head[4:])[0])
    order = "<" if head[:4] == _PIXEL_TAG else ">"
    length = file.read(4)
    if len(length) < 4:
        raise _too_short(header, 0)
    return int(struct.unpack(f"{order}I", length)[0])


def _native_length(header: SliceHeader, file: BinaryIO) -> int:
    """Seek to uncompressed pixels; return their length."""
    length = _seek_value(header, file)
    if length == _UNDEFINED:
        raise UnreadableFileError(
            f"{header.name}: compressed pixels, but the header says "
            f"{_syntax_name(header.pixels.transfer_syntax)}; export the series again"
        )
    return length


def _decode(header: SliceHeader, file: BinaryIO) -> Stored:
    """Decode one frame with pydicom."""
    pydicom = load_pydicom()
    p = header.pixels
    try:
        decoder = pydicom.pixels.get_decoder(p.transfer_syntax or EXPLICIT_LITTLE)
        if decoder.is_encapsulated:
            _seek_value(header, file)
            data = _frame(header, file, pydicom)
        else:
            data = _native_frame(header, file)
        stored, _ = decoder.as_array(
            data,
            index=0,
            raw=True,
            decoding_plugin=_plugin(p),
            **_options(p, decoder.is_encapsulated),
        )
    except DlildError:
        raise
    except Exception as error:
        raise UnreadableFileError(
            f"{header.name}: pixels cannot be decoded ({_syntax_name(p.transfer_syntax)}): "
            f"{_last_line(error)}; export the series uncompressed"
        ) from None
    if stored.shape != (p.rows, p.columns) or stored.dtype.kind not in "iu":
        raise UnreadableFileError(
            f"{header.name}: pixels of shape {stored.shape}, not {(p.rows, p.columns)}"
        )
    return np.asarray(stored, dtype=stored.dtype.newbyteorder("="))


def _plugin(p: PixelFormat) -> str:
    """Select the plugin; Pillow supports 8 bits only, so 12-bit extended JPEG uses gdcm."""
    if p.transfer_syntax == f"{_JPEG}51" and p.bits_allocated > 8:
        return PLUGIN
    return PLUGINS.get(p.transfer_syntax, "")


def _options(p: PixelFormat, compressed: bool) -> dict[str, Any]:
    return {
        "rows": p.rows,
        "columns": p.columns,
        "number_of_frames": 1,
        "samples_per_pixel": p.samples,
        "photometric_interpretation": p.photometric,
        "bits_allocated": p.bits_allocated,
        "bits_stored": p.bits_stored,
        "pixel_representation": int(p.signed),
        "pixel_keyword": "PixelData",
        "planar_configuration": 0,
        "pixel_vr": "OW",
        # Padding may use bits beyond BitsStored: `hu` handles it first.
        "correct_unused_bits": compressed,
    }


def _native_frame(header: SliceHeader, file: BinaryIO) -> bytes:
    """Read one uncompressed frame."""
    p = header.pixels
    length = _native_length(header, file)
    if p.bits_allocated not in {8, 16, 32}:
        raise UnreadableFileError(
            f"{header.name}: {p.bits_allocated} bits a pixel, not 8, 16 or 32; give the original CT"
        )
    needed = p.rows * p.columns * p.samples * p.bits_allocated // 8
    file.seek(header.frame * needed, 1)
    data = file.read(needed)
    if length < (header.frame + 1) * needed or len(data) < needed:
        raise _too_short(header, header.frame * needed + len(data))
    return data


def _frame(header: SliceHeader, file: BinaryIO, pydicom: Any) -> bytes:
    """Extract one compressed frame, after checking its size against the header."""
    p = header.pixels
    frame = cast(bytes, pydicom.encaps.get_frame(file, header.frame, number_of_frames=p.frames))
    size = stream_size(frame)
    if size is None:
        return bytes(pydicom.encaps.encapsulate([frame]))
    if (size.rows, size.columns, size.samples) != (p.rows, p.columns, p.samples):
        raise UnreadableFileError(
            f"{header.name}: compressed pixels of {size.rows} x {size.columns} x {size.samples}, "
            f"the header says {p.rows} x {p.columns} x {p.samples}; export the series again"
        )
    if END_OF_IMAGE not in frame[-64:]:
        raise UnreadableFileError(
            f"{header.name}: the compressed pixels are cut off; copy or export it again"
        )
    if size.bits > 32:
        raise UnreadableFileError(
            f"{header.name}: {size.bits} bits a pixel; export the series again"
        )
    return bytes(pydicom.encaps.encapsulate([frame]))


def _syntax_name(uid: str) -> str:
    name = load_pydicom().uid.UID(uid).name if uid else "no transfer syntax"
    return f"transfer syntax {name} {uid}" if name != uid else f"transfer syntax {uid}"


def _last_line(error: BaseException) -> str:
    # The first line is pydicom's, the last one the decoder's own reason.
    lines = str(error).strip().splitlines()
    text = lines[-1].strip().removeprefix(f"{PLUGIN}: ") if lines else type(error).__name__
    return text if len(text) <= 120 else text[:117] + "..."
