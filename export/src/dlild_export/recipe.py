"""Recipes of weights: a TOML file whose steps are commands of `dlild-export`.

    name = "weights-v5"
    record_only = "..."              # optional: why these steps cannot be repeated
    [sha256]                         # optional: files that must be these
    "path/model.onnx" = "1954..."
    [defaults.phantom]               # options of every step with this command
    folder = "{out}/cases"
    [[steps]]
    command = "phantom"
    count = 44

Keys are the command's options with `_` for `-`, and the names in `POSITIONAL` are its arguments.
`true` sets a flag and `false` its opposite; a list of texts repeats an option; a list of numbers
gives an option several values. `{out}` is the folder of the run; `{lung_masks}`, `{scan}` and
`{single_slices}` are inputs. An option whose input is not given is left out, and so is a step that
needs `{scan}` or `{single_slices}`; where scans are given, that step runs once for each.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dlild_export.data.digest import sha256

POSITIONAL = {
    "phantom": ("folder",),
    "plant": ("scan", "folder"),
    "single-slices": ("slices", "folder"),
    "train": ("folder", "run"),
    "average": ("run",),
    "onnx": ("run",),
    "evaluate": ("run",),
}
"""Commands that a recipe may name, and the keys that are their arguments, in order."""

RECIPE, STATE = "recipe.toml", "recipe-state.json"
_KEYS = frozenset({"name", "record_only", "sha256", "defaults", "steps"})
_PLACEHOLDER = re.compile(r"\{(\w+)\}")

Command = tuple[str, ...]
"""Words after `dlild-export`."""


class RecipeError(ValueError):
    """A recipe that cannot be run; the message names file, step and way out."""


@dataclass(frozen=True)
class Recipe:
    """How some weights are made.

    Attributes
    ----------
    path : pathlib.Path
        The file.
    name : str
        Of the weights.
    steps : list of dict
        Options of each step, defaults included, beside its `command`.
    sha256 : dict
        Digests of files that the steps begin with.
    record_only : str
        Why the recipe cannot be run; empty where it can.
    """

    path: Path
    name: str
    steps: list[dict[str, Any]]
    sha256: dict[str, str] = field(default_factory=dict)
    record_only: str = ""


def read_recipe(path: Path) -> Recipe:
    """Read a recipe.

    Raises
    ------
    RecipeError
        The file is no TOML, has an unknown key or a step of an unknown command.
    """
    try:
        content = tomllib.loads(path.read_text("utf-8"))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise RecipeError(f"{path}: {error}") from None
    unknown = sorted(content.keys() - _KEYS)
    if unknown or not content.get("steps"):
        fault = f"unknown keys {', '.join(unknown)}" if unknown else "no [[steps]]"
        raise RecipeError(f"{path}: {fault}; a recipe has {', '.join(sorted(_KEYS))}")
    defaults = content.get("defaults", {})
    steps = []
    for number, step in enumerate(content["steps"], start=1):
        command = step.get("command")
        if command not in POSITIONAL:
            raise RecipeError(
                f"{path}, step {number}: command is {command!r}, give one of "
                f"{', '.join(POSITIONAL)}"
            )
        steps.append(defaults.get(command, {}) | step)
    return Recipe(
        path,
        content.get("name", path.stem),
        steps,
        content.get("sha256", {}),
        content.get("record_only", ""),
    )


def plan(
    recipe: Recipe,
    out: Path,
    *,
    lung_masks: Path | None = None,
    scans: Path | None = None,
    single_slices: Path | None = None,
) -> list[Command]:
    """Return the commands of a recipe, in order.

    Parameters
    ----------
    recipe : Recipe
    out : pathlib.Path
        Folder for everything that is made.
    lung_masks : pathlib.Path, optional
        Folder of lung masks.
    scans : pathlib.Path, optional
        Folder with a folder for each real scan without ILD.
    single_slices : pathlib.Path, optional
        Folder of single CT slices without lesions.

    Raises
    ------
    RecipeError
        A step lacks an argument or names an unknown input.
    """
    inputs = {"out": str(out)}
    for name, folder in (("lung_masks", lung_masks), ("single_slices", single_slices)):
        inputs |= {name: str(folder)} if folder else {}
    folders = sorted(p for p in scans.iterdir() if p.is_dir()) if scans else []
    commands = []
    for number, step in enumerate(recipe.steps, start=1):
        if step.get("slices") == "{single_slices}" and single_slices is None:
            continue
        per_scan = any("{scan}" in str(value) for value in step.values())
        for given in [{"scan": str(f)} for f in folders] if per_scan else [{}]:
            try:
                commands.append(_command(step, inputs | given))
            except KeyError as error:
                raise RecipeError(f"{recipe.path}, step {number}: {error.args[0]}") from None
    return commands


def _command(step: Mapping[str, Any], inputs: Mapping[str, str]) -> Command:
    name = step["command"]
    words = [name]
    for key in POSITIONAL[name]:
        if key not in step:
            raise KeyError(f"{name} needs {key}")
        words.append(_fill(step[key], inputs))
    for key, value in step.items():
        if key != "command" and key not in POSITIONAL[name]:
            words += _option(key.replace("_", "-"), value, inputs)
    return tuple(words)


def _option(name: str, value: Any, inputs: Mapping[str, str]) -> list[str]:
    if isinstance(value, bool):
        return [f"--{'' if value else 'no-'}{name}"]
    if isinstance(value, str):
        needed = _PLACEHOLDER.findall(value)
        known = {*inputs, "lung_masks", "scan", "single_slices"}
        if needed and set(needed) <= known - inputs.keys():
            return []
        return [f"--{name}", _fill(value, inputs)]
    if isinstance(value, list) and value and isinstance(value[0], str):
        return [word for one in value for word in (f"--{name}", _fill(one, inputs))]
    values = value if isinstance(value, list) else [value]
    return [f"--{name}", *map(str, values)]


def _fill(text: Any, inputs: Mapping[str, str]) -> str:
    def given(match: re.Match[str]) -> str:
        if match[1] not in inputs:
            raise KeyError(f"{match[0]} is none of the inputs {', '.join(sorted(inputs))}")
        return inputs[match[1]]

    return _PLACEHOLDER.sub(given, str(text))


def check_files(recipe: Recipe) -> None:
    """Compare the files that a recipe begins with to their digests.

    Raises
    ------
    RecipeError
        A file is missing or is another one.
    """
    for name, expected in recipe.sha256.items():
        found = sha256(Path(name)) if Path(name).is_file() else "no file here"
        if found != expected:
            raise RecipeError(
                f"{recipe.path}: {name} must have SHA-256 {expected}, found {found}: run this from "
                "the root of the checkout, and restore the file"
            )


def commands_done(out: Path) -> list[Command]:
    """Return the commands of a recipe that are done in a folder."""
    state = out / STATE
    return [tuple(c) for c in json.loads(state.read_text("utf-8"))] if state.is_file() else []


def run_plan(
    recipe: Recipe,
    commands: list[Command],
    out: Path,
    execute: Callable[[Command], int],
) -> Iterator[tuple[int, int]]:
    """Run the commands that are not done yet; yield the number of each before it runs.

    `OUT/recipe-state.json` lists the commands that are done, so that the same call goes on after a
    stop: a command that was cut off runs again, and itself goes on where it was. The recipe is kept
    as `OUT/recipe.toml`.

    Parameters
    ----------
    recipe : Recipe
    commands : list of tuple of str
        Its plan.
    out : pathlib.Path
        Made if need be.
    execute : callable
        Runs one command and returns its exit code.

    Yields
    ------
    number, code : int
        Number of a command, from 1 on: once with code -1 before it runs, once with its exit code.
        Ends after a code other than 0.

    Raises
    ------
    RecipeError
        What was done in this folder is not the beginning of this plan, or the recipe is a record.
    """
    if recipe.record_only:
        raise RecipeError(f"{recipe.path} is a record, and is not run: {recipe.record_only}")
    check_files(recipe)
    out.mkdir(parents=True, exist_ok=True)
    done = commands_done(out)
    for number, (before, now) in enumerate(zip(done, commands, strict=False), start=1):
        if before != now:
            raise RecipeError(
                f"{out} was begun otherwise: step {number} was `{' '.join(before)}` and is "
                f"`{' '.join(now)}`; give another folder"
            )
    (out / RECIPE).write_text(recipe.path.read_text("utf-8"), "utf-8")
    for number, command in enumerate(commands[len(done) :], start=len(done) + 1):
        yield number, -1
        code = execute(command)
        if not code:
            done.append(command)
            unfinished = (out / STATE).with_suffix(".unfinished")
            unfinished.write_text(json.dumps(done, indent=1) + "\n", "utf-8")
            unfinished.replace(out / STATE)
        yield number, code
        if code:
            return
