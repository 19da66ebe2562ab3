"""`dlild batch`: scores many scans into one folder."""

from __future__ import annotations

import json
import logging
import sys
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dlild_client.cli.options import (
    BY_TYPER,
    AsJson,
    ObjectOptions,
    ReportLanguage,
    ServerOptions,
    make_files,
    output_option,
)
from dlild_client.cli.screen import TITLE, batch_progress, print_rows

if TYPE_CHECKING:
    from dlild_client.batch.on_dask import DaskScorer
    from dlild_client.batch.run import Scorer, Summary
    from dlild_client.settings import Settings

MOST_AT_ONCE = 64
"""Most concurrent scans on one machine; tasks queued at a Dask scheduler need no memory here."""


def batch(
    path: Annotated[
        Path,
        typer.Argument(
            help="Folder tree, DICOMDIR, or CSV list with a column path (and id, series).",
            readable=BY_TYPER,
        ),
    ],
    out: Annotated[Path, output_option("Folder for results.csv and a JSON file per scan.")],
    concurrency: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=4096,
            help="Scans in progress at once; about 0.4 GB each. [default: 3; "
            "with --dask twice the threads of the workers]",
            show_default=False,
        ),
    ] = None,
    dask: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Read and send scans on the workers of a Dask scheduler: tcp://scheduler:8786.",
            show_default=False,
        ),
    ] = None,
    images: Annotated[
        bool,
        typer.Option("--images", help="Also write labels.nii.gz and overlay.png of each scan."),
    ] = False,
    report: Annotated[
        bool,
        typer.Option("--report", help="Also write a report of each scan, and index.html of all."),
    ] = False,
    language: ReportLanguage = "en",
    again: Annotated[
        bool, typer.Option("--again", help="Retry scans that failed in an earlier run.")
    ] = False,
    *,
    objects: ObjectOptions,
    as_json: AsJson = False,
    server: ServerOptions,
) -> None:
    """Score all scans of a folder tree, a list or a DICOMDIR.

    The same command resumes a run that was stopped or killed: scans with a row are not scored
    again. A scan that cannot be scored gets a row with the reason; the batch goes on.

    Exit codes: 0 all scored, 3 some rejected, 1 some failed or the run ended early.
    """
    from dlild_client.batch.run import CONCURRENCY, PATIENT, run_batch  # noqa: PLC0415
    from dlild_client.client import Client  # noqa: PLC0415
    from dlild_client.report.languages import check_language  # noqa: PLC0415

    check_language(language)
    if dask is None and concurrency is not None and concurrency > MOST_AT_ONCE:
        raise typer.BadParameter(
            f"{concurrency} scans at once on one machine; {MOST_AT_ONCE} at most",
            param_hint="--concurrency",
        )
    kinds = objects.kinds()
    voxels = images or bool(kinds)
    settings = server.settings(PATIENT)
    with ExitStack() as stack:
        scorer: Scorer = stack.enter_context(Client.from_settings(settings))
        if dask is not None:
            voxels = voxels or report
            scorer = stack.enter_context(_on_dask(scorer, settings, dask, images=voxels))
        progress = stack.enter_context(batch_progress())
        summary = run_batch(
            scorer,
            path,
            out,
            concurrency=concurrency or (CONCURRENCY if dask is None else 0),
            images=images,
            report=language if report else None,
            more=partial(make_files, kinds=kinds, anonymous=objects.anonymous) if kinds else None,
            anonymous=objects.anonymous,
            again=again,
            progress=progress.on_progress,
            finished=progress.finished,
            notify=progress.notify,
        )
    if as_json:
        print(json.dumps(summary.to_dict(), indent=2))
    else:
        _print_summary(summary, out)
    if summary.exit_code:
        raise typer.Exit(summary.exit_code)


def _on_dask(client: Scorer, settings: Settings, scheduler: str, *, images: bool) -> DaskScorer:
    from dlild_client.batch.on_dask import DaskScorer  # noqa: PLC0415

    _silence_dask()
    scorer = DaskScorer(client, settings.address.url, scheduler, voxels=images)
    if not scorer.threads:
        print(f"waiting for workers of {scheduler} ...", file=sys.stderr)
    return scorer


def _silence_dask() -> None:
    """Silence the loggers of Dask: errors become one line, or a row."""
    with suppress(ImportError):
        import distributed  # noqa: F401, PLC0415  (its import sets log levels)
    for name in ("distributed", "distributed.client", "tornado.application", "asyncio"):
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)


def _print_summary(summary: Summary, out: Path) -> None:
    rows = [
        ("Scored", str(summary.counts["scored"])),
        ("Rejected", str(summary.counts["rejected"])),
        ("Failed", str(summary.counts["failed"])),
        *((f"  {kind}", str(count)) for kind, count in sorted(summary.errors.items())),
        ("Done before", str(summary.before)),
        ("Time", f"{summary.seconds:.0f} s"),
        ("Throughput", f"{summary.scans_per_hour:.0f} scans/h"),
        ("Rows in", str(out / "results.csv")),
    ]
    print_rows(TITLE, rows)
