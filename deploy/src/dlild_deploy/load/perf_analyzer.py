"""NVIDIA's perf_analyzer: found on this machine, or fetched into the cache of the checkout."""

import os
import platform
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dlild_deploy.checkout import CACHE, DEPLOY
from dlild_deploy.errors import LauncherError
from dlild_deploy.server.preflight import find_environment

HOME = CACHE / "load"
WHEEL = DEPLOY / "load" / "perf-analyzer.txt"
# Libraries that the binary needs; the server's own wheel holds them under longer names.
BORROWED = {"libb64.so.0d": "libb64-*.so.0d", "libcudart.so.12": "libcudart-*.so.12*"}
CONTAINER = "use the -py3-sdk container of Triton, as deploy/load/README.md says"


@dataclass(frozen=True)
class Analyzer:
    """The program, and the variables that it runs under."""

    program: Path
    variables: Mapping[str, str]


def find_analyzer(server_python: Path) -> Analyzer:
    """Find perf_analyzer: the one that ``PERF_ANALYZER`` names, one on the path, or a fetched one.

    Parameters
    ----------
    server_python : Path
        Interpreter of the server's environment, whose libraries the fetched one borrows.

    Returns
    -------
    Analyzer

    Raises
    ------
    LauncherError
        It is neither here nor can it be fetched: why, and what to do.
    """
    named = os.environ.get("PERF_ANALYZER") or shutil.which("perf_analyzer")
    if named:
        found = Analyzer(Path(named), dict(os.environ))
    else:
        libraries = _borrow_libraries(server_python)
        found = Analyzer(_fetch(), dict(os.environ) | {"LD_LIBRARY_PATH": str(libraries)})
    _check_runs(found)
    return found


def _fetch() -> Path:
    program = HOME / "perf_analyzer"
    if program.is_file():
        return program
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        raise LauncherError(f"perf_analyzer is for Linux x86-64 only: {CONTAINER}")
    HOME.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "download"]
    command += ["--no-deps", "--only-binary=:all:", "--platform=manylinux1_x86_64"]
    command += ["--require-hashes", "--dest", str(HOME), "--requirement", str(WHEEL)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    wheels = sorted(HOME.glob("tritonclient-*.whl"))
    if done.returncode or not wheels:
        reason = (done.stderr.strip().splitlines() or ["no wheel came"])[-1]
        raise LauncherError(
            f"perf_analyzer could not be fetched ({reason}): name one in PERF_ANALYZER, or "
            f"{CONTAINER}"
        )
    _unpack(wheels[-1], program)
    wheels[-1].unlink()
    return program


def _unpack(wheel: Path, program: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if name.endswith("/bin/perf_analyzer")]
        if not names:
            raise LauncherError(f"{wheel.name} carries no perf_analyzer: {CONTAINER}")
        partly = program.with_suffix(".part")
        partly.write_bytes(archive.read(names[0]))
    partly.chmod(0o755)
    partly.replace(program)


def _borrow_libraries(server_python: Path) -> Path:
    """Link the libraries that the binary misses on most systems out of the server's wheel."""
    folder = HOME / "lib"
    folder.mkdir(parents=True, exist_ok=True)
    libraries = find_environment(server_python).libraries[0]
    for name, pattern in BORROWED.items():
        there = sorted(libraries.glob(pattern))
        if not there:
            raise LauncherError(f"{libraries} has no {pattern} for perf_analyzer: {CONTAINER}")
        link = folder / name
        link.unlink(missing_ok=True)
        link.symlink_to(there[0])
    return folder


def _check_runs(analyzer: Analyzer) -> None:
    try:
        done = subprocess.run(
            [str(analyzer.program), "--version"],
            check=False,
            capture_output=True,
            text=True,
            env=dict(analyzer.variables),
            timeout=60,
        )
    except OSError as error:
        raise LauncherError(
            f"{analyzer.program} does not run ({error.strerror}): {CONTAINER}"
        ) from None
    output = " ".join((done.stderr + done.stdout).split())
    if "Perf Analyzer" not in output:
        output = output[:200] or f"code {done.returncode}"
        raise LauncherError(f"{analyzer.program} does not run ({output}): {CONTAINER}")
