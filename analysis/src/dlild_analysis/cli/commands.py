"""The command `dlild-analysis`: thin; everything it does is a function of the package."""

from __future__ import annotations

import json
import shlex
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from dlild_analysis.audit import audit as run_audit
from dlild_analysis.audit import example_path
from dlild_analysis.cohort import Cohort, load_cohort
from dlild_analysis.cohort.proposal import propose, within_follow_up
from dlild_analysis.cohort.study_toml import load_study
from dlild_analysis.errors import AnalysisError, CohortError, OutOfRangeError, UsageError
from dlild_analysis.prediction import predict_table, read_model
from dlild_analysis.progression import all_rules as list_rules
from dlild_analysis.progression import assess
from dlild_analysis.report import write_report
from dlild_analysis.report.validation import write_validation
from dlild_analysis.report.write import dump
from dlild_analysis.serving import add_to_repository as write_to_repository
from dlild_analysis.serving import tensor_names
from dlild_analysis.simulate import (
    STUDY_TOML,
    VISITS_TOML,
    draw_cohort,
    draw_visits,
    parameters_like,
    statement,
)
from dlild_analysis.stats.errors import StatisticsError
from dlild_analysis.steps import Data, Progress, analyse
from dlild_analysis.steps.external_validation import sentences as validation_sentences
from dlild_analysis.steps.external_validation import validate_model
from dlild_analysis.steps.patients.sample_size import few_events

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Statistics of DL-ILD scores: cohorts, progression, report. Research use only.",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print("dlild-analysis", version("dlild-analysis"))
        raise typer.Exit


