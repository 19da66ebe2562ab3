"""The command `dlild`: thin glue between a terminal and the client."""

from __future__ import annotations

import json
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from dlild_client.connection import ServerInfo
    from dlild_client.result import Result

DEFAULT_URL = "grpc://127.0.0.1:8001"
INTERRUPTED = 130

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="DL-ILD of a chest CT, scored by a DL-ILD server. For research use only.",
)

Url = Annotated[
    str, typer.Option(help="Address of the server: grpc://host:port, or grpcs:// for TLS.")
]
AsJson = Annotated[
    bool, typer.Option("--json", help="Print JSON to standard output, for machines.")
]


def main() -> None:
    """Run the command; every error of the tree is one line on standard error and an exit code."""
    # Libraries talk of their own accord; a user gets one line.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    warnings.simplefilter("ignore")
    logging.getLogger("pydicom").setLevel(logging.CRITICAL + 1)
    from dlild_client.errors import DlildError  # noqa: PLC0415

    try:
        app()
    except DlildError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print("error: interrupted", file=sys.stderr)
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        # Whoever read the output has gone; there is nobody to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


def _print_version(wanted: bool) -> None:
    if wanted:
        from dlild_client import __version__  # noqa: PLC0415

        print(f"dlild {__version__}")
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


@app.command()
def score(
    path: Annotated[
        Path, typer.Argument(help="Folder of a DICOM series, or a NIfTI, NRRD or MetaImage file.")
    ],
    url: Url = DEFAULT_URL,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for result.json, labels.nii.gz and overlay.png."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Score one chest CT."""
    from dlild_client.client import Client  # noqa: PLC0415
    from dlild_client.outputs import write_result  # noqa: PLC0415

    with Client(url) as client, _progress_bar() as progress:
        result = client.score(path, progress)
    if out is not None:
        write_result(result, out)
    if as_json:
        print(result.to_json())
    else:
        _print_result(result, out)


@app.command()
def info(url: Url = DEFAULT_URL, as_json: AsJson = False) -> None:
    """Ask a server for its model, version, profile and engine."""
    from dlild_client.client import Client  # noqa: PLC0415

    with Client(url) as client:
        facts = _facts(client.info())
    if as_json:
        print(json.dumps(facts, indent=2))
    else:
        _print_rows(
            "DL-ILD server", [(name.replace("_", " "), str(value)) for name, value in facts.items()]
        )


@contextmanager
def _progress_bar() -> Iterator[Callable[[str, int, int], None]]:
    """Show a progress bar on standard error, or nothing where that is no terminal."""
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn  # noqa: PLC0415

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description:<10}"),
        BarColumn(),
        MofNCompleteColumn(),
    )
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        tasks: dict[str, object] = {}

        def report(stage: str, done: int, whole: int) -> None:
            if stage not in tasks:
                tasks[stage] = bar.add_task(stage, total=whole)
            bar.update(tasks[stage], completed=done, total=whole)  # type: ignore[arg-type]

        yield report


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
    rows.append(("Time", f"{result.timings_s['total']:.1f} s"))
    if out is not None:
        rows.append(("Written to", str(out)))
    _print_rows("DL-ILD, for research use only", rows)


def _print_rows(title: str, rows: list[tuple[str, str]]) -> None:
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    table = Table(title=title, show_header=False)
    table.add_column(style="bold")
    table.add_column(justify="right", overflow="fold")
    for row in rows:
        table.add_row(*row)
    Console(markup=False, highlight=False).print(table)


def _facts(server: ServerInfo) -> dict[str, object]:
    contract = server.contract
    return {
        "url": server.url,
        "model": contract.model.name,
        "model_version": contract.model.version,
        "weights_digest": f"sha256:{contract.model.weights_sha256}",
        "profile": server.profile,
        "engine": server.engine.engine,
        "precision": server.engine.precision,
        "server_version": server.server_version,
        "contract_schema_version": contract.schema_version,
    }


if __name__ == "__main__":
    main()
