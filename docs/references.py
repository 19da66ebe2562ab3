"""Check, and with ``--fix`` follow, what the pages say of the code: paths, symbols, modules, links.

Three forms are checked in every Markdown file that git tracks:

- `` `symbol` in `path` ``: a definition, and the file that holds it;
- `` `folder/file` ``: a path from the root of the repository;
- `` `dlild_client.module.name` ``: a module, or a name in it.

Links to files and to headings are checked as well. Needs the standard library and git.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ("client/src", "export/src", "analysis/src", "deploy", "model_repository")
FOLDERS = (
    "client",
    "export",
    "analysis",
    "deploy",
    "model_repository",
    "tests",
    "docs",
    "requirements",
)
SYMBOL = re.compile(r"`(?P<name>[\w.]+)` in `(?P<path>[\w./-]+\.py)`")
PATH = re.compile(rf"`(?P<path>(?:{'|'.join(FOLDERS)})/[\w./*-]+)(?:::\w+)?`")
MODULE = re.compile(r"`(?P<name>dlild_(?:client|export|analysis)(?:\.\w+)+)")
LINK = re.compile(r"(?<!!)\[[^\]]*\]\((?P<target>[^)\s]+)\)|!\[[^\]]*\]\((?P<image>[^)\s]+)\)")
PLACEHOLDER = re.compile(r"(?:^|/)(?:N|NAME|PROFILE)(?:$|[/.])|-NAME")
"""Parts of paths that stand for something that a user chooses."""


def tracked(*patterns: str) -> list[Path]:
    """Return the files that git tracks, and those that it does not ignore, in order."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *patterns],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return sorted({ROOT / line for line in listed.splitlines() if (ROOT / line).is_file()})


def names_of(body: list[ast.stmt]) -> Iterator[str]:
    """Yield the names that a module or a class defines, methods and fields as ``Class.name``."""
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name
        elif isinstance(node, ast.ClassDef):
            yield node.name
            yield from (f"{node.name}.{inner}" for inner in names_of(node.body))
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.target.id
        elif isinstance(node, ast.Assign):
            for target in node.targets:
                yield from (n.id for n in ast.walk(target) if isinstance(n, ast.Name))


@cache
def definitions() -> Mapping[str, list[str]]:
    """Return the files of the sources that define each name, relative to the root."""
    found: dict[str, list[str]] = defaultdict(list)
    for path in tracked(*(f"{folder}/*.py" for folder in SOURCES)):
        for name in names_of(ast.parse(path.read_text("utf-8")).body):
            found[name].append(path.relative_to(ROOT).as_posix())
    return found


def likest(candidates: Iterable[str], path: str) -> str | None:
    """Return the path of most parts in common with another; None where there is no candidate."""
    old = set(Path(path).parts)

    def likeness(candidate: str) -> tuple[bool, bool, int, str]:
        # A hand-written module counts before its rendered copies, and a function before the
        # command that calls it.
        parts = Path(candidate).parts
        common = len(old & set(parts))
        return (not is_rendered(candidate), "cli" not in parts, common, candidate)

    return max(candidates, key=likeness, default=None)


def is_rendered(path: str) -> bool:
    """Return whether a file of a model folder is a copy of the client's contract package."""
    parts = Path(path).parts
    return parts[0] == "model_repository" and "contract" in parts[1:-1]


def moved_to(name: str, path: str) -> str | None:
    """Return the file that defines a symbol now."""
    return likest(definitions().get(name, []), path)


def has_module(name: str) -> bool:
    """Return whether a dotted name leads to a module, or to a name that a module has."""
    parts = name.split(".")
    base = ROOT / parts[0].removeprefix("dlild_") / "src"
    for count in range(len(parts), 0, -1):
        stem = base.joinpath(*parts[:count])
        for file in (stem / "__init__.py", stem.with_suffix(".py")):
            if file.is_file():
                return count == len(parts) or parts[count] in file.read_text("utf-8")
    return False


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ +(.+?) *$", page.read_text("utf-8"), re.MULTILINE)
    plain = (re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", h).lower() for h in headings)
    return {re.sub(r"[^\w\- ]", "", h).replace(" ", "-") for h in plain}


def faults_of_links(page: Path, line: str) -> Iterator[str]:
    """Yield the links of a line that lead nowhere; addresses on the network are not tried."""
    for match in LINK.finditer(re.sub(r"`[^`]*`", "", line)):
        target = match["target"] or match["image"]
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        path = Path(os.path.normpath(page.parent / file)) if file else page
        if not path.exists():
            yield f"link to {target}: no such file"
        elif anchor and path.suffix == ".md" and anchor not in anchors(path):
            yield f"link to {target}: no such heading"


def faults_of_line(page: Path, line: str) -> Iterator[str]:
    """Yield what a line says that is not so."""
    for match in SYMBOL.finditer(line):
        name, path = match["name"], match["path"]
        if path not in definitions().get(name, []) or is_rendered(path):
            yield f"{path} does not define {name}; it is in {moved_to(name, path) or 'no file'}"
    for match in PATH.finditer(line):
        path = match["path"]
        if not PLACEHOLDER.search(path) and not any(ROOT.glob(path.rstrip("/"))):
            yield f"{path}: no such file"
    for match in MODULE.finditer(line):
        if not has_module(match["name"]):
            yield f"{match['name']}: no such module or name"
    yield from faults_of_links(page, line)


def faults() -> list[str]:
    """Return every fault as ``page:line: what is wrong``."""
    return [
        f"{page.relative_to(ROOT)}:{number}: {fault}"
        for page in tracked("*.md")
        for number, line in enumerate(page.read_text("utf-8").splitlines(), 1)
        for fault in faults_of_line(page, line)
    ]


def fix() -> list[str]:
    """Write the file that defines a symbol now instead of the one that did; name the pages."""

    def corrected(match: re.Match[str]) -> str:
        name, path = match["name"], match["path"]
        if path in definitions().get(name, []) and not is_rendered(path):
            return match[0]
        return f"`{name}` in `{moved_to(name, path) or path}`"

    def found(match: re.Match[str]) -> str:
        path = match["path"]
        if PLACEHOLDER.search(path) or any(ROOT.glob(path.rstrip("/"))):
            return match[0]
        same = [p.relative_to(ROOT).as_posix() for p in tracked(f"*/{Path(path).name}")]
        return match[0].replace(path, likest(same, path) or path)

    changed = []
    for page in tracked("*.md"):
        text = page.read_text("utf-8")
        if (fixed := PATH.sub(found, SYMBOL.sub(corrected, text))) != text:
            page.write_text(fixed, "utf-8")
            changed.append(page.relative_to(ROOT).as_posix())
    return changed


def main() -> int:
    """Return 1 where a page says of the code what is not so."""
    if "--fix" in sys.argv[1:]:
        print("\n".join(fix()))
    found = faults()
    print("\n".join(found), file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
