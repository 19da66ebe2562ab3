"""Where a MetaImage header (`.mha`, `.mhd`) says that its voxels lie."""

from __future__ import annotations

import re
from pathlib import Path

from dlild_client.errors import UnreadableFile
from dlild_client.reading.images.voxeldata import VoxelData, numbered, read_head

SUFFIXES = (".mha", ".mhd")
_LINE = re.compile(rb"[ \t]*(\w+)[ \t]*[=:][ \t]*([^\r\n]*?)[ \t]*\r?\n")


def locate(path: Path) -> VoxelData:
    """Read the header of a MetaImage as far as it speaks of files.

    Parameters
    ----------
    path : Path
        `.mha` or `.mhd`.

    Returns
    -------
    VoxelData

    Raises
    ------
    UnreadableFile
        It names no data, or voxels in a form that is not read.
    """
    head = read_head(path)
    fields, end = _fields(head)
    if "ElementDataFile" not in fields:
        raise UnreadableFile(f"{path.name}: no ElementDataFile in its header; give the whole image")
    if fields.get("BinaryData", "True")[:1] in "Ff0":
        raise UnreadableFile(f"{path.name}: voxels as text are not read; save them in binary")
    try:
        files, here = _files(path, fields["ElementDataFile"], head[end:])
        start = int(fields.get("HeaderSize", "0"))
        packed = fields.get("CompressedData", "False")[:1] in "Tt1"
        size = int(fields.get("CompressedDataSize", "0")) or None
    except (ValueError, IndexError):
        raise UnreadableFile(
            f"{path.name}: its header does not tell where the voxels lie; save it again"
        ) from None
    if here and start == 0:
        start = end
    return VoxelData(files, start, "zlib" if packed else "", size if packed else None)


def _fields(head: bytes) -> tuple[dict[str, str], int]:
    """Fields of a header, and where it ends: behind the line of ElementDataFile."""
    fields: dict[str, str] = {}
    place = 0
    # A header of a file of its own may end without a line break.
    text = head + b"\n"
    while match := _LINE.match(text, place):
        name, value = (part.decode("utf-8", "replace") for part in match.groups())
        fields[name] = value
        place = min(match.end(), len(head))
        if name == "ElementDataFile":
            break
    return fields, place


def _files(path: Path, told: str, rest: bytes) -> tuple[tuple[Path, ...], bool]:
    """Files of the voxels, and whether that is the header's own; ValueError for nonsense."""
    if told.upper() == "LOCAL":
        return (path,), True
    if told.upper().startswith("LIST"):
        names = [line.strip() for line in rest.decode("utf-8", "replace").splitlines()]
        return tuple(path.parent / name for name in names if name), False
    if "%" in told:
        pattern, *numbers = told.split()
        return tuple(path.parent / name for name in numbered(pattern, numbers)), False
    return (path.parent / told,), False
