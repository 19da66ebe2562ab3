"""Lenient access to values of a pydicom data set: None or empty where missing or malformed.

Numbers that do not conform to DICOM (decimal commas, units, brackets, text VRs instead of DS) are
parsed where only one reading is possible. `Numbers` records these, and elements that hold no
number: present but unreadable is not missing.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from dlild_client.reading.dicom.dicomlib import load_pydicom

MM, HU = "mm", "HU"
FACTORS = {
    MM: {"MM": 1.0, "CM": 10.0, "UM": 0.001, "µM": 0.001, "MICRON": 0.001, "MICRONS": 0.001},
    HU: {"HU": 1.0, "H": 1.0},
}
"""Units that may follow a number, and their factors to the unit of its attribute."""

LARGEST = {
    "PixelSpacing": 10.0,
    "SliceThickness": 100.0,
    "ImageOrientationPatient": 1.1,
    "ImagePositionPatient": 100_000.0,
    "RescaleSlope": 999.0,
    "RescaleIntercept": 100_000.0,
}
"""Largest magnitude of each number: distinguishes decimal commas from thousands separators."""

CHARACTER_SETS = ("utf-8", "gb18030", "shift_jis", "euc_kr", "cp1251")
"""Tried for descriptions where SpecificCharacterSet is missing or wrong."""

LONGEST_QUOTE = 32
BLANKS = " \0\t\r\n"

_PLAIN = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([EeDd][+-]?\d+)?", re.ASCII)
_UNIT = re.compile(r"(?P<number>[+-]?[\d.,]+(?:[Ee][+-]?\d+)?)\s*(?P<unit>[A-Za-zµμ]*)", re.ASCII)
_GROUPED = re.compile(r"[+-]?[1-9]\d{0,2}(,\d{3})+(\.\d+)?", re.ASCII)
_DOTS_GROUP = re.compile(r"[+-]?[1-9]\d{0,2}(\.\d{3})+,\d+", re.ASCII)


def digest(text: str) -> str:
    """Short digest of an identifier, to group by without keeping it; empty for an empty one."""
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:16] if text else ""


@cache
def tag(name: str) -> Any:
    """Return the tag of an element, by which pydicom finds it faster than by its keyword."""
    pydicom = load_pydicom()
    return pydicom.tag.Tag(pydicom.datadict.tag_for_keyword(name))


def many(ds: Any, name: str) -> list[Any]:
    """All values of an element."""
    try:
        element = ds.get(tag(name))
        value = None if element is None else element.value
    except Exception:
        return []
    if value is None or value == "":
        return []
    if isinstance(value, str | bytes) or not hasattr(value, "__iter__"):
        return [value]
    return list(value)


def text(ds: Any, name: str) -> str:
    """First value, as stripped text."""
    found = many(ds, name)
    return str(found[0]).strip(" \0") if found else ""


def written(ds: Any, name: str) -> str:
    """Raw content of an element as text, whatever its VR; empty where blank."""
    try:
        element = ds.get_item(tag(name))
        value = None if element is None else element.value
    except Exception:
        return ""
    if isinstance(value, bytes):
        value = next(iter([*_decoded(value, ("utf-8",)), value.decode("latin-1")]))
    elif value is not None and not isinstance(value, str) and hasattr(value, "__iter__"):
        value = "\\".join("" if v is None else str(v) for v in value)
    shown = "" if value is None else str(value)
    return shown.strip(BLANKS) if shown.strip(BLANKS + "\\") else ""


def description(ds: Any, name: str) -> str:
    """Text of an element, decoded with each likely character set where none is declared."""
    try:
        raw = ds.get_item(tag(name))
        content = raw.value if raw is not None and isinstance(raw.value, bytes) else b""
    except Exception:
        return ""
    shown = [" ".join(str(v) for v in many(ds, name))]
    return "\n".join(shown if content.isascii() else [*shown, *_decoded(content, CHARACTER_SETS)])


def _decoded(content: bytes, character_sets: Iterable[str]) -> list[str]:
    found = []
    for name in character_sets:
        with suppress(UnicodeDecodeError):
            found.append(content.decode(name))
    return found


def is_there(ds: Any, name: str) -> bool:
    """Whether an element has any content, readable or not."""
    return bool(many(ds, name) or written(ds, name))


def numbers(ds: Any, name: str, count: int) -> tuple[float, ...] | None:
    """Exactly `count` finite numbers that conform to DICOM."""
    try:
        found = tuple(float(v) for v in many(ds, name))
    except (TypeError, ValueError, OverflowError):
        return None
    return found if len(found) == count and all(map(math.isfinite, found)) else None


def number(ds: Any, name: str) -> float | None:
    """One finite number."""
    found = numbers(ds, name, 1)
    return None if found is None else found[0]


@dataclass
class Numbers:
    """Parses the numbers of one slice, and records those that do not conform to DICOM.

    Attributes
    ----------
    repaired : dict of str to str
        Content of the elements that needed lenient parsing, by keyword.
    unreadable : dict of str to str
        Content of the elements that hold no number, or an ambiguous one.
    """

    repaired: dict[str, str] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)

    def several(self, ds: Any, name: str, count: int, unit: str = "") -> tuple[float, ...] | None:
        """Exactly `count` finite numbers."""
        found = numbers(ds, name, count)
        if found is not None:
            return found
        stands = written(ds, name)
        if not stands:
            return None
        as_text = tuple(_plain(part) for part in _values(stands, count))
        if len(as_text) == count and None not in as_text:
            return as_text  # type: ignore[return-value]
        read = tuple(_one(p, unit, LARGEST.get(name), ds) for p in _listed(stands, count))
        if len(read) != count or None in read:
            self.unreadable[name] = quote(stands)
            return None
        self.repaired[name] = quote(stands)
        return read  # type: ignore[return-value]

    def one(self, ds: Any, name: str, unit: str = "") -> float | None:
        """One finite number."""
        found = self.several(ds, name, 1, unit)
        return None if found is None else found[0]

    def whole(self, ds: Any, name: str) -> int | None:
        """One whole number."""
        found = self.one(ds, name)
        return None if found is None else int(found)


def quote(stands: str) -> str:
    """Shorten the content of an element for a message of one line."""
    shown = "".join(c if c.isprintable() else "?" for c in stands)
    return shown if len(shown) <= LONGEST_QUOTE else f"{shown[:LONGEST_QUOTE]}..."


def _values(stands: str, count: int) -> list[str]:
    """Split at backslashes, which pydicom leaves in text VRs; equal values count as one."""
    parts = [part.strip(BLANKS) for part in stands.rstrip(BLANKS + "\\").split("\\")]
    return parts[:1] if count == 1 and len(set(parts)) == 1 else parts


def _listed(stands: str, count: int) -> list[str]:
    """Split the values of an element, also of lists in other notations."""
    bare = stands.strip(BLANKS + "[](){}")
    parts = _values(bare, count)
    if count > 1 and len(parts) == 1:
        # A comma between numbers with decimal points is a separator.
        commas = bare.count(".") >= count or "," not in bare
        parts = re.split(r"\s*[,;x\u00d7]\s*|\s+" if commas else r"\s*[;x\u00d7]\s*|,?\s+", bare)
    return [part.strip(BLANKS + "'\"") for part in parts]


def _plain(part: str) -> float | None:
    if not _PLAIN.fullmatch(part):
        return None
    value = float(part.upper().replace("D", "E"))
    return value if math.isfinite(value) else None


def _one(part: str, unit: str, largest: float | None, ds: Any) -> float | None:
    """Parse a non-conforming number; None unless exactly one reading is possible."""
    shown = part.replace("\N{MINUS SIGN}", "-").replace("μ", "µ").replace("\N{NO-BREAK SPACE}", " ")
    match = _UNIT.fullmatch(shown)
    if match is None:
        return None
    named = match["unit"].upper()
    factor = FACTORS.get(unit, {}).get(named, 0.0) if named else 1.0
    readings = {value * factor for value in _readings(match["number"]) if factor}
    possible = [v for v in readings if largest is None or abs(v) <= largest]
    if len(possible) == 2 and (decimal := _commas_are_decimal(ds)) is not None:
        possible = [min(possible, key=abs) if decimal else max(possible, key=abs)]
    return possible[0] if len(possible) == 1 and math.isfinite(possible[0]) else None


def _readings(digits: str) -> set[float]:
    """Possible values of a number with points and commas."""
    texts = set()
    if "," not in digits:
        texts.add(digits)
    elif _DOTS_GROUP.fullmatch(digits):
        texts.add(digits.replace(".", "").replace(",", "."))
    else:
        if digits.count(",") == 1 and "." not in digits:
            texts.add(digits.replace(",", "."))
        if _GROUPED.fullmatch(digits):
            texts.add(digits.replace(",", ""))
    return {value for value in map(_plain, texts) if value is not None}


def _commas_are_decimal(ds: Any) -> bool | None:
    """Whether commas are decimal, by the other numbers of the data set; None where unknown."""
    found = set()
    for name, largest in LARGEST.items():
        for part in written(ds, name).split("\\"):
            digits = part.strip(BLANKS)
            possible = [v for v in _readings(digits) if abs(v) <= largest]
            if "," in digits and len(possible) == 1:
                found.add(not (_GROUPED.fullmatch(digits) and abs(possible[0]) >= 1000))
            elif "." in digits and possible:
                found.add(False)
    return found.pop() if len(found) == 1 else None
