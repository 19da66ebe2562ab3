"""Script that decodes compressed frames with gdcm, run as a worker by `gdcm_process`.

A request is a line of JSON and the bytes of a frame; an answer is a line of JSON and the bytes of
its pixels. Output of the libraries below gdcm means that a broken stream was decoded in part.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from importlib import import_module
from typing import IO, Any

MEMORY_BYTES = 2 << 30
HARMLESS = b"extraneous bytes before marker 0xd9"  # padding before the end of the image


def main() -> None:
    """Answer requests from standard input until it ends."""
    _limit_memory()
    answers = os.fdopen(os.dup(1), "wb")
    with tempfile.TemporaryFile() as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
        gdcm = import_module("gdcm")  # after dup2: its output goes to the log, too
        for quiet in ("WarningOff", "ErrorOff", "DebugOff"):
            getattr(gdcm.Trace, quiet)()
        requests = sys.stdin.buffer
        for line in requests:
            order = json.loads(line)
            frame = requests.read(order["length"])
            pixels, error = _answer(gdcm, order, frame, log)
            head = {"length": len(pixels), "error": error}
            answers.write(json.dumps(head).encode() + b"\n" + pixels)
            answers.flush()


def _limit_memory() -> None:
    try:
        import resource  # noqa: PLC0415  (not on every system)
    except ImportError:
        return
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))


def _answer(gdcm: Any, order: dict[str, Any], frame: bytes, log: IO[bytes]) -> tuple[bytes, str]:
    log.seek(0)
    log.truncate()
    try:
        pixels = _decode(gdcm, order, frame)
    except Exception as error:
        return b"", str(error) or type(error).__name__
    log.seek(0)
    printed = [line for line in log.read().splitlines() if line.strip() and HARMLESS not in line]
    if printed:
        return b"", printed[0].decode("utf-8", "replace")
    return pixels, ""


def _decode(gdcm: Any, order: dict[str, Any], frame: bytes) -> bytes:
    fragments, fragment = gdcm.SequenceOfFragments.New(), gdcm.Fragment()
    fragment.SetByteStringValue(frame)
    fragments.AddFragment(fragment)
    pixel_data = gdcm.DataElement(gdcm.Tag(0x7FE0, 0x0010))
    pixel_data.SetValue(fragments.__ref__())
    image = gdcm.Image()
    image.SetNumberOfDimensions(2)
    image.SetDimensions((order["columns"], order["rows"], 1))
    grey = gdcm.PhotometricInterpretation(gdcm.PhotometricInterpretation.MONOCHROME2)
    image.SetPhotometricInterpretation(grey)
    kind = gdcm.TransferSyntax.GetTSType(order["transfer_syntax"])
    image.SetTransferSyntax(gdcm.TransferSyntax(kind))
    stored = order["stored"]
    image.SetPixelFormat(
        gdcm.PixelFormat(1, order["allocated"], stored, stored - 1, order["signed"])
    )
    image.SetDataElement(pixel_data)
    text = image.GetBuffer()
    if not text:
        raise ValueError("gdcm cannot decode it")
    # The Python binding returns bytes as str with surrogate escapes.
    return bytes(text.encode("utf-8", "surrogateescape"))


if __name__ == "__main__":
    main()
