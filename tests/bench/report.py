"""Figures to `bench.json`, tables to `docs/performance.md`: each between its own markers."""

from __future__ import annotations

import json
import os
import platform
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.support.scan import ROOT

PAGE = ROOT / "docs" / "performance.md"


def store(out: Path, part: str, figures: dict[str, Any]) -> Path:
    """Put one part into OUT/bench.json; other parts stay as they are.

    Parameters
    ----------
    out : Path
        Folder, made if need be.
    part : str
        Name of the part: ``speed``, ``scale``, ``load`` or ``soak``.
    figures : dict
        Plain values.

    Returns
    -------
    Path
        The file.
    """
    out.mkdir(parents=True, exist_ok=True)
    path = out / "bench.json"
    known = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    known[part] = figures
    path.write_text(json.dumps(known, indent=2) + "\n", "utf-8")
    return path


def publish(part: str, markdown: str, page: Path = PAGE) -> None:
    """Replace what stands between the markers of a part.

    Parameters
    ----------
    part : str
        Name in the markers ``<!-- made by `make PART` -->`` and ``<!-- end of `make PART` -->``.
    markdown : str
        What is to stand there.
    page : Path
        The file.

    Raises
    ------
    ValueError
        The page lacks the markers.
    """
    text = page.read_text("utf-8")
    first, last = f"<!-- made by `make {part}` -->", f"<!-- end of `make {part}` -->"
    if text.count(first) != 1 or text.count(last) != 1:
        raise ValueError(f"{page}: must hold {first} and {last} once each")
    before, rest = text.split(first)
    after = rest.split(last)[1]
    page.write_text(f"{before}{first}\n{markdown.strip()}\n{last}{after}", "utf-8")


def table(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Lay out a Markdown table.

    Parameters
    ----------
    heads : sequence of str
    rows : sequence of sequences
        Cells; numbers are written as they are.
    """
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(str(cell) for cell in line)} |" for line in lines) + "\n"


def machine() -> dict[str, Any]:
    """Describe this machine: processor, cores, memory, versions."""
    import onnxruntime  # noqa: PLC0415
    import openvino  # noqa: PLC0415
    import torch  # noqa: PLC0415

    model = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    memory = re.search(r"MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text())
    return {
        "processor": model[1] if model else platform.processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(int(memory[1]) / 2**20, 1) if memory else None,
        "python": platform.python_version(),
        "openvino": openvino.__version__.split("-")[0],
        "onnxruntime": onnxruntime.__version__,
        "torch": torch.__version__,
    }


def verdict(value: float, limit: float, *, at_most: bool) -> str:
    """Tell whether a target is met, in words for a table."""
    met = value <= limit if at_most else value >= limit
    return f"{'at most' if at_most else 'at least'} {limit:g}: {'met' if met else '**missed**'}"


def main(part: str, path: str) -> None:
    """Publish a table that something else has written: ``python -m bench.report PART FILE``."""
    publish(part, Path(path).read_text("utf-8"))
    print(f"written: {PAGE.relative_to(ROOT)}")


if __name__ == "__main__":
    main(*sys.argv[1:])
