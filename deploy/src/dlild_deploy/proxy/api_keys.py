#!/usr/bin/env python3
"""The API keys that the proxy takes: ``keys.map``, a line with digest and name for every key.

    python3 deploy/proxy/keys.py secrets/keys.map add ward-3 > ward-3.key
    python3 deploy/proxy/keys.py secrets/keys.map list
    python3 deploy/proxy/keys.py secrets/keys.map remove ward-3

Only the SHA-256 of a key is kept. A key is 32 random bytes, so nobody can find it from its digest.
Reload the proxy after a change. Needs the standard library only.
"""

import argparse
import hashlib
import os
import re
import secrets
import sys
from collections.abc import Sequence
from pathlib import Path

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,49}")
LINE = re.compile(r"([0-9a-f]{64}) (\S+)")


class KeyFileError(Exception):
    """One line: what is wrong, and what to do."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Parameters
    ----------
    arguments : sequence of str, optional
        The command line without the program's name; ``sys.argv`` when left out.

    Returns
    -------
    int
        0 when done, 1 when something is wrong.
    """
    options = _parser().parse_args(arguments)
    try:
        keys = read(options.file)
        if options.command == "add":
            print(add(options.file, keys, options.name))
        elif options.command == "remove":
            remove(options.file, keys, options.name)
        else:
            print("\n".join(f"{digest[:12]}  {name}" for digest, name in keys.items()))
    except KeyFileError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def read(path: Path) -> dict[str, str]:
    """Read the names of all keys by their digests; none where there is no file yet.

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


def add(path: Path, keys: dict[str, str], name: str) -> str:
    """Make a key under a name; one that is there under the same name stays good beside it.

    Returns
    -------
    str
        The key: it is shown this once.

    Raises
    ------
    KeyFileError
        The name is none, or the file cannot be written.
    """
    if not NAME.fullmatch(name):
        raise KeyFileError(f"{name!r} is no name: use small letters, digits, and . _ -")
    key = secrets.token_hex(32)
    _write(path, {**keys, hashlib.sha256(key.encode()).hexdigest(): name})
    return key


def remove(path: Path, keys: dict[str, str], name: str) -> None:
    """Remove keys: all of a name, or the one whose digest begins so.

    Raises
    ------
    KeyFileError
        There is none such, or the file cannot be written.
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


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("file", type=Path, help="keys.map of the proxy")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in (
        ("add", "make a key and print it"),
        ("remove", "remove all keys of a name, or the one with this digest"),
    ):
        commands.add_parser(name, help=text).add_argument("name")
    commands.add_parser("list", help="print digests and names")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
