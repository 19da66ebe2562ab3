"""The command blocks of the READMEs: found, taken apart, and checked against the programs."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import typer.main
from deploy.checkers import ROOT

import dlild_analysis.cli
import dlild_client.cli.app
import dlild_deploy.cli
import dlild_export.cli

PAGES = sorted(
    [
        *(p for p in ROOT.glob("*.md") if p.name in {"README.md", "CONTRIBUTING.md"}),
        *(p for p in ROOT.glob("*/README.md") if p.parent.name != "tests"),
        *ROOT.glob("deploy/**/README.md"),
        *(ROOT / "docs" / name for name in ("batch-on-dask.md", "evaluation.md", "security.md")),
    ]
)
OURS: dict[str, Any] = {
    "dlild": dlild_client.cli.app.app,
    "dlild-export": dlild_export.cli.app,
    "dlild-analysis": dlild_analysis.cli.app,
    "dlild-deploy": dlild_deploy.cli.app,
}
SCRIPTS = {"python", "python3"}
OTHERS = {
    "chmod", "chown", "cp", "docker", "export", "haproxy", "helm", "kubectl", "mkdir", "openssl",
    "done", "for", "pip", "pre-commit", "sha256sum", "tensorboard", "torchrun", "tritonserver",
    "cd", "sudo",
}  # fmt: skip


@dataclass(frozen=True)
class Block:
    """Lines of a page that a reader types.

    Attributes
    ----------
    page : str
        Below the root.
    line : int
        Of its first line.
    text : str
    language : str
        `sh`, or what stands behind the backquotes.
    """

    page: str
    line: int
    text: str
    language: str = "sh"

    def commands(self) -> list[str]:
        """Return the commands without their comments, continued lines as one."""
        joined = re.sub(r"\\\n\s*", " ", self.text)
        return [line.strip() for line in joined.splitlines() if line.strip()]


def blocks(page: Path) -> list[Block]:
    """Find the fenced and the indented blocks of a page."""
    name = page.relative_to(ROOT).as_posix()
    found: list[Block] = []
    fence: str | None = None
    lines: list[str] = []
    start = 0
    for number, line in enumerate([*page.read_text("utf-8").splitlines(), ""], start=1):
        if line.startswith("```"):
            if fence is not None:
                found.append(Block(name, start, "\n".join(lines), fence))
                fence, lines = None, []
            else:
                fence, start = line.strip("` ") or "text", number + 1
        elif fence is not None:
            lines.append(line)
        elif line.startswith("    "):
            start = start if lines else number
            lines.append(line[4:])
        elif lines:
            found.append(Block(name, start, "\n".join(lines)))
            lines = []
    return found


def words_of(command: str) -> list[str]:
    """Split a command, without its comment and the variables before it."""
    words = shlex.split(command, comments=True)
    while words and re.fullmatch(r"\w+=.*", words[0]):
        words.pop(0)
    return words


def program_of(command: str) -> str | None:
    """Return the program that a command starts; None where it starts none that is known."""
    try:
        words = words_of(command.lstrip("("))
    except ValueError:
        return None
    if words and words[0].startswith("umask"):
        return "umask"
    name = words[0].removeprefix(".venv/bin/") if words else ""
    known = {*OURS, *OTHERS, *SCRIPTS, "make"}
    return name if name in known else None


def is_commands(block: Block) -> bool:
    """Tell a block to be typed from a formula, a drawing or a list of files."""
    return block.language == "sh" and program_of(block.commands()[0]) is not None


def fault_of(command: str) -> str:
    """Say what of a command does not exist: a target, a script, a sub-command, an option."""
    words = words_of(command)
    name = words[0].removeprefix(".venv/bin/")
    if name in OURS:
        arguments = words[1 : words.index(">")] if ">" in words else words[1:]
        return _fault_of_ours(name, arguments)
    if name == "make":
        return _fault_of_make(words[1:])
    if name in SCRIPTS:
        return _fault_of_script(words[1:])
    return ""


def _fault_of_make(words: list[str]) -> str:
    text = (ROOT / "Makefile").read_text("utf-8")
    for word in words:
        name, equals, _ = word.partition("=")
        pattern = rf"\$\({name}\)|^{name} \?=" if equals else rf"^(?:[\w-]+ )*{name}(?: [\w-]+)*:"
        if not re.search(pattern, text, flags=re.MULTILINE):
            return f"the Makefile has no {name}"
    return ""


def _fault_of_script(words: list[str]) -> str:
    script = ROOT / words[0]
    if words[0] == "dlild-bundle/verify.py":  # as `make bundle` puts it there
        script = ROOT / "deploy" / "src" / "dlild_deploy" / "verify_bundle.py"
    if not script.is_file():
        return f"there is no {words[0]}"
    sources = "".join(path.read_text("utf-8") for path in script.resolve().parent.glob("*.py"))
    lacking = [w for w in words[1:] if w.startswith("--") and f'"{w}"' not in sources]
    return f"{words[0]} knows no {lacking[0]}" if lacking else ""


@cache
def _click(name: str) -> Any:
    return typer.main.get_command(OURS[name])


def _fault_of_ours(name: str, words: list[str]) -> str:
    """Have click parse the words, without looking whether files are there."""
    command = _click(name)
    if words and words[0] in {"--help", *(option for p in command.params for option in p.opts)}:
        return ""
    while hasattr(command, "commands"):
        if not words or words[0] not in command.commands:
            return f"{name} has no sub-command {words[:1]}"
        name, command, words = f"{name} {words[0]}", command.commands[words[0]], words[1:]
    context = type(command).context_class(command, info_name=name)
    try:
        values, rest, _ = command.make_parser(context).parse_args(list(words))
    except Exception as error:
        # Typer's own complaints have no public root in all its versions.
        if not hasattr(error, "format_message"):
            raise
        return f"{name}: {error.format_message()}"
    if rest:
        return f"{name}: {rest} is too much"
    lost = [p.name for p in command.params if p.required and not _is_given(values.get(p.name))]
    return f"{name} lacks {lost}" if lost else ""


def _is_given(value: object) -> bool:
    return value is not None and value != () and "UNSET" not in repr(value)
