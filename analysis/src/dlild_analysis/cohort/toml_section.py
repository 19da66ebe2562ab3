"""Reading a TOML: every mistake is answered with the key, the value and the way out."""

from __future__ import annotations

import codecs
import difflib
import re
import tomllib
from pathlib import Path
from typing import Any

from dlild_analysis.errors import StudyError

_KIND = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises
    ------
    StudyError
        The file is absent or is not TOML; the message names the line.
    """
    try:
        data = path.read_bytes()
        # Windows' Notepad begins a file with a byte order mark.
        wide = data[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
        return tomllib.loads(data.decode("utf-16" if wide else "utf-8-sig"))
    except FileNotFoundError:
        raise StudyError(f"{path.name}: no such file; give the path of a TOML file") from None
    except (IsADirectoryError, PermissionError):
        raise StudyError(f"{path.name}: cannot be read as a file") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise StudyError(f"{path.name}: not valid TOML: {error}{_hint(data)}") from None


def _hint(data: bytes) -> str:
    """State the usual cause, where the text shows it."""
    for mark, what in (
        ("\N{LEFT DOUBLE QUOTATION MARK}", 'typographic quotation marks; write "'),
        ("\N{RIGHT DOUBLE QUOTATION MARK}", 'typographic quotation marks; write "'),
        ("\N{FULLWIDTH EQUALS SIGN}", "a full-width equals sign; write ="),
        ("\N{FULLWIDTH COMMA}", "a full-width comma; write ,"),
    ):
        if mark.encode() in data:
            return f" (the file has {what})"
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return " (save it as UTF-8)"
    if re.search(rb'"[^"\n]*\\[^"\n]*"', data):
        return " (write paths with / instead of a backslash)"
    return ""


class Section:
    """One table of a TOML, read key by key; `finish` reports keys that were not read."""

    def __init__(self, data: object, name: str, source: str) -> None:
        self.name = name
        self.source = source
        if not isinstance(data, dict):
            raise StudyError(f"{source}: {name} must be a table ([{name}]), not {data!r}")
        self._data: dict[str, Any] = data
        self._known: list[str] = []

    def __contains__(self, key: str) -> bool:
        """Whether the key is given."""
        return key in self._data

    def where(self, key: str) -> str:
        """Name a key as the messages do."""
        return f"{self.source}: {self.name}.{key}" if self.name else f"{self.source}: {key}"

    def section(self, key: str) -> Section:
        """Take a sub-table; an absent one is empty."""
        self._known.append(key)
        name = f"{self.name}.{key}" if self.name else key
        return Section(self._data.get(key, {}), name, self.source)

    def raw(self, key: str) -> Any:
        """Take a value as it stands, None where absent."""
        self._known.append(key)
        return self._data.get(key)

    def names(self) -> list[str]:
        """List the keys in the order of the file."""
        return list(self._data)

    def text(self, key: str, default: str | None = None) -> str | None:
        """Take a text."""
        value = self._typed(key, str, default)
        if value is not None and not value.strip():
            raise StudyError(f"{self.where(key)} is empty; write a value or leave the key out")
        return None if value is None else str(value)

    def required(self, key: str, meaning: str) -> str:
        """Take a text that must be there."""
        value = self.text(key)
        if value is None:
            raise StudyError(f"{self.where(key)} is missing; it names {meaning}")
        return value

    def required_value(self, key: str) -> Any:
        """Take a value of any kind that must be there."""
        value = self.raw(key)
        if value is None:
            raise StudyError(f"{self.where(key)} is missing")
        return value

    def choice(self, key: str, options: tuple[str, ...], default: str) -> str:
        """Take one of a few words."""
        value = self.text(key, default)
        if value not in options:
            raise StudyError(f"{self.where(key)} is {value!r}; write one of {', '.join(options)}")
        return str(value)

    def number(self, key: str, default: float, low: float, high: float) -> float:
        """Take a number within limits."""
        value = self._typed(key, float, default)
        if not low <= value <= high:
            raise StudyError(f"{self.where(key)} is {value}; it must lie in {low:g} ... {high:g}")
        return float(value)

    def integer(self, key: str, default: int, low: int, high: int) -> int:
        """Take a whole number within limits."""
        value = self._typed(key, int, default)
        if not low <= value <= high:
            raise StudyError(f"{self.where(key)} is {value}; it must lie in {low} ... {high}")
        return int(value)

    def flag(self, key: str, default: bool) -> bool:
        """Take true or false."""
        return bool(self._typed(key, bool, default))

    def texts(self, key: str, default: tuple[str, ...] = ()) -> tuple[str, ...]:
        """Take a list of texts."""
        value = self.raw(key)
        if value is None:
            return default
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise StudyError(f'{self.where(key)} is {value!r}; write a list such as ["a", "b"]')
        return tuple(value)

    def numbers(self, key: str, default: tuple[float, ...]) -> tuple[float, ...]:
        """Take a list of positive numbers."""
        value = self.raw(key)
        if value is None:
            return default
        plain = isinstance(value, list) and bool(value)
        if not plain or not all(type(item) in (int, float) and item > 0 for item in value):
            raise StudyError(f"{self.where(key)} is {value!r}; write a list of positive numbers")
        return tuple(float(item) for item in value)

    def finish(self) -> None:
        """Report the first key that was not read.

        Raises
        ------
        StudyError
            Naming the key and the nearest one that exists.
        """
        for key in self._data:
            if key in self._known:
                continue
            near = difflib.get_close_matches(key, self._known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(self._known)}"
            raise StudyError(f"{self.where(key)} is not a key of this file; {hint}")

    def _typed(self, key: str, kind: type, default: Any) -> Any:
        value = self.raw(key)
        if value is None:
            return default
        numeric = kind is float and type(value) is int
        if type(value) is not kind and not numeric:
            raise StudyError(f"{self.where(key)} is {value!r}; it must be {_KIND[kind]}")
        return value
