"""pydicom, loaded when it is first needed and kept quiet.

pydicom warns of odd values and quotes them, and a value may name a patient. So within `quiet`,
its warnings and its log say nothing; what is wrong comes out as an error of our own tree.
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
    """Load pydicom with its decoders, and add gdcm in a process of its own to them."""
    with _lock:
        pydicom = import_module("pydicom")
        pixels = import_module("pydicom.pixels")
        for uid in TRANSFER_SYNTAXES:
            with suppress(ValueError):  # there already
                plugin = ("dlild_client.reading.dicom.gdcm_process", "decode_frame")
                pixels.get_decoder(uid).add_plugin(PLUGIN, plugin)
    return pydicom


@contextmanager
def quiet() -> Iterator[None]:
    """Silence pydicom's warnings and log, and keep its decoders, while any thread is inside.

    Filters of warnings belong to the whole process, so threads share them: the first one in sets
    them, the last one out puts the old ones back.
    """
    _enter()
    try:
        with decoders():
            yield
    finally:
        _leave()


def _enter() -> None:
    global _inside, _filters  # noqa: PLW0603  (warnings are global, so is this)
    with _lock:
        if _inside == 0:
            _filters = warnings.catch_warnings()
            _filters.__enter__()
            warnings.simplefilter("ignore")
            for name in LOGGERS:
                # The level, not `disabled`: loggers below inherit it.
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
