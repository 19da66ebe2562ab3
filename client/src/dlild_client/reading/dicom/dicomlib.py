"""Imports pydicom at first use, and silences it.

pydicom warns of invalid values and quotes them, and a value may identify a patient. So `quiet`
suppresses its warnings and its log; faults are reported as errors of our own tree.
"""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from importlib import import_module
from typing import Any

from dlild_client.reading.dicom.gdcm_process import TRANSFER_SYNTAXES, decoders

_lock = threading.Lock()
_inside = 0
_filters: Any = None
_levels: dict[str, int] = {}

PLUGIN = "dlild-gdcm"
LOGGERS = ("pydicom", "pylibjpeg", "openjpeg", "PIL")


@cache
def load_pydicom() -> Any:
    """Import pydicom, and register gdcm in a separate process as a decoder plugin."""
    with _lock:
        pydicom = import_module("pydicom")
        pixels = import_module("pydicom.pixels")
        for uid in TRANSFER_SYNTAXES:
            with suppress(ValueError):  # registered already
                plugin = ("dlild_client.reading.dicom.gdcm_process", "decode_frame")
                pixels.get_decoder(uid).add_plugin(PLUGIN, plugin)
    return pydicom


@contextmanager
def quiet() -> Iterator[None]:
    """Silence pydicom's warnings and log, and keep decoder processes, while any thread is inside.

    Warning filters are global to the process: the first thread in sets them, the last one out
    restores them.
    """
    _enter()
    try:
        with decoders():
            yield
    finally:
        _leave()


def _enter() -> None:
    global _inside, _filters  # noqa: PLW0603  (warning filters are global)
    with _lock:
        if _inside == 0:
            _filters = warnings.catch_warnings()
            _filters.__enter__()
            warnings.simplefilter("ignore")
            for name in LOGGERS:
                # The level, not `disabled`: child loggers inherit it.
                _levels[name] = logging.getLogger(name).level
                logging.getLogger(name).setLevel(logging.CRITICAL + 1)
        _inside += 1


def _leave() -> None:
    global _inside  # noqa: PLW0603
    with _lock:
        _inside -= 1
        if _inside == 0:
            _filters.__exit__(None, None, None)
            for name, level in _levels.items():
                logging.getLogger(name).setLevel(level)
