"""The tree keeps to the rules of CONTRIBUTING that no linter checks."""

from __future__ import annotations

import ast
import graphlib
import subprocess
import tomllib
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path, PurePosixPath

import grimp
import pytest

ROOT = Path(__file__).resolve().parents[2]
TOOLS = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]
SOURCE_ROOTS = TOOLS["mypy"]["mypy_path"]
MODEL_FOLDERS = [root for root in SOURCE_ROOTS if root.startswith("model_repository/")]
FILES_IN_A_FOLDER = 15


@cache
def tracked() -> list[str]:
    """Return the files of this tree: those that git knows, and new ones that it does not ignore."""
    words = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [name for name in listed.splitlines() if (ROOT / name).is_file()]


def sources() -> Iterator[tuple[str, ast.Module]]:
    """Yield path and syntax tree of every source file."""
    for name in tracked():
        if name.endswith(".py") and name.startswith(tuple(SOURCE_ROOTS)):
            yield name, ast.parse((ROOT / name).read_text("utf-8"))


def test_no_module_imports_itself_through_others() -> None:
    """Imports within functions and for types count too; import-linter checks siblings only."""
    packages = TOOLS["importlinter"]["root_packages"]
    graph = grimp.build_graph(
        *packages, include_external_packages=True, cache_dir=str(ROOT / ".import_linter_cache")
    )
    order = graphlib.TopologicalSorter(
        {name: graph.find_modules_directly_imported_by(name) for name in graph.modules}
    )
    order.prepare()  # raises CycleError, which names the modules


@pytest.mark.parametrize("folder", MODEL_FOLDERS)
def test_no_module_of_a_model_folder_imports_itself_through_others(folder: str) -> None:
    graph: dict[str, set[str]] = {}
    for name, tree in sources():
        if name.startswith(f"{folder}/"):
            module = PurePosixPath(name).relative_to(folder).with_suffix("").as_posix()
            graph[module.replace("/", ".").removesuffix(".__init__")] = {
                target
                for node in ast.walk(tree)
                for target in (
                    [f"{node.module}.{alias.name}" for alias in node.names] + [f"{node.module}"]
                    if isinstance(node, ast.ImportFrom)
                    else [alias.name for alias in node.names]
                    if isinstance(node, ast.Import)
                    else []
                )
            }
    graphlib.TopologicalSorter(
        {m: targets & graph.keys() for m, targets in graph.items()}
    ).prepare()


def test_no_folder_holds_more_files_than_one_can_survey() -> None:
    files = Counter(str(PurePosixPath(name).parent) for name in tracked() if name.endswith(".py"))
    assert {folder for folder, n in files.items() if n > FILES_IN_A_FOLDER} == set()


def test_every_error_ends_in_error() -> None:
    """`BaseException` is for what is no error: a request to stop, as KeyboardInterrupt."""
    others = [
        f"{name}: {node.name}"
        for name, tree in sources()
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef) and not node.name.endswith("Error")
        for base in node.bases
        if (base_name := ast.unparse(base).rpartition(".")[2]) == "Exception"
        or base_name.endswith("Error")
    ]
    assert others == []


def test_no_identifier_has_a_name_that_the_glossary_retired() -> None:
    retired = {
        "Crew", "Door", "FAREWELL_S", "Keeper", "Line", "LoneWindow", "Room", "UNHEARD_S",
        "farewell", "figures_more", "glancing", "keeper", "lifeline", "tables_more", "told",
    }  # fmt: skip
    named = [
        f"{name}:{node.lineno}: {identifier}"
        for name, tree in sources()
        for node in ast.walk(tree)
        if isinstance(node, (ast.Name, ast.arg, ast.ClassDef, ast.FunctionDef, ast.Attribute))
        for identifier in [
            getattr(node, "id", None) or getattr(node, "arg", None)
            or getattr(node, "attr", None) or getattr(node, "name", "")
        ]
        if identifier in retired
    ]  # fmt: skip
    assert named == []
