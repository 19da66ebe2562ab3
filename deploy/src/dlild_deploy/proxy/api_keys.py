"""API keys that the proxy accepts: ``keys.map``, a line with digest and name for each key.

Only the SHA-256 of a key is kept. A key is 32 random bytes, so it cannot be found from its digest.
Reload the proxy after a change. Needs the standard library only.
"""

import hashlib
import os
import re
import secrets
from pathlib import Path

from dlild_deploy.errors import KeyFileError

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,49}")
LINE = re.compile(r"([0-9a-f]{64}) (\S+)")


def read_keys(path: Path) -> dict[str, str]:
    """Read the names of all keys by digest; none where there is no file yet.

    Raises
    ------
    KeyFileError
        It cannot be read, or a line is not as this program writes it.
    """
    try:
        lines = path.read_text("utf-8").splitlines() if path.exists() else []
    except (OSError, UnicodeDecodeError) as error:
        raise KeyFileError(f"{path}: {getattr(error, 'strerror', None) or 'not text'}") from None
    keys = {}
    for number, line in enumerate(lines, 1):
        match = LINE.fullmatch(line.strip())
        if match is None:
            raise KeyFileError(f"{path}, line {number}: not a digest and a name; remove the line")
        keys[match[1]] = match[2]
    return keys


def add_key(path: Path, keys: dict[str, str], name: str) -> str:
    """Make a key under a name; existing keys of that name stay valid.

    Returns
    -------
    str
        The key: it is shown this once.

    Raises
    ------
    KeyFileError
        The name is not allowed, or the file cannot be written.
    """
    if not NAME.fullmatch(name):
        raise KeyFileError(f"{name!r} is no name: use small letters, digits, and . _ -")
    key = secrets.token_hex(32)
    _write(path, {**keys, hashlib.sha256(key.encode()).hexdigest(): name})
    return key


def remove_key(path: Path, keys: dict[str, str], name: str) -> None:
    """Remove keys: all of a name, or the one whose digest begins so.

    Raises
    ------
    KeyFileError
        There is no such key, or the file cannot be written.
    """
    kept = {
        digest: owner
        for digest, owner in keys.items()
        if owner != name and not (len(name) >= 8 and digest.startswith(name))
    }
    if len(kept) == len(keys):
        raise KeyFileError(f"{path} has no key {name}: `list` shows names and digests")
    _write(path, kept)


def _write(path: Path, keys: dict[str, str]) -> None:
    fresh = path.with_name(f".{path.name}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.writelines(f"{digest} {name}\n" for digest, name in keys.items())
        fresh.replace(path)
    except OSError as error:
        raise KeyFileError(f"{path}: {error.strerror}") from None
