"""The programs that check deploy/: in .tools or on the PATH, or the test says why it skips."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
TOOLS = ROOT / ".tools" / "bin"


def checker(name: str) -> str:
    """Find a program; skip the test that asks where there is none."""
    found = shutil.which(name, path=f"{TOOLS}{os.pathsep}{os.environ['PATH']}")
    if found is None:
        pytest.skip(f"{name} is neither in .tools nor on the PATH: run `make deploy-tools`")
    return found


def run(name: str, *arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
    """Run a program and give back what it said, also where it failed."""
    return subprocess.run(
        [checker(name), *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        **options,  # type: ignore[call-overload]
    )


def passes(name: str, *arguments: object, **options: object) -> str:
    """Run a program that must be content, and return what it printed."""
    done = run(name, *arguments, **options)
    assert done.returncode == 0, f"{name}: {done.stdout}{done.stderr}"
    return done.stdout
