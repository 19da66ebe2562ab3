"""One scan in a process of its own, from DICOM to JSON: seconds by stage and the client's memory.

Run as ``python -m bench.journey URL SCAN OUT``; prints one line of JSON.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from bench.support.memory import held_by


def main(url: str, scan: str, out: str) -> None:
    """Score a scan as the command `dlild score` does, and print what it took."""
    started = time.perf_counter()
    from dlild_client import Client, write_result  # noqa: PLC0415 - its import is a stage

    imported = time.perf_counter()
    empty = held_by()
    with Client(url) as client:
        result = client.score(scan)
        scored = time.perf_counter()
        write_result(result, out)
    stages = {
        "import": imported - started,
        **{name: s for name, s in result.timings_s.items() if name != "total"},
    }
    stages["rest"] = scored - started - sum(stages.values())
    stages["write"] = time.perf_counter() - scored
    stages["total"] = time.perf_counter() - started
    memory = {"start": empty.rss, "peak": held_by().peak}
    print(json.dumps({"stages_s": stages, "memory": memory, "dl_ild": result.dl_ild_percent}))


def journey(url: str, scan: Path, out: Path) -> dict[str, Any]:
    """Run it in a process of its own.

    Parameters
    ----------
    url : str
        Address of the server.
    scan : Path
        DICOM folder.
    out : Path
        Where the result goes.

    Returns
    -------
    dict
        ``stages_s``, ``memory`` (bytes at the start, after imports, and at the peak), ``dl_ild``.
    """
    command = [sys.executable, "-m", "bench.journey", url, str(scan), str(out)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=300)
    measured: dict[str, Any] = json.loads(done.stdout)
    return measured


if __name__ == "__main__":
    main(*sys.argv[1:])
