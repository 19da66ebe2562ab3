"""What a reader wrote down: outlines on slices, and extents in percent; as JSON or CSV.

JSON::

    {"coordinates": "pixel",
     "slices": [
       {"z_mm": -204.0,
        "outlines": [{"class": "lung", "points": [[310.5, 402], ...]},
                     {"class": "reticulation", "points": [[...], ...]}]},
       {"sop_instance_uid": "1.2.3...", "outlines": []},
       {"slice": 12, "extent_percent": 35}],
     "zones": {"right_upper": 5, "left_lower": 40}}

A slice is named by `z_mm` (the third number of Image Position (Patient)), by `sop_instance_uid`, or
by `slice` (counted from the lowest, which is 0). A slice with no outlines was read and holds no
lesion; a slice that is not listed was not read. `coordinates` are `pixel`, (column, row) with whole
numbers at the centres of pixels and 0 for the first, or `mm`, (x, y) of the patient (LPS). The
class is one of the contract's or a synonym, `lung`, `ignore`, or left out for a lesion that the
reader did not name.

CSV: one row a corner, with the columns `z_mm` (or `sop_instance_uid`, or `slice`), `outline` (a
number of your own, where a slice has several), `class`, and `x,y` (pixels) or `x_mm,y_mm`. A slice
without lesions has one row with empty coordinates. Or one row an extent: a column `extent_percent`,
beside one that names the slice or a column `zone`.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dlild_client.contract import Contract
from dlild_client.errors import InputError, UnreadableFileError
from dlild_export.data.labels import known_names, plain

UNNAMED = 254
"""Label of a lesion whose class the reader did not name."""

Points = npt.NDArray[np.float64]
_SLICE_KEYS = ("z_mm", "sop_instance_uid", "slice")
_UNNAMED_NAMES = frozenset({"", "lesion", "ild", "disease", "any lesion"})


@dataclass(frozen=True, order=True)
class SliceName:
    """How a reader's file names a slice: one of `z_mm`, `sop_instance_uid`, `slice`."""

    key: str
    value: float | str

    def __str__(self) -> str:
        """Write it as messages show it."""
        return f"{self.key} {self.value:g}" if isinstance(self.value, float) else self.key


@dataclass(frozen=True, eq=False)
class Outline:
    """A closed polygon.

    Attributes
    ----------
    label : int
        Of the contract; `UNNAMED`, or `IGNORE`.
    points : ndarray of float, shape (corners, 2)
        (x, y).
    """

    label: int
    points: Points


@dataclass(frozen=True)
class Reading:
    """What one file says.

    Attributes
    ----------
    in_mm : bool
        Whether corners are patient coordinates in mm, not pixels.
    outlined : mapping of SliceName to list of Outline
        The slices that were outlined; an empty list where there is no lesion.
    extents : mapping of SliceName to float
        Percent of the lung in a slice.
    zones : mapping of str to float
        Percent of the lung in a zone.
    """

    in_mm: bool = False
    outlined: Mapping[SliceName, list[Outline]] = field(default_factory=dict)
    extents: Mapping[SliceName, float] = field(default_factory=dict)
    zones: Mapping[str, float] = field(default_factory=dict)


def read_outlines(path: Path, contract: Contract) -> Reading:
    """Read a reader's JSON or CSV file.

    Parameters
    ----------
    path : pathlib.Path
    contract : Contract
        The classes.

    Returns
    -------
    Reading

    Raises
    ------
    InputError
        The file is neither, or a value in it has no meaning; the message names file and location.
    """
    try:
        text = path.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UnreadableFileError(f"{path.name}: no text: {error}") from None
    names = known_names(contract)
    if path.suffix.lower() == ".csv":
        return _Table(path.name, names).read(text)
    try:
        document = json.loads(text)
    except ValueError as error:
        raise UnreadableFileError(f"{path.name}: not JSON: {error}") from None
    return _Document(path.name, names).read(document)


@dataclass(frozen=True)
class _Rules:
    """What JSON and CSV have in common: names of slices and classes, numbers, polygons."""

    file: str
    names: Mapping[str, int]

    def refuse(self, where: str, reason: str) -> InputError:
        return InputError(f"{self.file}: {where}: {reason}")

    def number(self, value: Any, where: str) -> float:
        try:
            number = math.nan if isinstance(value, bool) else float(value)
        except (TypeError, ValueError):
            number = math.nan
        if not math.isfinite(number):
            raise self.refuse(where, f"{value!r} is no number")
        return number

    def percent(self, value: Any, where: str) -> float:
        number = self.number(value, where)
        if not 0 <= number <= 100:
            raise self.refuse(where, f"an extent of {number:g} % is not between 0 and 100")
        return number

    def slice_name(self, entry: Mapping[str, Any], where: str) -> SliceName:
        given = [key for key in _SLICE_KEYS if entry.get(key) not in (None, "")]
        if len(given) != 1:
            raise self.refuse(where, f"name the slice by one of {', '.join(_SLICE_KEYS)}")
        key = given[0]
        if key == "sop_instance_uid":
            return SliceName(key, str(entry[key]).strip())
        number = self.number(entry[key], f"{where}, {key}")
        if key == "slice" and (number < 0 or number != int(number)):
            raise self.refuse(where, f"slice {number:g} is no index; the first slice is 0")
        return SliceName(key, number)

    def label(self, name: Any, where: str) -> int:
        text = plain(str(name or ""))
        if text in _UNNAMED_NAMES:
            return UNNAMED
        if text not in self.names:
            known = "ground_glass, reticulation, honeycombing, consolidation, lung or ignore"
            raise self.refuse(where, f"the class {name!r} is not known; write {known}")
        return self.names[text]

    def outline(self, label: int, corners: Iterable[Any], where: str) -> Outline:
        points = []
        for corner in corners:
            if not isinstance(corner, list | tuple) or len(corner) != 2:
                raise self.refuse(where, f"a corner is [x, y], not {corner!r}")
            points.append([self.number(value, where) for value in corner])
        if len(points) < 3:
            raise self.refuse(where, f"an outline has three corners or more, not {len(points)}")
        return Outline(label, np.asarray(points, np.float64))


