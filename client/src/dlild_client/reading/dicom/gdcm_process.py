"""Decoder plugin for pydicom that runs gdcm in worker processes.

Among the decoders without the GPL, only gdcm supports lossless and 12-bit JPEG. But a broken stream
may crash it, or be filled with grey after a warning on standard error. So it runs in a separate
process: a crash, a time-out or a warning there means that the slice cannot be decoded.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from dlild_client.reading.dicom.codestream import StreamSize, stream_size

LONGEST_S = 4.0
"""Time limit of one slice, which takes some ms: beyond it the stream is broken."""

START_S = 30.0
"""Extra time for the first slice of a worker: starting Python may be slow on a busy machine."""

EXTENDED = "1.2.840.10008.1.2.4.51"
LOSSLESS = ("1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70")
JPEG_LS = ("1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81")
TRANSFER_SYNTAXES = (EXTENDED, *LOSSLESS, *JPEG_LS)

DECODER_DEPENDENCIES = dict.fromkeys(TRANSFER_SYNTAXES, ("gdcm>=3.0.10",))
"""Required of a pydicom plugin: its transfer syntaxes and their dependencies."""

_WORKER = Path(__file__).with_name("gdcm_worker.py")
_lock = threading.Lock()
_idle: list[_Process] = []
_open = 0


def is_available(uid: str) -> bool:
    """Whether this plugin can decode a transfer syntax (required by pydicom)."""
    return uid in DECODER_DEPENDENCIES and find_spec("gdcm") is not None


@contextmanager
def decoders() -> Iterator[None]:
    """Keep worker processes alive while any thread is inside; the last one out ends them."""
    global _open  # noqa: PLW0603  (the pool is shared by all threads)
    with _lock:
        _open += 1
    try:
        yield
    finally:
        with _lock:
            _open -= 1
            leaving = [] if _open else _idle[:]
            if leaving:
                _idle.clear()
        for process in leaving:
            process.end()


def decode_frame(src: bytes, runner: Any) -> bytes:
    """Decode one grey frame for pydicom.

    Parameters
    ----------
    src : bytes
        One JPEG or JPEG-LS image.
    runner : pydicom.pixels.decoders.base.DecodeRunner
        Knows rows, columns and bits.

    Returns
    -------
    bytes
        Little-endian pixels, row by row.

    Raises
    ------
    ValueError
        gdcm cannot decode it, or only in part.
    """
    size = stream_size(src)
    if size is None:
        raise ValueError("not a JPEG image")
    allocated, stored = _bits(size, runner)
    order = {
        "transfer_syntax": str(runner.transfer_syntax),
        "rows": runner.rows,
        "columns": runner.columns,
        "allocated": allocated,
        "stored": stored,
        "signed": runner.pixel_representation,
        "length": len(src),
    }
    process = _take()
    pixels = process.ask(order, src)
    _give_back(process)
    return pixels


def _bits(size: StreamSize, runner: Any) -> tuple[int, int]:
    """Bits allocated and stored of the output; for JPEG-LS, also set in pydicom's runner."""
    uid = str(runner.transfer_syntax)
    if uid == EXTENDED:
        # With 16 bits allocated gdcm would first try its 16-bit decoder, which prints warnings.
        return size.bits, size.bits
    if uid in JPEG_LS:
        allocated = 8 if size.bits <= 8 else 16
        runner.set_option("bits_allocated", allocated)
        return allocated, size.bits
    return runner.bits_allocated, runner.bits_stored


def _take() -> _Process:
    with _lock:
        if _idle:
            return _idle.pop()
    return _Process()


def _give_back(process: _Process) -> None:
    with _lock:
        if _open:
            _idle.append(process)
            return
    process.end()


class _Process:
    """One worker process."""

    def __init__(self) -> None:
        # Run by path, with -P: the child needs gdcm and no module of this package.
        self._child = subprocess.Popen(
            [sys.executable, "-P", str(_WORKER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        self._fresh = True

    def ask(self, order: dict[str, Any], frame: bytes) -> bytes:
        """Decode a frame; end the worker if it crashes or times out."""
        child = self._child
        assert child.stdin is not None
        assert child.stdout is not None
        clock = threading.Timer(LONGEST_S + (START_S if self._fresh else 0.0), child.kill)
        clock.daemon = True
        clock.start()
        try:
            child.stdin.write(json.dumps(order).encode() + b"\n" + frame)
            child.stdin.flush()
            head = json.loads(child.stdout.readline())
            pixels, error = child.stdout.read(head["length"]), head["error"]
        except (OSError, ValueError, TypeError, KeyError):
            self.end()
            raise ValueError("the decoder gave it up: the compressed pixels are broken") from None
        finally:
            clock.cancel()
        self._fresh = False
        if error:
            _give_back(self)
            raise ValueError(error)
        return pixels

    def end(self) -> None:
        """End the worker and wait for it."""
        child = self._child
        child.kill()
        for pipe in (child.stdin, child.stdout):
            if pipe is not None:
                try:
                    pipe.close()
                except OSError:  # unwritten bytes
                    continue
        child.wait()