@app.callback()
def _common(
    _version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    pass


TableArgument = Annotated[Path, typer.Argument(help="Table of the cohort: CSV, .xlsx or Parquet.")]
ConfigOption = Annotated[Path, typer.Option("--config", help="TOML that describes the study.")]
ResultsOption = Annotated[
    Path | None,
    typer.Option("--results", help="Folder of the client's result.json files, joined by id."),
]
VisitsOption = Annotated[
    Path | None,
    typer.Option("--visits", help="Table of visits; replaces visits.file of the study."),
]
QuietOption = Annotated[bool, typer.Option("--quiet", help="No progress on stderr.")]


@app.command()
def init(
    table: TableArgument,
    sheet: Annotated[
        str | None, typer.Option("--sheet", help="Sheet of the patients in a workbook.")
    ] = None,
    join: Annotated[
        list[Path] | None,
        typer.Option("--join", help="Further table to join by id; may be given several times."),
    ] = None,
    out: Annotated[Path, typer.Option("--out", help="TOML to write.")] = Path("study.toml"),
    replace: Annotated[
        bool, typer.Option("--replace", help="Replace a TOML that is there.")
    ] = False,
) -> None:
    """Look at a table and propose the study's TOML, with its questions as comments."""
    if out.exists() and not replace:
        raise UsageError(f"{out}: is there already; give another --out, or --replace")
    proposal = propose(table, sheet, join or [])
    out.write_text(proposal.text, encoding="utf-8")
    print(f"{out}: {len(proposal.questions)} questions stand in it as comments:")
    for question in proposal.questions:
        print(f"  - {question}")
    if proposal.to_fill:
        print(f"To fill before anything can be analysed: {', '.join(proposal.to_fill)}")
        return
    try:
        cohort = _load(table, out, None, None)
        last = float(np.nanmax(assess(cohort).time, initial=0.0))
        if within_follow_up(proposal, last):
            out.write_text(proposal.text, encoding="utf-8")
        print(_summary(table, cohort))
    except AnalysisError as error:
        print(f"As it stands: {error}")
    print(f"Next: dlild-analysis check {shlex.quote(str(table))} --config {shlex.quote(str(out))}")


@app.command()
def fit(
    table: TableArgument,
    config: ConfigOption,
    out: Annotated[Path, typer.Option("--out", help="Folder for the report.")],
    results: ResultsOption = None,
    visits: VisitsOption = None,
    all_rules: Annotated[
        bool, typer.Option("--all-rules", help="Also compare every progression rule.")
    ] = False,
    quiet: QuietOption = False,
) -> None:
    """Analyse a cohort and write its report."""
    if out.exists() and not out.is_dir():
        raise UsageError(f"--out {out.name}: a file of that name is in the way")
    cohort = _load(table, config, results, visits)
    progress = Progress(quiet=quiet)
    for note in cohort.notes if not quiet else ():
        progress.step(f"note: {note}")
    analysis = analyse(cohort, all_rules=all_rules, progress=progress)
    written = write_report(analysis, out, progress)
    print(f"{out / 'report.html'} ({len(written)} files)")


@app.command()
def check(
    table: TableArgument,
    config: ConfigOption,
    results: ResultsOption = None,
    visits: VisitsOption = None,
) -> None:
    """Only validate a cohort, and list every fault with its row and column."""
    cohort = _load(table, config, results, visits)
    for note in _notes(cohort):
        print(f"note: {note}")
    print(_summary(table, cohort))


def _notes(cohort: Cohort) -> list[str]:
    outcome = assess(cohort)
    notes = [str(note) for note in (*cohort.notes, *outcome.notes)]
    return notes + [few for few in [few_events(Data(cohort, outcome))] if few]


def _summary(table: Path, cohort: Cohort) -> str:
    return (
        f"{table.name}: {len(cohort.patients)} patients, {len(cohort.visits)} visits, "
        f"{assess(cohort).events} events, {len(_notes(cohort))} notes, no fault"
    )


def _load(table: Path, config: Path, results: Path | None, visits: Path | None) -> Cohort:
    return load_cohort(table, load_study(config), results, visits)


@app.command()
def rules() -> None:
    """List the progression rules with their sources."""
    print("recorded@1\n  As recorded in the table (outcome.time, outcome.event).\n")
    for rule in list_rules():
        print(f"{rule.name}@{rule.version}\n  {rule.statement}\n  Source: {rule.source}\n")


@app.command()
def audit(
    table: Annotated[
        Path | None, typer.Argument(help="TOML of published figures; leave it out with --example.")
    ] = None,
    example: Annotated[
        bool, typer.Option("--example", help="Audit the paper's own figures.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option("--out", help="Also write the findings as JSON.")
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit 1 if a finding is incoherent.")
    ] = False,
) -> None:
    """Check whether published figures can be true together."""
    if (table is None) != example:
        raise UsageError("give the TOML of the figures, or --example")
    title, findings = run_audit(example_path() if table is None else table)
    print(title)
    for finding in findings:
        print(f"\n[{finding.verdict}] {finding.title}\n  {finding.words}")
        if finding.assumption:
            print(f"  assumed: {finding.assumption}")
        print(f"  formula: {finding.formula}\n  source: {finding.source}")
    if out is not None:
        out.write_text(
            dump({"title": title, "findings": [item.as_dict() for item in findings]}),
            encoding="utf-8",
        )
    if strict and any(item.verdict == "incoherent" for item in findings):
        raise typer.Exit(1)


@app.command()
def simulate(
    out: Annotated[Path, typer.Option("--out", help="CSV of the cohort.")],
    like: Annotated[
        str, typer.Option("--like", help="Publication to which the model is calibrated.")
    ] = "paper",
    n: Annotated[int, typer.Option("--n", min=1, max=5_000_000, help="Patients.")] = 112,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed.")] = 1,
    dropout: Annotated[
        float, typer.Option("--dropout", min=0.0, max=0.95, help="Share lost within 24 months.")
    ] = 0.0,
    death: Annotated[
        float,
        typer.Option(
            "--death", min=0.0, max=0.95, help="Share dead of other causes within 24 months."
        ),
    ] = 0.0,
    visits: Annotated[
        Path | None, typer.Option("--visits", help="Also write serial visits (CSV).")
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", help="Also write the TOML that describes the cohort.")
    ] = None,
    describe: Annotated[
        bool, typer.Option("--describe", help="Print the model, its targets and what was left out.")
    ] = False,
) -> None:
    """Draw a cohort from the stated generative model."""
    cohort = draw_cohort(
        parameters_like(like),
        n,
        np.random.default_rng([seed, 0]),
        dropout_24=dropout,
        death_24=death,
    )
    cohort.to_csv(out, index=False, lineterminator="\n")
    if visits is not None:
        draw_visits(cohort, np.random.default_rng([seed, 1])).to_csv(
            visits, index=False, lineterminator="\n"
        )
    if config is not None:
        extra = VISITS_TOML.format(file=visits.name) if visits is not None else ""
        config.write_text(STUDY_TOML + extra, encoding="utf-8")
    if describe:
        print(json.dumps(statement(), indent=2))
    print(f"{out}: {n} patients, {int((cohort['event'] == 1).sum())} with progression")


@app.command()
def predict(
    model: Annotated[Path, typer.Argument(help="model.json of a fit.")],
    table: Annotated[Path, typer.Argument(help="New patients: CSV or Parquet.")],
    out: Annotated[
        Path | None, typer.Option("--out", help="CSV of the risks; printed where left out.")
    ] = None,
    id_column: Annotated[str, typer.Option("--id", help="Column of the ids.")] = "id",
) -> None:
    """Predict risks with a saved model; exit 3 where a patient lies outside its data."""
    frame = predict_table(read_model(model), table, id_column)
    text = frame.to_csv(index=False, float_format="%.6f", lineterminator="\n")
    if out is None:
        print(text, end="")
    else:
        out.write_text(text, encoding="utf-8")
    refused = frame[frame["refused"] != ""]
    if len(refused):
        for row in refused.itertuples():
            print(f"refused: id {row.id}: {row.refused}", file=sys.stderr)
        raise OutOfRangeError(
            f"{len(refused)} of {len(frame)} patients were refused; the others have their risks"
        )


@app.command()
def validate(
    model: Annotated[Path, typer.Argument(help="model.json of a fit.")],
    table: TableArgument,
    config: ConfigOption,
    out: Annotated[Path, typer.Option("--out", help="Folder for what is found.")],
    results: ResultsOption = None,
    visits: VisitsOption = None,
) -> None:
    """Validate a saved model on a new cohort, and recalibrate it as a new file."""
    if out.exists() and not out.is_dir():
        raise UsageError(f"--out {out.name}: a file of that name is in the way")
    saved = read_model(model)
    validation, recalibrated = validate_model(saved, _load(table, config, results, visits))
    written = write_validation(validation, recalibrated, out)
    for text in validation_sentences(validation):
        print(text)
    print(f"{out / 'validation.html'} ({len(written)} files)")


@app.command()
def add_to_repository(
    model: Annotated[Path, typer.Argument(help="model.json of a fit.")],
    repository: Annotated[Path, typer.Argument(help="Model repository that Triton serves.")],
    replace: Annotated[
        bool, typer.Option("--replace", help="Replace a progression model that is there.")
    ] = False,
) -> None:
    """Add a saved model to a model repository, as Triton model `progression`."""
    saved = read_model(model)
    folder = write_to_repository(saved, repository, replace=replace)
    print(f"{folder}: Triton model {folder.name!r}; it takes")
    names = tensor_names(saved)
    for item in saved["inputs"]:
        if item["kind"] == "category":
            takes = f"one of {', '.join(item['levels'])}"
        else:
            takes = f"{item['low']:g} to {item['high']:g} {item['unit']}".rstrip()
        print(f"  {names[item['name']]}: {item['label']} (column {item['column']}), {takes}")


def main(arguments: list[str] | None = None) -> int:
    """Run the command: 0 done, 1 failed, 2 usage, 3 input rejected, 130 interrupted."""
    try:
        code = app(args=arguments, standalone_mode=False)
    except CohortError as error:
        for fault in error.faults:
            print(f"fault: {fault}", file=sys.stderr)
        print(
            f"error: {len(error.faults)} faults in the table; nothing was analysed", file=sys.stderr
        )
        return error.exit_code
    except AnalysisError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except (StatisticsError, OSError, MemoryError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except (KeyboardInterrupt, typer.Abort):
        print("error: interrupted", file=sys.stderr)
        return 130
    except Exception as error:
        # Typer's own complaints have no public root in all its versions, but all can format
        # themselves.
        if not hasattr(error, "format_message"):
            raise
        print(f"error: {error.format_message()}", file=sys.stderr)
        return 2
    return code if isinstance(code, int) else 0
