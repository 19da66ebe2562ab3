"""SimpleITK, loaded when it is first needed and kept quiet."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import Any


@cache
def load_sitk() -> Any:
    """Load SimpleITK; its warnings would come between the user and the line of an error."""
    sitk = import_module("SimpleITK")
    sitk.ProcessObject.GlobalWarningDisplayOff()
    return sitk
