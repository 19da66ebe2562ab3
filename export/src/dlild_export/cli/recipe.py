"""`dlild-export recipe`."""

from __future__ import annotations

import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from dlild_export.cli.console import LungMasksOption, input_errors, stderr


def recipe(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="Recipe (TOML), such as export/recipes/*.toml.")],
    out: Annotated[Path, typer.Option(help="Folder for cases, trainings, weights and report.")],
    lung_masks: LungMasksOption = None,
    scans: Annotated[
        Path | None,
        typer.Option(help="Folder with a folder for each real scan without ILD, to plant in."),
    ] = None,
    single_slices: Annotated[
        Path | None,
        typer.Option(help="Folder of single axial CT slices without lesions (DICOM)."),
    ] = None,
    plan: Annotated[bool, typer.Option("--plan", help="Print the commands, run none.")] = False,
) -> None:
    """Make weights as a recipe says; goes on where a run into the same folder stopped.

    Each step is a command of `dlild-export` and runs in a process of its own. All are checked
    before the first runs.
    """
    from dlild_export import recipe as recipes  # noqa: PLC0415

    with input_errors():
        chosen = recipes.read_recipe(file)
        commands = recipes.plan(
            chosen, out, lung_masks=lung_masks, scans=scans, single_slices=single_slices
        )
        for command in commands:
            _check(context, command)
        if plan:
            done = len(recipes.commands_done(out))
            for number, command in enumerate(commands, start=1):
                state = "done" if number <= done else "    "
                print(f"{number:3} {state} dlild-export {shlex.join(command)}")
            return
        for number, code in recipes.run_plan(chosen, commands, out, _execute):
            if code < 0:
                words = shlex.join(commands[number - 1])
                stderr.print(
                    f"step {number} of {len(commands)}: dlild-export {words}",
                    soft_wrap=True,
                    markup=False,
                    highlight=False,
                )
            elif code:
                stderr.print(f"step {number} ended with {code}; the same command goes on from it")
                raise typer.Exit(code)
    print(f"{chosen.name}: {len(commands)} steps done in {out}")


def _check(context: typer.Context, command: tuple[str, ...]) -> None:
    """Parse a command's options, so that a wrong one is found before hours of others."""
    assert context.parent is not None
    group = context.parent.command
    assert isinstance(group, TyperGroup)
    group.commands[command[0]].make_context(command[0], list(command[1:]), parent=context.parent)


def _execute(command: tuple[str, ...]) -> int:
    """Run a command in a process of its own; return its exit code, 128 + N for a signal N.

    Ctrl-C reaches the child from the terminal, which finishes its step; SIGTERM is passed on.
    """
    words = [sys.executable, "-c", "from dlild_export.cli import main; main()", *command]
    with subprocess.Popen(words) as child:

        def pass_on(number: int, _: Any) -> None:
            child.send_signal(number)

        former = [
            (signal.SIGINT, signal.signal(signal.SIGINT, lambda *_: None)),
            (signal.SIGTERM, signal.signal(signal.SIGTERM, pass_on)),
        ]
        try:
            code = child.wait()
        finally:
            for number, handler in former:
                signal.signal(number, handler)
    return code if code >= 0 else 128 - code
