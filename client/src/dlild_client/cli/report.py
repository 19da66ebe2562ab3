"""`dlild report`: writes the report of a result that was scored before."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dlild_client.cli.options import BY_TYPER, ReportLanguage, output_option

if TYPE_CHECKING:
    from dlild_client.results.stored import StoredResult


def report(
    path: Annotated[
        Path,
        typer.Argument(
            metavar="RESULT",
            help="Folder of `dlild score --out`, or the JSON file of a result.",
            readable=BY_TYPER,
        ),
    ],
    scan: Annotated[
        Path | None,
        typer.Option(
            help="The scan that was scored: the viewer shows its HU. Needs labels.nii.gz, too.",
            readable=BY_TYPER,
        ),
    ] = None,
    series: Annotated[
        str | None,
        typer.Option(help="UID or number of the DICOM series, as for `dlild score`."),
    ] = None,
    out: Annotated[
        Path | None,
        output_option(
            "File to write. [default: report.html beside the result, or reading.html with --blind]",
            show_default=False,
        ),
    ] = None,
    language: ReportLanguage = "en",
    title: Annotated[
        str | None,
        typer.Option(help="Heading of the page. It names a patient only if you do."),
    ] = None,
    scan_id: Annotated[
        str | None,
        typer.Option(
            "--id",
            help="Id of the scan on the reading sheet. [default: start of the series' digest]",
            show_default=False,
        ),
    ] = None,
    blind: Annotated[
        bool,
        typer.Option(
            "--blind",
            help="Cover score, flags and label map until a reader has saved a reading.",
        ),
    ] = False,
) -> None:
    """Write the report of a result: one HTML file that opens offline.

    From result.json alone it has no viewer; with --scan it does. Without a scan, overlay.png is
    shown where it lies beside the result.
    """
    from dlild_client.errors import BadSettingsError  # noqa: PLC0415
    from dlild_client.report.languages import check_language  # noqa: PLC0415
    from dlild_client.report.page import report_page  # noqa: PLC0415
    from dlild_client.report.pictures import read_overlay, read_pictures  # noqa: PLC0415
    from dlild_client.results.files import (  # noqa: PLC0415
        NO_PAGES,
        cannot_be_written,
        write_atomically,
    )
    from dlild_client.results.stored import read_stored  # noqa: PLC0415

    check_language(language)
    stored = read_stored(path)
    if out is not None and (out.name in NO_PAGES or _same_file(out, stored.path)):
        raise BadSettingsError(
            f"--out: {out.name} is another output of a result, which a page would overwrite; give "
            "a name that ends in .html"
        )
    if blind and scan is None:
        raise BadSettingsError("--blind needs --scan: a reader reads the scan in the viewer")
    pictures = None if scan is None else read_pictures(stored, scan, series)
    page = report_page(
        stored.document,
        pictures,
        language=language,
        title=title,
        scan_id=scan_id,
        blind=blind,
        montage=None if pictures is not None else read_overlay(stored),
    )
    target = out or _default_target(stored, blind=blind)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(target, page)
    except OSError as error:
        raise cannot_be_written(target, error) from None
    print(target)
    if scan is None:
        print(
            "without a viewer: it needs the scan (--scan SCAN) and its labels.nii.gz",
            file=sys.stderr,
        )


def _same_file(path: Path, other: Path) -> bool:
    return path.resolve() == other.resolve()


def _default_target(stored: StoredResult, *, blind: bool) -> Path:
    from dlild_client.report.cohort import READINGS, REPORTS  # noqa: PLC0415
    from dlild_client.results.stored import READING, REPORT  # noqa: PLC0415

    if stored.of_batch:
        folder = stored.path.parent.parent / (READINGS if blind else REPORTS)
        return folder / f"{stored.path.stem}.html"
    return stored.folder / (READING if blind else REPORT)