class _Document(_Rules):
    """A JSON file."""

    def read(self, document: Any) -> Reading:
        if not isinstance(document, dict):
            raise InputError(f"{self.file}: no object with `slices` or `zones`")
        coordinates = document.get("coordinates", "pixel")
        if coordinates not in ("pixel", "mm"):
            raise self.refuse("coordinates", f"{coordinates!r} is neither 'pixel' nor 'mm'")
        slices, zones = document.get("slices", []), document.get("zones", {})
        if not isinstance(slices, list) or not isinstance(zones, dict):
            raise InputError(f"{self.file}: `slices` is a list and `zones` an object")
        if not slices and not zones:
            raise InputError(f"{self.file}: nothing was read: no `slices` and no `zones`")
        outlined: dict[SliceName, list[Outline]] = {}
        extents: dict[SliceName, float] = {}
        for number, entry in enumerate(slices, start=1):
            where = f"entry {number} of slices"
            if not isinstance(entry, dict):
                raise self.refuse(where, "no object")
            name = self.slice_name(entry, where)
            if name in outlined or name in extents:
                raise self.refuse(where, f"{name} is listed twice")
            if "extent_percent" in entry:
                extents[name] = self.percent(entry["extent_percent"], where)
            else:
                outlined[name] = self._outlines(entry.get("outlines"), where)
        shares = {str(zone): self.percent(value, f"zone {zone}") for zone, value in zones.items()}
        return Reading(coordinates == "mm", outlined, extents, shares)

    def _outlines(self, entries: Any, where: str) -> list[Outline]:
        if not isinstance(entries, list):
            raise self.refuse(where, "give `outlines` (a list, empty for none) or `extent_percent`")
        found = []
        for number, entry in enumerate(entries, start=1):
            location = f"{where}, outline {number}"
            if not isinstance(entry, dict) or not isinstance(entry.get("points"), list):
                raise self.refuse(location, "no object with `points`")
            label = self.label(entry.get("class"), location)
            found.append(self.outline(label, entry["points"], location))
        return found


class _Table(_Rules):
    """A CSV file."""

    def read(self, text: str) -> Reading:
        rows = list(csv.DictReader(text.splitlines(), skipinitialspace=True))
        columns = set(rows[0]) if rows else set()
        if "extent_percent" in columns:
            return self._extents(rows)
        for pair, in_mm in ((("x", "y"), False), (("x_mm", "y_mm"), True)):
            if columns >= set(pair):
                return Reading(in_mm, self._outlined(rows, pair))
        raise InputError(
            f"{self.file}: no rows with the columns x,y or x_mm,y_mm (outlines) or extent_percent"
        )

    def _extents(self, rows: list[dict[str, str]]) -> Reading:
        extents: dict[SliceName, float] = {}
        zones: dict[str, float] = {}
        for number, row in enumerate(rows, start=2):
            where = f"line {number}"
            value = self.percent(row["extent_percent"], where)
            zone = (row.get("zone") or "").strip()
            name = None if zone else self.slice_name(row, where)
            if zone in zones or name in extents:
                raise self.refuse(where, f"{zone or name} is listed twice")
            if name is None:
                zones[zone] = value
            else:
                extents[name] = value
        return Reading(extents=extents, zones=zones)

    def _outlined(
        self, rows: list[dict[str, str]], columns: tuple[str, str]
    ) -> dict[SliceName, list[Outline]]:
        corners: dict[tuple[SliceName, str, int], list[tuple[str, str]]] = {}
        outlined: dict[SliceName, list[Outline]] = {}
        for number, row in enumerate(rows, start=2):
            where = f"line {number}"
            name = self.slice_name(row, where)
            outlined.setdefault(name, [])
            x, y = ((row[column] or "").strip() for column in columns)
            if x or y:
                label = self.label(row.get("class"), where)
                key = (name, (row.get("outline") or "").strip(), label)
                corners.setdefault(key, []).append((x, y))
        for (name, outline, label), points in corners.items():
            where = f"{name}, outline {outline or 'without a number'}"
            outlined[name].append(self.outline(label, points, where))
        return outlined
