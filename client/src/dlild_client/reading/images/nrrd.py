"""Where an NRRD header (`.nrrd`, `.nhdr`) says that its voxels lie."""

from __future__ import annotations

from pathlib import Path

from dlild_client.errors import UnreadableFile
from dlild_client.reading.images.voxeldata import VoxelData, numbered, read_head

SUFFIXES = (".nrrd", ".nhdr")
ENCODINGS = {"raw": "", "gzip": "gzip", "gz": "gzip"}


def locate(path: Path) -> VoxelData:
    """Read the header of an NRRD file as far as it speaks of files.

    Parameters
    ----------
    path : Path
        `.nrrd` or `.nhdr`.

    Returns
    -------
    VoxelData

    Raises
    ------
    UnreadableFile
        It is no NRRD file, or has its voxels in an encoding that is not read.
    """
    head = read_head(path)
    if not head.startswith(b"NRRD000"):
        raise UnreadableFile(f"{path.name}: not an NRRD file; save it again")
    lines, end = _lines(head)
    fields = _fields(lines)
    encoding = fields.get("encoding", "none").lower()
    if encoding not in ENCODINGS:
        raise UnreadableFile(
            f"{path.name}: NRRD encoding {encoding[:20]}, not raw or gzip; save it as one of them"
        )
    packed = ENCODINGS[encoding]
    try:
        files = _files(path, fields.get("datafile"), lines)
        skip_lines, skip_bytes = int(fields.get("lineskip", "0")), int(fields.get("byteskip", "0"))
        own = files == (path,)
        start = _behind_lines(files[0], skip_lines, end if own else 0)
    except (ValueError, IndexError):
        raise UnreadableFile(
            f"{path.name}: its header does not tell where the voxels lie; save it again"
        ) from None
    if packed:
        return VoxelData(files, start, packed, skipped=max(0, skip_bytes))
    return VoxelData(files, -1 if skip_bytes < 0 else start + skip_bytes)


def _lines(head: bytes) -> tuple[list[str], int]:
    """Lines of the header, and where the voxels begin that follow it: behind an empty line."""
    lines: list[str] = []
    place = 0
    while place < len(head):
        end = head.find(b"\n", place)
        end = len(head) if end < 0 else end
        line = head[place:end].rstrip(b"\r").decode("utf-8", "replace")
        place = end + 1
        if not line:
            break
        lines.append(line)
    return lines, place


def _fields(lines: list[str]) -> dict[str, str]:
    """Fields by their names in small letters, without spaces; comments and keys are left out."""
    pairs = (line.split(": ", 1) for line in lines if line[:1] != "#" and ": " in line)
    return {name.lower().replace(" ", ""): value.strip() for name, value in pairs}


def _files(path: Path, told: str | None, lines: list[str]) -> tuple[Path, ...]:
    """Files of the voxels; ValueError for nonsense."""
    if told is None:
        return (path,)
    if told.upper().startswith("LIST"):
        place = next(i for i, line in enumerate(lines) if line.rstrip().endswith(told))
        return tuple(path.parent / line.strip() for line in lines[place + 1 :])
    parts = told.split()
    if "%" in told and len(parts) >= 4:
        return tuple(path.parent / name for name in numbered(parts[0], parts[1:4]))
    return (path.parent / told,)


def _behind_lines(path: Path, count: int, start: int) -> int:
    """Place behind some lines of a file."""
    if not count or not path.is_file():
        return start
    with path.open("rb") as file:
        file.seek(start)
        for _ in range(count):
            file.readline(1 << 16)
        return file.tell()
