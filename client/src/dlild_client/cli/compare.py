"""`dlild compare`: what changed between scans of one patient."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dlild_client.cli.options import BY_TYPER, AsJson, ReportLanguage
from dlild_client.cli.screen import TITLE, print_rows

if TYPE_CHECKING:
    from dlild_client.results.compare import Comparison, Difference

JSON, PAGE = "comparison.json", "comparison.html"


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
        Path | None, typer.Option(help="Folder for comparison.json, and comparison.html.")
    ] = None,
    report: Annotated[
        bool, typer.Option("--report", help="Also write comparison.html; needs --out.")
    ] = False,
    scan: Annotated[
        list[Path] | None,
        typer.Option(
            help="The scans that were scored, in the order of the results, once for each: the "
            "report shows the first and the last side by side.",
            readable=BY_TYPER,
        ),
    ] = None,
    language: ReportLanguage = "en",
    as_json: AsJson = False,
) -> None:
    """Compare scans of one patient: differences, and whether they exceed measurement noise.

    Refused across model versions and weights; other kernels and slice thicknesses are flagged, and
    a larger coefficient holds. Three scans or more with their days have a slope per year.
    """
    from dlild_client.errors import BadSettingsError  # noqa: PLC0415
    from dlild_client.report.languages import check_language  # noqa: PLC0415
    from dlild_client.results.compare import compare_results  # noqa: PLC0415
    from dlild_client.results.files import try_folder, write_files  # noqa: PLC0415
    from dlild_client.results.stored import read_stored  # noqa: PLC0415

    check_language(language)
    if report and out is None:
        raise BadSettingsError("--report needs --out: the folder that it is written to")
    if scan and not report:
        raise BadSettingsError("--scan is for --report")
    if scan and len(scan) != len(paths):
        raise BadSettingsError(f"{len(scan)} times --scan for {len(paths)} results; give one each")
    comparison = compare_results([read_stored(path) for path in paths], _days(dates, days))
    if out is not None:
        try_folder(out)
        text = json.dumps(comparison.to_dict(), indent=2, allow_nan=False)
        files = {JSON: text + "\n"}
        if report:
            from dlild_client.report.comparison import comparison_page  # noqa: PLC0415

            files[PAGE] = comparison_page(comparison, scan, language)
        write_files(out, files)
    if as_json:
        print(json.dumps(comparison.to_dict(), indent=2, allow_nan=False))
    else:
        _print(comparison, out)


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
