"""`pip install ./client` into an empty environment: light, and it scores."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from dlild_deploy.server import EmbeddedServer

pytestmark = [pytest.mark.server, pytest.mark.slow]

ROOT = Path(__file__).parents[3]
WHEELS_BYTES = 200_000_000


def run(*command: str | Path, **options: object) -> subprocess.CompletedProcess[str]:
    """Run without what this process was given: an empty environment knows no PYTHONPATH."""
    variables = {"PATH": "/usr/bin:/bin", "HOME": str(Path.home())}
    return subprocess.run(
        [str(part) for part in command],
        capture_output=True, text=True, env=variables, check=False, **options,  # type: ignore[call-overload]
    )  # fmt: skip


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The client's wheel and all that it needs."""
    folder = tmp_path_factory.mktemp("wheels")
    source = tmp_path_factory.mktemp("source") / "client"
    # Building leaves files behind: not in the checkout.
    shutil.copytree(ROOT / "client", source, ignore=shutil.ignore_patterns("*.egg-info", "build"))
    made = run(sys.executable, "-m", "pip", "wheel", "--quiet", "-w", folder, source)
    if made.returncode and "No matching distribution" in made.stderr + made.stdout:
        pytest.skip("the package index cannot be reached: no empty environment can be filled")
    assert made.returncode == 0, made.stderr
    return folder


def test_the_wheels_are_light_and_without_torch(wheels: Path) -> None:
    names = [path.name.lower() for path in wheels.iterdir()]
    assert not [name for name in names if "torch" in name or "nvidia" in name]
    assert sum(path.stat().st_size for path in wheels.iterdir()) < WHEELS_BYTES


def test_an_empty_environment_scores(
    wheels: Path, embedded_server: EmbeddedServer, patient: Path, tmp_path: Path
) -> None:
    assert run(sys.executable, "-m", "venv", tmp_path / "venv").returncode == 0
    python = tmp_path / "venv" / "bin" / "python"
    installed = run(python, "-m", "pip", "install", "--quiet", "--no-index", "-f", wheels,
                    "dlild-client")  # fmt: skip
    assert installed.returncode == 0, installed.stderr

    scored = run(
        python.with_name("dlild"), "score", patient, "--url", embedded_server.grpc_url, "--json",
        "--out", tmp_path / "out", cwd=tmp_path,
    )  # fmt: skip

    assert (scored.returncode, scored.stderr) == (0, "")
    assert 0 < json.loads(scored.stdout)["dl_ild_percent"] < 100
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "result.json", "labels.nii.gz", "overlay.png",
    }  # fmt: skip
