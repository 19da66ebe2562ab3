"""Metadata of the distributions: one version everywhere, licence and authors in each."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from deploy.checkers import DEPLOY, ROOT

VERSION = (ROOT / "VERSION").read_text("utf-8").strip()
DISTRIBUTIONS = ("client", "export", "analysis", "deploy")


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_a_distribution_takes_version_and_licence_from_the_root(name: str) -> None:
    settings = tomllib.loads((ROOT / name / "pyproject.toml").read_text("utf-8"))
    project = settings["project"]
    assert settings["tool"]["setuptools"]["dynamic"]["version"] == {"file": "VERSION"}
    assert project["dynamic"] == ["version"]
    assert (ROOT / name / "VERSION").read_text("utf-8").strip() == VERSION
    (licence,) = project["license-files"]
    assert (ROOT / name / licence).read_bytes() == (ROOT / "LICENSE").read_bytes()
    assert project["authors"] == [{"name": "DL-ILD developers"}]
    for key in ("description", "readme", "classifiers", "requires-python"):
        assert project[key], key


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_a_copy_whose_version_is_a_link_to_nowhere_is_not_built(name: str, tmp_path: Path) -> None:
    shutil.copytree(ROOT / name, tmp_path / name, symlinks=True)
    build = [sys.executable, "setup.py", "--version"]
    done = subprocess.run(build, cwd=tmp_path / name, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert "--dereference" in done.stderr

    shutil.copy(ROOT / "VERSION", tmp_path)
    done = subprocess.run(build, cwd=tmp_path / name, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == VERSION, done.stderr


def test_image_compose_and_chart_have_the_same_version() -> None:
    dockerfile = (DEPLOY / "docker" / "Dockerfile").read_text("utf-8")
    assert re.findall(r"^ARG DLILD_VERSION=(\S+)", dockerfile, flags=re.MULTILINE) == [VERSION]
    compose = (DEPLOY / "compose" / "compose.yaml").read_text("utf-8")
    assert set(re.findall(r"DLILD_VERSION:-([^}]+)}", compose)) == {VERSION}
    chart = yaml.safe_load((DEPLOY / "helm" / "dlild" / "Chart.yaml").read_text("utf-8"))
    assert (chart["version"], chart["appVersion"]) == (VERSION, VERSION)


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_the_command_prints_the_version(name: str) -> None:
    program = "dlild" if name == "client" else f"dlild-{name}"
    roots = os.pathsep.join(str(ROOT / other / "src") for other in DISTRIBUTIONS)
    done = subprocess.run(
        [sys.executable, "-c", f"from dlild_{name}.cli import main; raise SystemExit(main())",
         "--version"],
        capture_output=True, text=True, check=False, env=os.environ | {"PYTHONPATH": roots},
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, f"{program} {VERSION}\n"), done.stderr
