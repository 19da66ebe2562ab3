"""Imports the extra ``dlild-client[dicom]`` at first use."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import Any

from dlild_client.errors import BadSettingsError
from dlild_client.reading.dicom.dicomlib import quiet


@cache
def load_highdicom() -> Any:
    """Import highdicom.

    Raises
    ------
    BadSettingsError
        It is not installed.
    """
    try:
        with quiet():
            return import_module("highdicom")
    except ImportError:
        raise BadSettingsError(
            "DICOM objects of results need the extra: pip install 'dlild-client[dicom]'"
        ) from None
