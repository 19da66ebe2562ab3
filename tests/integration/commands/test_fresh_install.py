"""Wheels of client and analysis in empty environments: light, and they score and fit."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from email import message_from_bytes
from functools import cache
from pathlib import Path
from zipfile import ZipFile

import pytest

from dlild_deploy.server import EmbeddedServer

pytestmark = [pytest.mark.server, pytest.mark.slow]

ROOT = Path(__file__).parents[3]
WHEELS_BYTES = 200_000_000
DISTRIBUTIONS = ("client", "analysis")
Install = Callable[[str], tuple[Path, list[str]]]


def run(*command: str | Path, **options: object) -> subprocess.CompletedProcess[str]:
    """Run without what this process was given: an empty environment knows no PYTHONPATH."""
    variables = {"PATH": "/usr/bin:/bin", "HOME": str(Path.home())}
    return subprocess.run(
        [str(part) for part in command],
        capture_output=True, text=True, env=variables, check=False, **options,  # type: ignore[call-overload]
    )  # fmt: skip


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheels of client and analysis, and of all that they need, in the locked versions."""
    folder = tmp_path_factory.mktemp("wheels")
    source = tmp_path_factory.mktemp("source")
    for name in DISTRIBUTIONS:
        # Building leaves files behind: not in the checkout.
        ignored = shutil.ignore_patterns("*.egg-info", "build")
        shutil.copytree(ROOT / name, source / name, ignore=ignored)
    pins = re.findall(
        r"^[^#\s]+==[^\s]+", (ROOT / "requirements/dev.lock").read_text("utf-8"), re.M
    )
    (source / "pins.txt").write_text("\n".join(pins), "utf-8")
    made = run(sys.executable, "-m", "pip", "wheel", "--quiet", "-w", folder,
               "-c", source / "pins.txt", *(source / name for name in DISTRIBUTIONS))  # fmt: skip
    if made.returncode and "No matching distribution" in made.stderr + made.stdout:
        pytest.skip("the package index cannot be reached: no empty environment can be filled")
    assert made.returncode == 0, made.stderr
    return folder


@pytest.fixture(scope="module")
def installed(wheels: Path, tmp_path_factory: pytest.TempPathFactory) -> Install:
    """Install one distribution, and return the folder of its programs and what was installed."""

    @cache
    def install(name: str) -> tuple[Path, list[str]]:
        folder = tmp_path_factory.mktemp(name)
        assert run(sys.executable, "-m", "venv", folder).returncode == 0
        python = folder / "bin" / "python"
        done = run(python, "-m", "pip", "install", "--quiet", "--no-index", "-f", wheels, name)
        assert done.returncode == 0, done.stderr
        listed = run(python, "-m", "pip", "list", "--format", "json")
        return folder / "bin", [row["name"].lower() for row in json.loads(listed.stdout)]

    return install


def test_wheels_carry_licence_authors_and_the_one_version(wheels: Path) -> None:
    version = (ROOT / "VERSION").read_text("utf-8").strip()
    for name in DISTRIBUTIONS:
        (wheel,) = wheels.glob(f"dlild_{name}-*.whl")
        with ZipFile(wheel) as archive:
            (metadata,) = (n for n in archive.namelist() if n.endswith("dist-info/METADATA"))
            fields = message_from_bytes(archive.read(metadata))
            licence = archive.read(f"{Path(metadata).parent}/licenses/LICENSE")
        assert fields["Version"] == version
        assert fields["Author"] == "DL-ILD developers"
        assert fields["License-Expression"] == "Apache-2.0"
        assert licence == (ROOT / "LICENSE").read_bytes()


def test_the_client_is_light_and_without_torch(wheels: Path, installed: Install) -> None:
    _, names = installed("dlild-client")
    assert not [name for name in names if "torch" in name or "nvidia" in name]
    of_client = [
        path for path in wheels.iterdir()
        if path.name.split("-")[0].lower().replace("_", "-") in {n.replace("_", "-") for n in names}
    ]  # fmt: skip
    assert len(of_client) > 5
    assert sum(path.stat().st_size for path in of_client) < WHEELS_BYTES


def test_an_empty_environment_scores(
    installed: Install, embedded_server: EmbeddedServer, patient: Path, tmp_path: Path
) -> None:
    programs, _ = installed("dlild-client")
    version = (ROOT / "VERSION").read_text("utf-8").strip()
    assert version in run(programs / "dlild", "--version").stdout

    scored = run(
        programs / "dlild", "score", patient, "--url", embedded_server.grpc_url, "--json",
        "--out", tmp_path / "out", cwd=tmp_path,
    )  # fmt: skip

    assert (scored.returncode, scored.stderr) == (0, "")
    assert 0 < json.loads(scored.stdout)["dl_ild_percent"] < 100
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "result.json", "labels.nii.gz", "overlay.png",
    }  # fmt: skip


def test_an_empty_environment_simulates_and_fits(installed: Install, tmp_path: Path) -> None:
    programs, names = installed("dlild-analysis")
    assert not [name for name in names if "torch" in name or name == "dlild-client"]
    program = programs / "dlild-analysis"
    version = (ROOT / "VERSION").read_text("utf-8").strip()
    assert version in run(program, "--version").stdout

    drawn = run(program, "simulate", "--n", "112", "--seed", "1", "--out", "cohort.csv",
                "--config", "study.toml", cwd=tmp_path)  # fmt: skip
    assert drawn.returncode == 0, drawn.stderr
    fitted = run(program, "fit", "cohort.csv", "--config", "study.toml", "--out", "report",
                 "--quiet", cwd=tmp_path)  # fmt: skip

    assert fitted.returncode == 0, fitted.stderr
    assert json.loads((tmp_path / "report" / "results.json").read_text("utf-8"))
    assert (tmp_path / "report" / "report.html").is_file()
