"""`dlild compare`: what changed between scans of one patient."""

from __future__ import annotations

import json
from datetime import date
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dlild_client.cli.options import (
    BY_TYPER,
    Anonymous,
    AsJson,
    ReportLanguage,
    output_option,
)
from dlild_client.cli.screen import TITLE, print_rows

if TYPE_CHECKING:
    from dlild_client.results.compare import Comparison, Difference
    from dlild_client.results.files import Writer
    from dlild_client.source import SourceSeries


def compare(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="EARLIER LATER [...]",
            help="Folders of `dlild score --out`, or JSON files of results, the earliest scan "
            "first: of one patient, which results do not say.",
            readable=BY_TYPER,
        ),
    ],
    dates: Annotated[
        str | None,
        typer.Option(
            help="Days of the scans, as 2024-03-01,2025-02-20; only the days between "
            "them are written."
        ),
    ] = None,
    days: Annotated[
        str | None, typer.Option(help="Days of the scans from any origin, as 0,356.")
    ] = None,
    out: Annotated[
        Path | None,
        output_option("Folder for comparison.json, comparison.html and comparison.dcm."),
    ] = None,
    report: Annotated[
        bool, typer.Option("--report", help="Also write comparison.html; needs --out.")
    ] = False,
    sr: Annotated[
        bool,
        typer.Option(
            "--sr",
            help="Also write comparison.dcm: DICOM SR (extra [dicom]) that refers to the scans, "
            "their SEG and SR; needs --out and --scan.",
        ),
    ] = False,
    scan: Annotated[
        list[Path] | None,
        typer.Option(
            help="The scans that were scored, in the order of the results, once for each: the "
            "report shows the first and the last side by side, the SR refers to all.",
            readable=BY_TYPER,
        ),
    ] = None,
    language: ReportLanguage = "en",
    anonymous: Anonymous = False,
    as_json: AsJson = False,
) -> None:
    """Compare scans of one patient: differences, and whether they exceed measurement noise.

    Refused across model versions and weights; other kernels and slice thicknesses are flagged, and
    a larger coefficient holds. Three scans or more with their days have a slope per year.
    """
    from dlild_client.errors import BadSettingsError  # noqa: PLC0415
    from dlild_client.report.languages import check_language  # noqa: PLC0415
    from dlild_client.results.compare import compare_results  # noqa: PLC0415
    from dlild_client.results.dicom.extra import load_highdicom  # noqa: PLC0415
    from dlild_client.results.files import (  # noqa: PLC0415
        COMPARISON_OUTPUTS,
        text_writer,
        try_folder,
        write_comparison,
    )
    from dlild_client.results.stored import (  # noqa: PLC0415
        COMPARISON_PAGE,
        COMPARISON_SR,
        read_stored,
    )

    check_language(language)
    if (report or sr) and out is None:
        name = "--report" if report else "--sr"
        raise BadSettingsError(f"{name} needs --out: the folder that it is written to")
    _check_scans(scan or [], len(paths), report=report, sr=sr, anonymous=anonymous)
    if sr:
        load_highdicom()
    comparison = compare_results([read_stored(path) for path in paths], _days(dates, days))
    if out is not None:
        try_folder(out, COMPARISON_OUTPUTS)
        files: dict[str, Writer] = {}
        if report:
            from dlild_client.report.comparison import comparison_page  # noqa: PLC0415

            files[COMPARISON_PAGE] = text_writer(comparison_page(comparison, scan, language))
        if sr and scan:
            from dlild_client.results.dicom.change import make_change_report  # noqa: PLC0415
            from dlild_client.results.dicom.files import object_writer  # noqa: PLC0415

            sources = _sources(comparison, scan)
            files[COMPARISON_SR] = object_writer(
                make_change_report(comparison, sources, anonymous=anonymous)
            )
        write_comparison(comparison.to_dict(), out, files)
    if as_json:
        print(json.dumps(comparison.to_dict(), indent=2, allow_nan=False))
    else:
        _print(comparison, out)


def _check_scans(
    scan: list[Path], results: int, *, report: bool, sr: bool, anonymous: bool
) -> None:
    """Raise where scans are given for nothing, or are missing."""
    from dlild_client.errors import BadSettingsError  # noqa: PLC0415

    if scan and not (report or sr):
        raise BadSettingsError("--scan is for --report and --sr")
    if sr and not scan:
        raise BadSettingsError("--sr needs --scan once for each result: it refers to the scans")
    if scan and len(scan) != results:
        raise BadSettingsError(f"{len(scan)} times --scan for {results} results; give one each")
    if anonymous and not sr:
        raise BadSettingsError("--anonymous is for --sr: nothing else of a comparison names anyone")


def _sources(comparison: Comparison, scans: list[Path]) -> list[SourceSeries]:
    """Read the headers of the scans that were scored."""
    from dlild_client.reading.read import read_volume  # noqa: PLC0415
    from dlild_client.results.dicom.source import check_series, source_of  # noqa: PLC0415

    for path in scans:
        check_series(path)
    return [
        source_of(result.scan(partial(read_volume, path, with_source=True)), path.name)
        for result, path in zip(comparison.results, scans, strict=True)
    ]


def _days(dates: str | None, days: str | None) -> list[float] | None:
    from dlild_client.errors import BadSettingsError  # noqa: PLC0415

    if dates is not None and days is not None:
        raise BadSettingsError("--dates and --days say the same; give one of them")
    name, text = ("--dates", dates) if days is None else ("--days", days)
    if text is None:
        return None
    found = []
    for part in (part.strip() for part in text.split(",")):
        try:
            found.append(float(date.fromisoformat(part).toordinal() if dates else float(part)))
        except ValueError:
            example = "2024-03-01" if dates else "356"
            raise BadSettingsError(f"{name}: {part!r} is not understood; write {example}") from None
    return found


def _print(comparison: Comparison, out: Path | None) -> None:
    total = comparison.total
    rows = [("DL-ILD, %", _change(total.score))]
    titles = {n: c["title"] for n, c in comparison.results[0].document["classes"].items()}
    rows += [(f"{titles[name]}, %", _change(change)) for name, change in total.classes.items()]
    rows += [(f"{_words(name)}, %", _change(c)) for name, c in total.zones.items()]
    if total.years is not None:
        rows.append(("Between the scans", f"{total.years:.2f} years"))
    if total.noise is not None:
        noise = total.noise
        interval = f"{noise.coefficient:.2f} ({noise.low:.2f} to {noise.high:.2f}) points"
        rows.append(("Repeatability coefficient", f"{interval}, {_words(noise.condition)}"))
    if comparison.slope is not None:
        slope = comparison.slope
        interval = f"{slope.per_year:+.2f} ({slope.low:+.2f} to {slope.high:+.2f}) points a year"
        rows.append(("Slope", f"{interval}, {_words(slope.verdict)}"))
    rows.append(("Flags", ", ".join(total.flags) or "none"))
    if out is not None:
        rows.append(("Written to", str(out)))
    print_rows(TITLE, rows)


def _change(change: Difference) -> str:
    if change.earlier is None or change.later is None or change.difference is None:
        return "no lung in one of the scans"
    return (
        f"{change.earlier:.2f} to {change.later:.2f} ({change.difference:+.2f}), "
        f"{_words(change.verdict)}"
    )


def _words(code: str) -> str:
    return code.replace("_", " ")
