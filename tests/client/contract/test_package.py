"""The contract is code that any Python with numpy can run: it is rendered into the server."""

import ast
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

import dlild_client.contract

FOLDER = Path(dlild_client.contract.__file__).parent
MODULES = sorted(FOLDER.glob("*.py"))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.name)
def test_it_imports_numpy_itself_and_the_standard_library(path):
    # Triton 24.10 runs Python 3.10.
    for node in ast.walk(ast.parse(path.read_text("utf-8"), feature_version=(3, 10))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names = [node.module]
        roots = {name.split(".")[0] for name in names}
        assert roots <= {"numpy"} | set(sys.stdlib_module_names), path.name


def test_importing_it_loads_nothing_heavy():
    names = ", ".join(f"dlild_client.contract.{p.stem}" for p in MODULES if p.stem[0] != "_")
    code = f"import sys, {names}; print(sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for heavy in ("grpc", "SimpleITK", "pydicom", "tritonclient", "typer", "PIL"):
        assert f"'{heavy}'" not in done.stdout


def test_a_process_of_several_models_finds_the_modules_of_each():
    folders = [Path(root) / "contract" for root in sys.path if "model_repository" in root]
    rendered = {p.stem for folder in folders for p in folder.glob("[!_]*.py")}
    assert len({folder for folder in folders if folder.is_dir()}) == 3
    for name in sorted(rendered):
        assert importlib.util.find_spec(f"contract.{name}"), name
