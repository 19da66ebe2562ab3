"""Entry point of `dlild`: sub-commands, signals, and exit codes of errors."""

from __future__ import annotations

import io
import logging
import os
import signal
import sys
import warnings
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from dlild_client.cli import (
    batch,
    compare,
    doctor,
    info,
    listen,
    report,
    score,
    series,
    verify,
)
from dlild_client.cli.options import with_groups

INTERRUPTED = 130

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="DL-ILD of a chest CT, scored by a DL-ILD server. For research use only.",
    epilog="Exit codes: 0 done, 1 failed, 2 usage, 3 input rejected, 130 interrupted.",
)
for command in (
    score.score,
    batch.batch,
    report.report,
    compare.compare,
    series.series,
    verify.verify,
    info.info,
    doctor.doctor,
    listen.listen,
    listen.queue,
):
    app.command()(with_groups(command))


def main() -> None:
    """Run the command; an error of the tree becomes one line on standard error and an exit code."""
    for stream in (sys.stdout, sys.stderr):
        # Names of files and kernels may hold characters that the terminal cannot encode.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    # Silence libraries: an error is one line.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    warnings.simplefilter("ignore")
    for name in ("pydicom", "stamina"):
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    from dlild_client.errors import DlildError  # noqa: PLC0415

    try:
        _run()
    except DlildError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except _InterruptedError:
        print("error: interrupted", file=sys.stderr)
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        # The reader of the output has closed the pipe: no message.
        _drop_output()
        sys.exit(1)
    except OSError as error:
        print(f"error: {_describe(error)}", file=sys.stderr)
        _drop_output()
        sys.exit(1)


def _run() -> None:
    """Run the sub-command, and flush its output, so that write errors are caught here."""
    try:
        app()
    finally:
        if sys.stdout is not None:
            sys.stdout.flush()


def _describe(error: OSError) -> str:
    """Describe an OSError; without a file name it comes from standard output."""
    reason = error.strerror or str(error)
    if error.filename is None:
        return f"standard output cannot be written: {reason}; send it elsewhere"
    return f"{Path(str(error.filename)).name}: {reason}"


def _drop_output() -> None:
    """Redirect standard output to the null device, so that the final flush does not fail."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


class _InterruptedError(BaseException):
    """Ctrl-C or SIGTERM. Not a KeyboardInterrupt, which typer handles without a message."""


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    """Unwind the stack, so that the client sends its abort requests."""
    raise _InterruptedError


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
