"""`make load`: perf_analyzer against the ensemble, with real sequences, one to eight at once.

Starts the embedded server unless an address is given. Writes OUT/load.csv (perf_analyzer's own) and
OUT/load.md.
"""

import argparse
import csv
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from analyzer import Analyzer, find_analyzer
from dlild_client.errors import DlildError
from launcher import EmbeddedServer
from preflight import ROOT, LauncherError, default_server_python
from sequences import write_sequences

SHARED_SCAN = ROOT.parent / "shared" / "data" / "lidc-idri-0314" / "dicom"
MODEL = "dlild"
WINDOWS_MEASURED = 12


@dataclass(frozen=True)
class Level:
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


def main(arguments: list[str] | None = None) -> int:
    """Run the load and return the exit code: 0 done, 1 failed, 3 a scan cannot be scored."""
    options = _parser().parse_args(arguments)
    return exit_code_of(lambda: _run(options))


def exit_code_of(run: Callable[[], int]) -> int:
    """Return what `run` returns; where it cannot go on, say why in one line and return that code.

    Parameters
    ----------
    run : callable
        Raises DlildError or LauncherError.

    Returns
    -------
    int
        An exit code: of `run`, of the client's error, or 1 where a server or tool failed.
    """
    try:
        return run()
    except DlildError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except LauncherError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def _run(options: argparse.Namespace) -> int:
    if options.read:
        levels = [
            level
            for report in options.read
            for level in read_levels(_text_of(report), options.windows_a_scan)
        ]
        print(lay_out(sorted(levels, key=lambda level: level.at_once)))
        return 0
    analyzer = find_analyzer(Path(default_server_python()))
    options.out.mkdir(parents=True, exist_ok=True)
    report = options.out / "load.csv"
    with ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dlild-load-")))
        sequences = place / "sequences.json"
        windows = write_sequences(options.scan or [default_scan(place)], sequences)
        _say(f"{len(windows)} scans of {windows} windows")
        address = options.server
        if address is None:
            _say("starting the embedded Triton server")
            server = EmbeddedServer(grpc_port=0, http_port=0, metrics_port=0)
            address = stack.enter_context(server).grpc_url.removeprefix("grpc://")
        _analyse(analyzer, address, sequences, report, options.most)
    levels = read_levels(report.read_text("utf-8"), sum(windows) / len(windows))
    text = lay_out(levels)
    (options.out / "load.md").write_text(text, "utf-8")
    print(f"\n{text}\nwritten: {report}, {options.out / 'load.md'}")
    return 0


def _text_of(report: Path) -> str:
    try:
        return report.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise LauncherError(
            f"{report} cannot be read ({error}): name perf_analyzer's CSV"
        ) from None


def default_scan(place: Path) -> Path:
    """Return the shared scan where there is one; else make a phantom patient in a folder."""
    if SHARED_SCAN.is_dir():
        return SHARED_SCAN
    from dlild_export.phantom import Pattern, PhantomSpec, make_phantom  # noqa: PLC0415
    from dlild_export.phantom.dicom import write_dicom_series  # noqa: PLC0415

    _say("making a phantom patient")
    spec = PhantomSpec(seed=2_000_005, pattern=Pattern.UIP, severity=0.25)
    write_dicom_series(make_phantom(spec), place / "phantom")
    return place / "phantom"


def _analyse(analyzer: Analyzer, address: str, sequences: Path, report: Path, most: int) -> None:
    """Measure every level in a process of its own, and gather the figures.

    Between two levels perf_analyzer cuts the scans that are open. The server refuses to score them,
    as it must, and perf_analyzer takes that for a failure and stops; at its own end it does not.
    """
    rows: list[str] = []
    for at_once in range(1, most + 1):
        _say(f"{at_once} at once")
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
            f"figures; it said:\n{done.stdout}{done.stderr}"
        )
    lines = part.read_text("utf-8").splitlines(keepends=True)
    part.unlink()
    return lines


def read_levels(text: str, windows_a_scan: float) -> list[Level]:
    """Read perf_analyzer's CSV.

    Parameters
    ----------
    text : str
        The file. Times in it are microseconds.
    windows_a_scan : float
        Mean number of windows of a scan.

    Returns
    -------
    list of Level
        By rising number of scans at once.

    Raises
    ------
    LauncherError
        The file is not perf_analyzer's.
    """
    rows = list(csv.DictReader(line for line in text.splitlines() if line.strip()))
    try:
        levels = [
            Level(
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


def lay_out(levels: Sequence[Level]) -> str:
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


def _say(what: str) -> None:
    print(f"{what} ...", file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Load the ensemble with perf_analyzer.")
    parser.add_argument("--out", type=Path, default=Path("out"), help="folder for the results")
    parser.add_argument(
        "--scan", type=Path, action="append", help="a scan to send; may be repeated"
    )
    parser.add_argument("--server", help="host:port of a gRPC door; the embedded one if left out")
    parser.add_argument(
        "--read", type=Path, nargs="+", help="lay out CSVs that are there already, and stop"
    )
    parser.add_argument("--windows-a-scan", type=float, default=1, help="for --read")
    parser.add_argument("--most", type=int, default=8, help="scans at once, at most")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
