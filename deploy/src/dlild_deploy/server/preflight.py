"""What the embedded server needs, checked before it starts; what is missing is one line each."""

import json
import os
import platform
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dlild_deploy.checkout import ROOT
from dlild_deploy.errors import LauncherError
from dlild_deploy.server.shared_regions import SHARED_MEMORY

MODELS = ("dlild", "dlild_volume", "ild_unet")
HOST = "127.0.0.1"
# Newest symbol of the wheel's libraries (readelf -V) and the wheel's own tag, manylinux_2_35.
OLDEST_GLIBC = (2, 35)
# Tensors travel between Triton and its Python models through shared memory; a label map alone may
# take 64 MiB.
LEAST_SHARED_BYTES = 256 * 1024 * 1024

# Run by the server's Python: what it is and what it has.
PROBE = """
import importlib.metadata as m, importlib.util as u, json, sys, sysconfig
def version(name):
    try:
        return m.version(name)
    except m.PackageNotFoundError:
        return None
spec = u.find_spec("pytriton")
print(json.dumps({
    "python": list(sys.version_info[:2]),
    "site": (spec.submodule_search_locations[0] if spec else None),
    "numpy": version("numpy"),
    "openvino": version("openvino"),
    "library": [sysconfig.get_config_var("LIBDIR"), sysconfig.get_config_var("INSTSONAME")],
}))
"""


@dataclass(frozen=True)
class Environment:
    """The server's own Python environment.

    Attributes
    ----------
    python : Path
        Its interpreter.
    tritonserver : Path
        The server's binary.
    stub : Path
        The program that runs a Python model, for this version of Python.
    backend : Path
        Folder with the files of the Python backend.
    libraries : tuple of Path
        Folders for the loader's search path.
    """

    python: Path
    tritonserver: Path
    stub: Path
    backend: Path
    libraries: tuple[Path, ...]


def check_platform() -> None:
    """Check what the wheel's binary needs of the machine.

    Raises
    ------
    LauncherError
        Not Linux x86-64, a C library other than glibc or too old, or too little shared memory.
    """
    system, machine = platform.system(), platform.machine()
    if system != "Linux" or machine != "x86_64":
        raise LauncherError(
            f"the embedded server needs Linux x86-64, this is {system} {machine}: "
            "use a Triton container, or another machine"
        )
    library, version = platform.libc_ver()
    needed = ".".join(map(str, OLDEST_GLIBC))
    if library != "glibc":
        raise LauncherError(
            f"the embedded server needs glibc {needed} or newer, this system has "
            f"{library or 'another C library'}: use a Triton container"
        )
    if _version(version) < OLDEST_GLIBC:
        raise LauncherError(
            f"the embedded server needs glibc {needed} or newer, this system has {version} "
            "(Debian 12, Ubuntu 22.04 and RHEL 10 are new enough): use a Triton container"
        )
    free = shared_memory_free()
    if free < LEAST_SHARED_BYTES:
        raise LauncherError(
            f"{SHARED_MEMORY} has {free // 2**20} MiB free, the server needs "
            f"{LEAST_SHARED_BYTES // 2**20} MiB: clear it, or give a container --shm-size=2g"
        )


def shared_memory_free() -> int:
    """Bytes free in shared memory; 0 where there is none.

    Returns
    -------
    int
    """
    try:
        return shutil.disk_usage(SHARED_MEMORY).free
    except OSError:
        return 0


def check_repository(repository: Path, profile: str, backends: Path | None = None) -> None:
    """Check that every model has what the profile needs.

    Parameters
    ----------
    repository : Path
        The model repository.
    profile : str
        Name of the profile.
    backends : Path, optional
        Folder with backends besides the Python backend.

    Raises
    ------
    LauncherError
        Naming the model and the file that was looked for.
    """
    if not (repository / "contract.json").is_file():
        raise LauncherError(f"{repository} is no model repository: it has no contract.json")
    _check_folders(repository)
    for model in served_models(repository):
        wanted = repository / model / "configs" / f"{profile}.pbtxt"
        if not wanted.is_file():
            have = sorted(path.stem for path in wanted.parent.glob("*.pbtxt"))
            raise LauncherError(
                f"model {model} has no profile {profile!r}: looked for {wanted}, "
                f"there are {', '.join(have) or 'none'}"
            )
    _check_backends(repository, profile, backends)
    _check_weights(repository, profile)


