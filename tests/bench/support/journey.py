"""One scan in a process of its own, from DICOM to JSON: seconds by stage and the client's memory.

Run as ``python -m bench.support.journey URL SCAN OUT``, or with ``all`` at its end for SEG, SR,
capture and report, too; prints one line of JSON.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from bench.support.memory import held_by


def main(url: str, scan: str, out: str, outputs: str = "") -> None:
    """Score a scan as the command `dlild score` does, and print what it took."""
    if outputs:
        print(json.dumps({"outputs": with_outputs(url, scan, out)}))
        return
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


def with_outputs(url: str, scan: str, out: str) -> dict[str, float]:
    """Score a scan, write its result, and measure what all further outputs add to that."""
    from dlild_client import Client, read_volume, write_result  # noqa: PLC0415

    with Client(url) as client:
        result = client.score(lambda: read_volume(scan, with_source=True))
    write_result(result, out)
    peak, used, began = held_by().peak, time.process_time(), time.perf_counter()
    from dlild_client.cli.options import make_files  # noqa: PLC0415 - imports are part of it
    from dlild_client.report.page import REPORT, write_report  # noqa: PLC0415
    from dlild_client.results.files import write_files  # noqa: PLC0415

    objects = make_files(result, ("seg", "sr", "capture"), anonymous=False)
    write_files(Path(out), {REPORT: lambda path: write_report(result, path), **objects})
    return {
        "seconds": time.perf_counter() - began,
        "processor_s": time.process_time() - used,
        "peak_before": peak,
        "peak": held_by().peak,
    }


def journey(url: str, scan: Path, out: Path, *, outputs: bool = False) -> dict[str, Any]:
    """Run it in a process of its own.

    Parameters
    ----------
    url : str
        Address of the server.
    scan : Path
        DICOM folder.
    out : Path
        Where the result goes.
    outputs : bool
        Measure SEG, SR, capture and report, beyond the result itself.

    Returns
    -------
    dict
        ``stages_s``, ``memory`` (bytes at the start, after imports, and at the peak), ``dl_ild``;
        or ``outputs``: seconds, processor seconds, and the peak in bytes before and after.
    """
    command = [sys.executable, "-m", "bench.support.journey", url, str(scan), str(out)]
    command += ["all"] if outputs else []
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=300)
    measured: dict[str, Any] = json.loads(done.stdout)
    return measured


if __name__ == "__main__":
    main(*sys.argv[1:])
