"""gdcm as a decoder of pydicom, in processes of its own.

gdcm alone, of the decoders without the GPL, knows lossless and 12-bit JPEG. But a broken stream may
end its process, or be patched with grey after a word on standard error. So it runs beside us: a
process that ends or takes too long is a slice that cannot be decoded, and a patched one as well.
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
"""A slice takes some ms; longer than this, and the stream is broken."""

START_S = 30.0
"""The first answer takes the start of a Python besides, on a busy machine perhaps a slow one."""

EXTENDED = "1.2.840.10008.1.2.4.51"
LOSSLESS = ("1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70")
JPEG_LS = ("1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81")
TRANSFER_SYNTAXES = (EXTENDED, *LOSSLESS, *JPEG_LS)

DECODER_DEPENDENCIES = dict.fromkeys(TRANSFER_SYNTAXES, ("gdcm>=3.0.10",))
"""What pydicom asks of a plugin: its transfer syntaxes, and what it needs."""

_WORKER = Path(__file__).with_name("gdcm_worker.py")
_lock = threading.Lock()
_idle: list[_Process] = []
_open = 0


def is_available(uid: str) -> bool:
    """Tell pydicom whether this plugin can decode a transfer syntax."""
    return uid in DECODER_DEPENDENCIES and find_spec("gdcm") is not None


@contextmanager
def decoders() -> Iterator[None]:
    """Keep processes for further slices while any thread is inside; the last one out ends them."""
    global _open  # noqa: PLW0603  (the processes belong to all threads, so is their count)
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
        gdcm cannot decode it, or only with patches.
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
    """Bits allocated and stored of what comes out; of JPEG-LS, pydicom must be told."""
    uid = str(runner.transfer_syntax)
    if uid == EXTENDED:
        # With 16 bits allocated gdcm would first try its 16-bit decoder, which complains.
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
    """One worker."""

    def __init__(self) -> None:
        # By its path, without our folder on the child's path: it needs gdcm and nothing of ours.
        self._child = subprocess.Popen(
            [sys.executable, "-P", str(_WORKER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        self._fresh = True

    def ask(self, order: dict[str, Any], frame: bytes) -> bytes:
        """Have a frame decoded; a worker that fails at more than the frame is ended."""
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
                except OSError:  # bytes that it did not take
                    continue
        child.wait()