def _check_folders(repository: Path) -> None:
    """Check that every folder is a model, since Triton takes it for one.

    Where a model was removed from the repository, an update may leave the bytecode of its modules
    behind: a folder that holds nothing else is removed.
    """
    for folder in sorted(path for path in repository.iterdir() if path.is_dir()):
        if (folder / "config.pbtxt").is_file() or folder.name in MODELS:
            continue
        files = [path for path in folder.rglob("*") if not path.is_dir()]
        try:
            if any(path.parent.name != "__pycache__" for path in files):
                raise OSError
            shutil.rmtree(folder)
        except OSError:
            raise LauncherError(
                f"{folder} is no model, and Triton takes every folder of a repository for one: "
                "remove it"
            ) from None


def served_models(repository: Path) -> tuple[str, ...]:
    """Name the models of a repository: those of this project, and what somebody added.

    Parameters
    ----------
    repository : Path
        The model repository.

    Returns
    -------
    tuple of str
        This project's first, whether they are there or not; folders without a configuration are
        no models.
    """
    there = {path.parent.name for path in repository.glob("*/config.pbtxt")}
    return (*MODELS, *sorted(there - set(MODELS)))


def _check_backends(repository: Path, profile: str, backends: Path | None) -> None:
    for model in served_models(repository):
        text = (repository / model / "configs" / f"{profile}.pbtxt").read_text("utf-8")
        named = re.search(r'^backend: "(\w+)"', text, re.MULTILINE)
        if backends and named and (backends / named[1]).is_dir():
            continue
        if named and named[1] != "python":
            raise LauncherError(
                f"profile {profile!r} runs model {model} on Triton's {named[1]} backend, which "
                "nvidia-pytriton does not carry: serve it from a Triton container, or name a "
                "folder with that backend in DLILD_BACKENDS"
            )


