"""12-bit JPEG (extended, process 4) for pydicom, through gdcm.

pydicom hands 12-bit lossy JPEG only to a plugin under the GPL. gdcm carries a 12-bit decoder, which
gives the grey values of the uncompressed twin within the loss of the compression.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Any

from dlild_client.codestream import stream_size

BITS = 12

DECODER_DEPENDENCIES = {"1.2.840.10008.1.2.4.51": ("gdcm>=3.0.10",)}
"""What pydicom asks of a plugin: the transfer syntax, and what it needs."""


def is_available(uid: str) -> bool:
    """Tell pydicom whether this plugin can decode a transfer syntax."""
    return uid in DECODER_DEPENDENCIES and find_spec("gdcm") is not None


def decode_frame(src: bytes, runner: Any) -> bytes:
    """Decode one frame for pydicom.

    Parameters
    ----------
    src : bytes
        One JPEG image.
    runner : pydicom.pixels.decoders.base.DecodeRunner
        Knows rows, columns and bits.

    Returns
    -------
    bytes
        Little-endian uint16, row by row.

    Raises
    ------
    ValueError
        Not 12 bits, or gdcm cannot decode it.
    """
    gdcm = import_module("gdcm")
    size = stream_size(src)
    if size is None or size.bits != BITS:
        raise ValueError("not a JPEG image of 12 bits")
    fragments = gdcm.SequenceOfFragments.New()
    fragment = gdcm.Fragment()
    fragment.SetByteStringValue(src)
    fragments.AddFragment(fragment)
    pixel_data = gdcm.DataElement(gdcm.Tag(0x7FE0, 0x0010))
    pixel_data.SetValue(fragments.__ref__())
    image = gdcm.Image()
    image.SetNumberOfDimensions(2)
    image.SetDimensions((runner.columns, runner.rows, 1))
    image.SetPhotometricInterpretation(
        gdcm.PhotometricInterpretation(gdcm.PhotometricInterpretation.MONOCHROME2)
    )
    image.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.JPEGExtendedProcess2_4))
    # With 16 bits allocated gdcm would first try its 16-bit decoder, which complains aloud.
    image.SetPixelFormat(gdcm.PixelFormat(1, BITS, BITS, BITS - 1, runner.pixel_representation))
    image.SetDataElement(pixel_data)
    text = image.GetBuffer()
    if not text:
        raise ValueError("gdcm cannot decode this JPEG image")
    # The binding hands bytes over as text with escapes.
    return bytes(text.encode("utf-8", "surrogateescape"))
