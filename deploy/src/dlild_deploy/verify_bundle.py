#!/usr/bin/env python3
"""Check a bundle against its SHA256SUMS: nothing changed, nothing missing, nothing added.

    python3 verify.py FOLDER [--digest DIGEST]

DIGEST is what `make bundle` printed last; without it, someone who could change the files could have
changed the sums as well. A copy of this file lies in every bundle as ``verify.py``: it imports
nothing of ours, and needs Python 3.9 or later and nothing else.
"""

import argparse
import hashlib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Optional

SUMS = "SHA256SUMS"
BLOCK = 1 << 20


def main(arguments: Optional[Sequence[str]] = None) -> int:  # noqa: UP045  (Python 3.9)
    """Run `verify` on the command line's words."""
    parser = argparse.ArgumentParser(description="Check a bundle against its SHA256SUMS.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--digest", help="SHA-256 of SHA256SUMS, as `make bundle` printed it")
    options = parser.parse_args(arguments)
    return verify(options.folder, options.digest)


def verify(folder: Path, digest: Optional[str] = None) -> int:  # noqa: UP045
    """Print what is wrong with a bundle and return 1; 0 where it is complete and unchanged."""
    try:
        found = list(faults(folder, digest))
        count = len(read_sums(folder))
    except (OSError, ValueError) as error:
        print(f"error: {folder}: {error}", file=sys.stderr)
        return 1
    for fault in found:
        print(f"error: {fault}", file=sys.stderr)
    if found:
        print(f"error: {len(found)} faults: copy the bundle again", file=sys.stderr)
        return 1
    print(f"{folder}: {count} files are as they were made")
    return 0


def faults(folder: Path, digest: Optional[str] = None) -> Iterator[str]:  # noqa: UP045
    """Yield a line for every file that is not as `SHA256SUMS` says.

    Parameters
    ----------
    folder : Path
        The bundle.
    digest : str, optional
        What `SHA256SUMS` itself must have.

    Raises
    ------
    OSError, ValueError
        There is no `SHA256SUMS`, or a line of it is not valid.
    """
    if digest is not None and sha256(folder / SUMS) != digest.strip().lower():
        yield f"{SUMS} is not the one that was made: do not use this bundle"
    sums = read_sums(folder)
    there = {path.relative_to(folder).as_posix(): path for path in files_of(folder)}
    for name, expected in sums.items():
        if name not in there:
            yield f"{name} is missing"
        elif sha256(there[name]) != expected:
            yield f"{name} has changed"
    for name in sorted(there.keys() - sums.keys() - {SUMS}):
        yield f"{name} was added"


def files_of(folder: Path) -> list[Path]:
    """Return all files below a folder in a fixed order; links count as files."""
    return sorted(path for path in folder.rglob("*") if path.is_symlink() or path.is_file())


def read_sums(folder: Path) -> dict[str, str]:
    """Read the digests by name.

    Raises
    ------
    OSError, ValueError
        There is no such file, or a line is not valid.
    """
    sums = {}
    for number, line in enumerate((folder / SUMS).read_text("utf-8").splitlines(), 1):
        digest, _, name = line.partition("  ")
        if len(digest) != 64 or not name or name.startswith("/") or ".." in name.split("/"):
            raise ValueError(f"{SUMS}, line {number} is not a digest and a name below the folder")
        sums[name] = digest
    return sums


def sha256(path: Path) -> str:
    """Return the digest of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for block in iter(lambda: file.read(BLOCK), b""):
            digest.update(block)
    return digest.hexdigest()


if __name__ == "__main__":
    raise SystemExit(main())
