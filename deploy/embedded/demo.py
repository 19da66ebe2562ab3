"""`make demo`: one scan through a real Triton, from DICOM to picture, on this machine.

Without `--scan` the scan is a phantom patient, whose true DL-ILD is known and shown beside the
result.
"""

import argparse
import os
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from dlild_client.errors import DlildError
from launcher import EmbeddedServer
from preflight import LauncherError

if TYPE_CHECKING:
    from dlild_client.results.result import Result
    from dlild_export.phantom import Phantom

FAILED = 1
INTERRUPTED = 130
PHANTOM_SEED = 2_000_005
PHANTOM_SEVERITY = 0.25


def main(arguments: list[str] | None = None) -> int:
    """Run the demo and return its exit code: 0 done, 1 failed, 3 the scan cannot be scored."""
    parser = argparse.ArgumentParser(description="Score one scan through the embedded server.")
    parser.add_argument(
        "--scan", type=Path, help="DICOM folder, or NIfTI file; a phantom if left out"
    )
    parser.add_argument("--out", type=Path, default=Path("demo"), help="folder for the results")
    chosen = parser.parse_args(arguments)
    try:
        return _run(chosen.scan, chosen.out)
    except DlildError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except LauncherError as error:
        print(f"error: {error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print("error: interrupted", file=sys.stderr)
        return INTERRUPTED


def _run(scan: Path | None, out: Path) -> int:
    from dlild_client import Client, read_volume, write_result  # noqa: PLC0415

    phantom = None
    with ExitStack() as stack:
        if scan is None:
            _say("making a phantom patient")
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dlild-phantom-")))
            phantom = _phantom_patient(folder)
            scan = folder
        elif not scan.exists():
            # Before the server is started: nothing of it is needed to see this.
            read_volume(scan)
        _say("starting the embedded Triton server")
        server = stack.enter_context(EmbeddedServer(grpc_port=0, http_port=0, metrics_port=0))
        _say(f"scoring through {server.grpc_url}")
        with Client(server.grpc_url) as client:
            result = client.score(scan, _show)
        write_result(result, out)
    _print_table(result, phantom)
    print(f"written: {out}/result.json, {out}/labels.nii.gz, {out}/overlay.png")
    return 0


def _phantom_patient(folder: Path) -> "Phantom":
    from dlild_export.phantom import Pattern, PhantomSpec, make_phantom  # noqa: PLC0415
    from dlild_export.phantom.dicom import write_dicom_series  # noqa: PLC0415

    spec = PhantomSpec(seed=PHANTOM_SEED, pattern=Pattern.UIP, severity=PHANTOM_SEVERITY)
    phantom = make_phantom(spec)
    write_dicom_series(phantom, folder)
    return phantom


def _say(what: str) -> None:
    print(f"{what} ...", file=sys.stderr, flush=True)


def _show(stage: str, done: int, whole: int) -> None:
    """Show progress on one line where there is a terminal, and stay quiet elsewhere."""
    if sys.stderr.isatty():
        end = "\n" if stage == "inference" and done == whole else ""
        print(f"\r{stage:<10} {done} of {whole}   ", end=end, file=sys.stderr, flush=True)


def _print_table(result: "Result", phantom: "Phantom | None") -> None:
    rows = [
        ("DL-ILD, %", result.dl_ild_percent, phantom.dl_ild_percent if phantom else None),
        ("lung, mL", result.lung_volume_ml, phantom.lung_volume_ml if phantom else None),
    ]
    titles = {c.name: c.title for c in result.contract.classes}
    for name, volume in result.classes.items():
        truth = phantom.volume_ml(volume.label) if phantom else None
        rows.append((f"{titles[name].lower()}, mL", volume.volume_ml, truth))
    heads = ["", "measured", *(["truth"] if phantom else [])]
    print(f"\n{heads[0]:<26}" + "".join(f"{head:>12}" for head in heads[1:]))
    for title, measured, truth in rows:
        cells = [measured] if truth is None else [measured, truth]
        print(f"{title:<26}" + "".join(f"{cell:>12.1f}" for cell in cells))
    print(f"\nflags: {', '.join(result.flags) or 'none'}; {result.timings_s['total']:.1f} s")
    print("For research use only.\n")


if __name__ == "__main__":
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    sys.exit(main())
