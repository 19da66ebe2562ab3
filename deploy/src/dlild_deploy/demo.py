"""One scan through a real Triton on this machine, from DICOM to picture: ``make demo``."""

import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from dlild_deploy.load.default_scan import phantom_patient, report_progress
from dlild_deploy.server.embedded_server import EmbeddedServer

if TYPE_CHECKING:
    from dlild_client.results.result import Result
    from dlild_export.phantom import Phantom


def run_demo(scan: Path | None, out: Path) -> None:
    """Score one scan through the embedded server, and print and write the result.

    Parameters
    ----------
    scan : Path, optional
        DICOM folder or image file; a phantom patient where it is left out, whose true DL-ILD is
        shown beside the result.
    out : Path
        Folder for the result.

    Raises
    ------
    DlildError
        The scan cannot be scored.
    LauncherError
        The server cannot run.
    """
    from dlild_client import Client, read_volume, write_result  # noqa: PLC0415

    phantom = None
    with ExitStack() as stack:
        if scan is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dlild-phantom-")))
            phantom = phantom_patient(folder)
            scan = folder
        elif not scan.exists():
            # Before the server is started: nothing of it is needed to see this.
            read_volume(scan)
        report_progress("starting the embedded Triton server")
        server = stack.enter_context(EmbeddedServer(grpc_port=0, http_port=0, metrics_port=0))
        report_progress(f"scoring through {server.grpc_url}")
        with Client(server.grpc_url) as client:
            result = client.score(scan, _show)
        write_result(result, out)
    _print_table(result, phantom)
    print(f"written: {out}/result.json, {out}/labels.nii.gz, {out}/overlay.png")


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
    model = result.model
    print(f"\nflags: {', '.join(result.flags) or 'none'}; {result.timings_s['total']:.1f} s")
    print(f"weights: version {model.version}, by {model.engine} in {model.precision}")
    print("For research use only.\n")
