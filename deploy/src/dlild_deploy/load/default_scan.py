"""The scan where none is given: the shared one or a phantom patient; progress on standard error."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from dlild_deploy.checkout import ROOT

if TYPE_CHECKING:
    from dlild_export.phantom import Phantom

SHARED_SCAN = ROOT.parent / "shared" / "data" / "lidc-idri-0314" / "dicom"
PHANTOM_SEED = 2_000_005
PHANTOM_SEVERITY = 0.25


def default_scan(folder: Path) -> Path:
    """Return the shared scan where there is one; else make a phantom patient in a folder."""
    if SHARED_SCAN.is_dir():
        return SHARED_SCAN
    phantom_patient(folder / "phantom")
    return folder / "phantom"


def phantom_patient(folder: Path) -> "Phantom":
    """Write the DICOM series of the phantom whose score the runbook knows, and return it."""
    from dlild_export.phantom import Pattern, PhantomSpec, make_phantom  # noqa: PLC0415
    from dlild_export.phantom.dicom import write_dicom_series  # noqa: PLC0415

    report_progress("making a phantom patient")
    spec = PhantomSpec(seed=PHANTOM_SEED, pattern=Pattern.UIP, severity=PHANTOM_SEVERITY)
    phantom = make_phantom(spec)
    write_dicom_series(phantom, folder)
    return phantom


def report_progress(what: str) -> None:
    """Say on standard error what begins."""
    print(f"{what} ...", file=sys.stderr, flush=True)
