"""Load by windows: perf_analyzer against `dlild`, with real sequences (``make load``)."""

import csv
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from dlild_deploy.errors import LauncherError
from dlild_deploy.load.default_scan import default_scan, report_progress
from dlild_deploy.load.perf_analyzer import Analyzer, find_analyzer
from dlild_deploy.load.scan_sequences import write_sequences
from dlild_deploy.server.embedded_server import EmbeddedServer
from dlild_deploy.server.preflight import default_server_python

MODEL = "dlild"
WINDOWS_MEASURED = 12


@dataclass(frozen=True)
class WindowLevel:
    """One line of the table.

    Attributes
    ----------
    at_once : int
        Scans at once.
    windows_a_second : float
    scans_a_minute : float
    latency_ms : dict of str to float
        By percentile, of one window.
    queue_ms : float
        Mean time that a window waits in the server.
    """

    at_once: int
    windows_a_second: float
    scans_a_minute: float
    latency_ms: Mapping[str, float]
    queue_ms: float


def read_reports(reports: Sequence[Path], windows_a_scan: float) -> str:
    """Lay out the tables that perf_analyzer has written before, as one.

    Parameters
    ----------
    reports : sequence of Path
        CSV files.
    windows_a_scan : float

    Returns
    -------
    str
        In Markdown.

    Raises
    ------
    LauncherError
        A file cannot be read, or is not perf_analyzer's.
    """
    levels = [
        level for report in reports for level in read_levels(_text_of(report), windows_a_scan)
    ]
    return lay_out(sorted(levels, key=lambda level: level.at_once))


def measure_windows(out: Path, scans: Sequence[Path], server: str | None, most: int) -> str:
    """Load a server with the windows of scans, and write ``load.csv`` and ``load.md``.

    Parameters
    ----------
    out : Path
        Folder for both.
    scans : sequence of Path
        Where empty, the shared scan or a phantom.
    server : str, optional
        ``host:port`` of a gRPC port; the embedded server is started where it is left out.
    most : int
        Scans at once, at most.

    Returns
    -------
    str
        The table in Markdown.

    Raises
    ------
    LauncherError
        perf_analyzer or the server does not run.
    DlildError
        A scan cannot be scored.
    """
    analyzer = find_analyzer(default_server_python())
    out.mkdir(parents=True, exist_ok=True)
    report = out / "load.csv"
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dlild-load-")))
        sequences = folder / "sequences.json"
        windows = write_sequences(scans or [default_scan(folder)], sequences)
        report_progress(f"{len(windows)} scans of {windows} windows")
        if server is None:
            report_progress("starting the embedded Triton server")
            embedded = EmbeddedServer(grpc_port=0, http_port=0, metrics_port=0)
            server = stack.enter_context(embedded).grpc_url.removeprefix("grpc://")
        _analyse(analyzer, server, sequences, report, most)
    levels = read_levels(report.read_text("utf-8"), sum(windows) / len(windows))
    text = lay_out(levels)
    (out / "load.md").write_text(text, "utf-8")
    return text


def _text_of(report: Path) -> str:
    try:
        return report.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise LauncherError(
            f"{report} cannot be read ({error}): name perf_analyzer's CSV"
        ) from None


def _analyse(analyzer: Analyzer, address: str, sequences: Path, report: Path, most: int) -> None:
    """Measure every level in a process of its own, and gather the figures.

    Between two levels perf_analyzer cuts the scans that are open. The server refuses to score them,
    as it must, and perf_analyzer takes that for a failure and stops; at its own end it does not.
    """
    rows: list[str] = []
    for at_once in range(1, most + 1):
        report_progress(f"{at_once} at once")
        header, *found = _measure(
            analyzer, address, sequences, report.with_suffix(".part"), at_once
        )
        rows += found if rows else [header, *found]
    report.write_text("".join(rows), "utf-8")


def _measure(
    analyzer: Analyzer, address: str, sequences: Path, part: Path, at_once: int
) -> list[str]:
    command = [str(analyzer.program), "-m", MODEL, "-u", address, "-i", "grpc"]
    command += ["--service-kind", "triton", "--streaming", "--async"]
    command += ["--input-data", str(sequences), "--concurrency-range", str(at_once)]
    command += ["--measurement-mode", "count_windows"]
    command += ["--measurement-request-count", str(WINDOWS_MEASURED)]
    # perf_analyzer gives up, and all its figures with it, where three measurements in a row do not
    # agree. A machine that does other work never gets there: here all three count, as they are.
    command += ["--stability-percentage", "1000"]
    command += ["--percentile", "95", "-f", str(part)]
    part.unlink(missing_ok=True)
    done = subprocess.run(
        command,
        check=False,
        capture_output=True,
        text=True,
        env=dict(analyzer.variables),
        timeout=3600,
    )
    if not part.is_file():
        raise LauncherError(
            f"perf_analyzer, {at_once} at once, ended with code {done.returncode} and wrote no "
            f"figures; it printed:\n{done.stdout}{done.stderr}"
        )
    lines = part.read_text("utf-8").splitlines(keepends=True)
    part.unlink()
    return lines


def read_levels(text: str, windows_a_scan: float) -> list[WindowLevel]:
    """Read perf_analyzer's CSV.

    Parameters
    ----------
    text : str
        The file. Times in it are microseconds.
    windows_a_scan : float
        Mean number of windows of a scan.

    Returns
    -------
    list of WindowLevel
        By rising number of scans at once.

    Raises
    ------
    LauncherError
        The file is not perf_analyzer's.
    """
    rows = list(csv.DictReader(line for line in text.splitlines() if line.strip()))
    try:
        levels = [
            WindowLevel(
                at_once=int(row["Concurrency"]),
                windows_a_second=float(row["Inferences/Second"]),
                scans_a_minute=60 * float(row["Inferences/Second"]) / windows_a_scan,
                latency_ms={
                    name: float(row[f"{name} latency"]) / 1000 for name in ("p50", "p95", "p99")
                },
                queue_ms=float(row["Server Queue"]) / 1000,
            )
            for row in rows
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise LauncherError(f"perf_analyzer's figures lack {error}: another version?") from None
    return sorted(levels, key=lambda level: level.at_once)


def lay_out(levels: Sequence[WindowLevel]) -> str:
    """Lay out the levels as a Markdown table."""
    lines = [
        "| scans at once | windows/s | scans/min | window p50, ms | p95 | p99 | waiting, ms |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {level.at_once} | {level.windows_a_second:.2f} | {level.scans_a_minute:.1f} | "
        + " | ".join(f"{value:.0f}" for value in level.latency_ms.values())
        + f" | {level.queue_ms:.0f} |"
        for level in levels
    ]
    return "\n".join(lines) + "\n"
