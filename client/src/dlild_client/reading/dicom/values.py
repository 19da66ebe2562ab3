"""Values of a pydicom data set, leniently: what is missing, empty or malformed is None or empty."""

from __future__ import annotations

import hashlib
import math
from typing import Any


def digest(text: str) -> str:
    """Short digest of an identifier, to group by it without keeping it; empty for an empty one."""
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:16] if text else ""


def many(ds: Any, name: str) -> list[Any]:
    """All values of an element."""
    try:
        value = ds.get(name)
    except Exception:
        return []
    if value is None or value == "":
        return []
    if isinstance(value, str | bytes) or not hasattr(value, "__iter__"):
        return [value]
    return list(value)


def text(ds: Any, name: str) -> str:
    """First value, as text without spaces round it."""
    found = many(ds, name)
    return str(found[0]).strip(" \0") if found else ""


def numbers(ds: Any, name: str, count: int) -> tuple[float, ...] | None:
    """Exactly `count` finite numbers."""
    try:
        found = tuple(float(v) for v in many(ds, name))
    except (TypeError, ValueError, OverflowError):
        return None
    return found if len(found) == count and all(map(math.isfinite, found)) else None


def number(ds: Any, name: str) -> float | None:
    """One finite number."""
    found = numbers(ds, name, 1)
    return None if found is None else found[0]


def whole(ds: Any, name: str) -> int | None:
    """One whole number."""
    found = number(ds, name)
    return None if found is None else int(found)
