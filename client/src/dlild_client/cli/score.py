"""`dlild score`: scores one scan."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dlild_client.cli.options import (
    ARCHIVE,
    AsJson,
    ObjectOptions,
    ReportLanguage,
    ServerOptions,
    make_files,
    output_option,
)
from dlild_client.cli.screen import TITLE, print_rows, scan_progress

if TYPE_CHECKING:
    from dlild_client.archive.scan import GivenScan
    from dlild_client.errors import DlildError
    from dlild_client.results.result import Result


def score(
    path: Annotated[
        str,
        typer.Argument(
            help="Folder, zip archive or DICOMDIR with a chest CT, a multi-frame DICOM file, or a "
            "NIfTI, NRRD or MetaImage file; or an archive: dicomweb+https://host/path.",
        ),
    ],
    out: Annotated[
        Path | None,
        output_option("Folder for result.json, labels.nii.gz and overlay.png."),
    ] = None,
    series: Annotated[
        str | None,
        typer.Option(help="UID or number of the DICOM series to score; see `dlild series`."),
    ] = None,
    study: Annotated[
        str | None,
        typer.Option(
            help="UID of the study to retrieve from the archive.", rich_help_panel=ARCHIVE
        ),
    ] = None,
    report: Annotated[
        bool,
        typer.Option("--report", help="Also write report.html, with a viewer; needs --out."),
    ] = False,
    language: ReportLanguage = "en",
    store: Annotated[
        bool,
        typer.Option(
            "--store",
            help="Store SEG, SR and capture of the result in the archive, in the same study.",
            rich_help_panel=ARCHIVE,
        ),
    ] = False,
    *,
    objects: ObjectOptions,
    as_json: AsJson = False,
    server: ServerOptions,
) -> None:
    """Score one chest CT."""
    from dlild_client.archive.scan import open_scan  # noqa: PLC0415
    from dlild_client.client import Client  # noqa: PLC0415
    from dlild_client.errors import BadSettingsError  # noqa: PLC0415
    from dlild_client.results.files import OUTPUTS, try_folder, write_result  # noqa: PLC0415

    settings = server.settings()
    if report and out is None:
        raise BadSettingsError("--report needs --out: the folder that report.html is written to")
    kinds = objects.kinds()
    _check_objects(kinds, out, store=store, anonymous=objects.anonymous)
    more = _more_files(report=report, language=language)
    with open_scan(path, study, series) as scan:
        _check_scan(scan, kinds, store=store)
        if out is not None:
            try_folder(out, OUTPUTS)
        with Client.from_settings(settings) as client, scan_progress() as progress:
            if scan.archive is not None:
                client.info()  # an absent server is reported before a study is retrieved
            scan.fetch(progress)
            with_source = store or bool(kinds)
            result = client.score(lambda: scan.read(series, with_source=with_source), progress)
        actions: dict[str, Callable[[], object]] = {}
        if out is not None:
            writers = {name: partial(w, result) for name, w in more.items()}
            make = partial(make_files, result, kinds, language, anonymous=objects.anonymous)
            actions["write"] = lambda: write_result(
                result, out, {**writers, **make()}, alone=objects.anonymous
            )
        if store:
            actions["store"] = partial(scan.store, result)
        faults = _run_all(actions)
    if as_json:
        print(result.to_json())
    else:
        _print_result(result, None if "write" in faults else out)
    for error in faults.values():
        raise error


def _check_scan(scan: GivenScan, kinds: tuple[str, ...], *, store: bool) -> None:
    """Raise where the archive cannot store, or the scan has no series to refer to."""
    if store:
        scan.check_store()
    if kinds and scan.archive is None:
        from dlild_client.results.dicom.source import check_series  # noqa: PLC0415

        check_series(scan.path)


def _check_objects(
    kinds: tuple[str, ...], out: Path | None, *, store: bool, anonymous: bool
) -> None:
    """Raise where options of the DICOM objects exclude each other."""
    from dlild_client.errors import BadSettingsError  # noqa: PLC0415

    if kinds and out is None:
        raise BadSettingsError(f"--{kinds[0]} needs --out: the folder that its file is written to")
    if store and anonymous:
        raise BadSettingsError(
            "--store puts results into the patient's study, and --anonymous would take them out of "
            "it; give one of the two"
        )


def _run_all(actions: Mapping[str, Callable[[], object]]) -> dict[str, DlildError]:
    """Run all actions, and return their errors: the score is printed even where one fails."""
    from dlild_client.errors import DlildError  # noqa: PLC0415

    faults: dict[str, DlildError] = {}
    for name, action in actions.items():
        try:
            action()
        except DlildError as error:
            faults[name] = error
    return faults


def _more_files(*, report: bool, language: str) -> dict[str, Callable[[Result, Path], object]]:
    """Writers of further files, by name; options are checked before the scan is scored."""
    more: dict[str, Callable[[Result, Path], object]] = {}
    if report:
        from dlild_client.report.languages import check_language  # noqa: PLC0415
        from dlild_client.report.page import REPORT, write_report  # noqa: PLC0415

        more[REPORT] = partial(write_report, language=check_language(language))
    return more


def _print_result(result: Result, out: Path | None) -> None:
    rows = [
        ("DL-ILD", f"{result.dl_ild_percent:.2f} %"),
        ("All lung", f"{result.lung_volume_ml:.0f} mL"),
        ("All lesions", f"{result.lesion_volume_ml:.0f} mL"),
    ]
    titles = {c.name: c.title for c in result.contract.classes}
    for name, kind in result.classes.items():
        rows.append((titles[name], f"{kind.volume_ml:.0f} mL ({kind.percent_of_lung:.2f} %)"))
    rows.append(("Flags", ", ".join(result.flags) or "none"))
    model = result.model
    rows.append(("Weights", f"version {model.version}, by {model.engine} in {model.precision}"))
    rows.append(("Time", f"{result.timings_s['total']:.1f} s"))
    if out is not None:
        rows.append(("Written to", str(out)))
    print_rows(TITLE, rows)