def _check_weights(repository: Path, profile: str) -> None:
    """Run the check that the repository carries: each served version is what was released."""
    check = repository / "ild_unet" / "contract" / "weights.py"
    if not check.is_file():
        raise LauncherError(f"model ild_unet has no {check}: run `make configs`")
    done = subprocess.run(
        [sys.executable, "-I", str(check), str(repository), profile],
        check=False,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise LauncherError(" ".join(done.stderr.split()))


def check_port(name: str, port: int) -> int:
    """Check that a port of loopback is free; 0 chooses one.

    Parameters
    ----------
    name : str
        What the port is for.
    port : int
        The port, or 0.

    Returns
    -------
    int
        The port.

    Raises
    ------
    LauncherError
        Naming the port that is taken.
    """
    if not 0 <= port <= 65535:
        raise LauncherError(f"{name} port {port} is no port: give 0 to 65535")
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
            # Two sockets may be bound to one address while neither listens: listen to find out.
            probe.listen(1)
        except OSError as error:
            raise LauncherError(
                f"{name} port {port} is taken on {HOST} ({error.strerror}): "
                f"stop what uses it, or choose another with --{name}-port"
            ) from None
        return int(probe.getsockname()[1])


def find_environment(python: Path) -> Environment:
    """Find the server in its own environment.

    Parameters
    ----------
    python : Path
        The interpreter of that environment.

    Returns
    -------
    Environment

    Raises
    ------
    LauncherError
        No such interpreter, a version the wheel has no stub for, nvidia-pytriton or OpenVINO
        missing, numpy 2, or libraries that cannot be loaded.
    """
    facts = _probe(python)
    if facts["site"] is None:
        raise LauncherError(f"nvidia-pytriton is not installed beside {python}: run `make venvs`")
    tritonserver_home = Path(facts["site"]) / "tritonserver"
    version = ".".join(map(str, facts["python"]))
    stubs = tritonserver_home / "python_backend_stubs"
    stub = stubs / version / "triton_python_backend_stub"
    if not stub.is_file():
        known = sorted((path.name for path in stubs.glob("3.*")), key=_version)
        raise LauncherError(
            f"{python} is Python {version}, nvidia-pytriton runs models on "
            f"{', '.join(known) or 'none'}: make the server's environment with Python 3.11"
        )
    if facts["numpy"] is None or _version(facts["numpy"]) >= (2,):
        raise LauncherError(
            f"the server's environment has numpy {facts['numpy']}, it needs numpy older than 2 "
            "(its Python backend hands on empty tensors otherwise): run `make venvs`"
        )
    if facts["openvino"] is None:
        raise LauncherError(f"openvino is not installed beside {python}: run `make venvs`")
    libraries = [Path(facts["site"]).parent / "nvidia_pytriton.libs"]
    folder, library = facts["library"]
    if folder and library and (Path(folder) / library).is_file():
        libraries.append(Path(folder))
    environment = Environment(
        python=python,
        tritonserver=tritonserver_home / "bin" / "tritonserver",
        stub=stub,
        backend=tritonserver_home / "backends" / "python",
        libraries=tuple(libraries),
    )
    _check_libraries(environment)
    return environment


def _probe(python: Path) -> dict[str, Any]:
    if not python.is_file():
        raise LauncherError(f"the server's environment has no Python at {python}: run `make venvs`")
    try:
        done = subprocess.run(
            [str(python), "-c", PROBE],
            check=True,
            capture_output=True,
            text=True,
            timeout=60,
            env=_clean(os.environ),
        )
        facts: dict[str, Any] = json.loads(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        raise LauncherError(
            f"{python} does not run ({type(error).__name__}): run `make venvs`"
        ) from None
    return facts


def _check_libraries(environment: Environment) -> None:
    """Ask the loader which libraries the Python stub lacks: mostly libpython."""
    if shutil.which("ldd") is None:
        return
    done = subprocess.run(
        ["ldd", str(environment.stub)],
        check=False,
        capture_output=True,
        text=True,
        env=server_variables(environment),
    )
    missing = [line.split()[0] for line in done.stdout.splitlines() if "not found" in line]
    if missing:
        raise LauncherError(
            f"the server lacks {', '.join(missing)}: install it (Debian, Ubuntu: libpython3.11), "
            "or make the server's environment with a Python that has it"
        )


def _clean(variables: Mapping[str, str]) -> dict[str, str]:
    """Variables without those that would mix another Python into the server's."""
    mixing = {"PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "VIRTUAL_ENV"}
    kept = {name: value for name, value in variables.items() if name not in mixing}
    return kept | {"PYTHONNOUSERSITE": "1", "PYTHONDONTWRITEBYTECODE": "1"}


KEPT_MEMORY = {
    "MALLOC_MMAP_THRESHOLD_": str(256 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(256 << 20),
    "MALLOC_ARENA_MAX": "2",
}
"""Settings of the C library: each process keeps up to 256 MiB that it has freed. Without them every
scan's tensors (57 MB of probabilities, copied twice) come from the kernel anew, which clears each
page: 30 to 40 ms of processor time a scan. It keeps them in two heaps, not in one for every thread,
of which each would grow until it has served its largest requests."""


def server_variables(environment: Environment) -> dict[str, str]:
    """Variables that the server and its models run under.

    Parameters
    ----------
    environment : Environment
        The server's own Python environment.

    Returns
    -------
    dict of str to str
        Those of this process, without what would mix another Python into the server's, and with
        `KEPT_MEMORY` where they say nothing else.
    """
    variables = _clean(os.environ)
    variables["PATH"] = f"{environment.python.parent}{os.pathsep}{variables.get('PATH', '')}"
    inherited = variables.get("LD_LIBRARY_PATH")
    folders = [str(folder) for folder in environment.libraries]
    variables["LD_LIBRARY_PATH"] = os.pathsep.join([*folders, *([inherited] if inherited else [])])
    return KEPT_MEMORY | variables


def _version(text: str) -> tuple[int, ...]:
    numbers = []
    for part in text.split(".")[:2]:
        digits = "".join(character for character in part if character.isdigit())
        numbers.append(int(digits or 0))
    return tuple(numbers)


def default_server_python() -> Path:
    """Interpreter of the server's environment.

    Returns
    -------
    Path
        ``DLILD_SERVER_PYTHON``, or ``.venv-server/bin/python`` of this project.
    """
    named = os.environ.get("DLILD_SERVER_PYTHON")
    return Path(named) if named else ROOT / ".venv-server" / "bin" / "python"
