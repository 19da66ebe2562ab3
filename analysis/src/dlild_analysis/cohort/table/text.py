"""Characters that look like others: full-width digits, invisible characters."""

from __future__ import annotations

import re

_FULL_WIDTH = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)}
_INVISIBLE = dict.fromkeys((0x00AD, 0x200B, 0x200C, 0x200D, 0x2060, 0xFEFF))
_SPACES = dict.fromkeys((0x00A0, 0x2007, 0x2009, 0x202F, 0x3000), " ")
_SIGNS = {0x2212: "-", 0xFE63: "-", 0x3002: "."}
_PLAIN = {**_FULL_WIDTH, **_INVISIBLE, **_SPACES, **_SIGNS}


def plain_text(text: str) -> str:
    """Write full-width characters as ASCII, leave out invisible ones, and strip spaces.

    A word of another script is left as it is: only characters that stand for an ASCII one change.
    """
    return text.strip() if text.isascii() else text.translate(_PLAIN).strip()


def alike(text: str) -> str:
    """Reduce an id to what is left when two people write it: no case, signs or leading zeros."""
    letters = re.sub(r"[\W_]+", "", plain_text(text)).casefold()
    return re.sub(r"(?<!\d)0+(?=\d)", "", letters)
