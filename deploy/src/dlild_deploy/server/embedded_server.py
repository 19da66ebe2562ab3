"""A real tritonserver without Docker: the one inside the ``nvidia-pytriton`` wheel.

``EmbeddedServer`` first checks what could be wrong (``preflight``), starts the server on loopback,
waits until it is ready, has it score a dummy box, so that the first scan is as fast as the next,
and stops it with everything that it made. Needs the standard library only:
it also runs in the server's own environment.
"""

import json
import os
import shutil
import urllib.request
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Self

from dlild_deploy.checkout import MODEL_REPOSITORY
from dlild_deploy.container_probe import ProbeError, warm_up
from dlild_deploy.errors import LauncherError
from dlild_deploy.server.access_flags import ServerTLS, access_flags
from dlild_deploy.server.preflight import (
    HOST,
    Environment,
    check_platform,
    check_port,
    check_repository,
    default_server_python,
    find_environment,
    served_models,
    server_variables,
)
from dlild_deploy.server.shared_regions import SharedRegions, remove_stale_regions
from dlild_deploy.supervisor import SupervisedProcess

STOP_TIMEOUT_S = 15.0
# What the backends of a Triton container are linked with.
SERVER_LIBRARY = "libtritonserver.so"
LOG_LINES_SHOWN = 4
LOG_LINE_LENGTH = 600
# A machine without a GPU makes the server complain about these, to no harm.
HARMLESS = ("cuda", "nvml", "dcgm", "gpu metrics", "pinned memory")


class EmbeddedServer:
    """A tritonserver on loopback, for as long as the ``with`` block lasts.

    Parameters
    ----------
    repository : Path, optional
        The model repository; this project's by default.
    profile : str, optional
        Profile to serve; by default ``DLILD_PROFILE``, or ``embedded``.
    backends : Path, optional
        Folder with Triton backends besides the wheel's Python backend, one folder each, for
        profiles that need them; by default ``DLILD_BACKENDS``, or none. They must be of the wheel's
        Triton.
    grpc_port, http_port, metrics_port : int, optional
        Ports on 127.0.0.1; 0 chooses a free one, which the attribute of that name then holds.
    server_python : Path, optional
        Interpreter of the server's environment; by default ``DLILD_SERVER_PYTHON``, or
        ``.venv-server/bin/python`` of this project.
    log_path : Path, optional
        Where the server's log goes; by default into the temporary folder of the server.
    ready_timeout_s : float, optional
        Seconds to wait until the server is ready.
    tls : ServerTLS, optional
        Certificates of the gRPC port; without them its traffic is not encrypted.
    api_key : str, optional
        What clients must send with every call but those that ask for its health.
    threads : int, optional
        Threads of the network, in every profile that runs it on the CPU; by default
        ``DLILD_THREADS``, or as many as the machine has cores.
    warm : bool, optional
        Whether the server scores a dummy box before it counts as ready.

    Raises
    ------
    LauncherError
        On entering: what is wrong, in one line; with the log's last errors where the server failed.

    Notes
    -----
    The server stops when the thread that entered the block dies, however it dies: Linux counts the
    thread, not the process, as the parent.
    """

    def __init__(
        self,
        repository: Path | str = MODEL_REPOSITORY,
        profile: str | None = None,
        *,
        backends: Path | str | None = None,
        grpc_port: int = 8001,
        http_port: int = 8000,
        metrics_port: int = 8002,
        server_python: Path | str | None = None,
        log_path: Path | str | None = None,
        ready_timeout_s: float = 120.0,
        tls: ServerTLS | None = None,
        api_key: str | None = None,
        threads: int | None = None,
        warm: bool = True,
    ) -> None:
        self.repository = Path(repository).resolve()
        self.profile = profile or os.environ.get("DLILD_PROFILE") or "embedded"
        given = backends or os.environ.get("DLILD_BACKENDS")
        self.backends = Path(given).resolve() if given else None
        self.grpc_port = grpc_port
        self.http_port = http_port
        self.metrics_port = metrics_port
        # Not resolved: the link inside an environment is what makes it that environment.
        self.server_python = Path(server_python or default_server_python()).absolute()
        self.ready_timeout_s = ready_timeout_s
        self.tls = tls
        self.threads = threads
        self.warm = warm
        self._api_key = api_key
        self._regions = SharedRegions()
        self._process = SupervisedProcess(
            "the server",
            prefix="dlild-server-",
            stop_timeout_s=STOP_TIMEOUT_S,
            log_path=Path(log_path).absolute() if log_path else None,
        )

    @property
    def grpc_url(self) -> str:
        """Address for clients, such as ``grpc://127.0.0.1:8001``; ``grpcs://`` with TLS."""
        return f"{'grpcs' if self.tls else 'grpc'}://{HOST}:{self.grpc_port}"

    @property
    def http_url(self) -> str:
        """Address of Triton's HTTP port."""
        return f"http://{HOST}:{self.http_port}"

    @property
    def metrics_url(self) -> str:
        """Address that Prometheus reads."""
        return f"http://{HOST}:{self.metrics_port}/metrics"

    @property
    def log_path(self) -> Path | None:
        """Where the server's log is."""
        return self._process.log_path

    @property
    def pid(self) -> int | None:
        """Process id of the server while it runs."""
        return self._process.pid

    def __enter__(self) -> Self:
        """Start the server; see ``start``."""
        self.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        """Stop the server; see ``stop``."""
        self.stop()

    def start(self) -> None:
        """Check, start, wait until ready, verify the profile, and score a dummy box.

        Raises
        ------
        LauncherError
            What is wrong. Nothing is left behind then.
        """
        if self.pid is not None:
            raise LauncherError("this server was started already")
        # What a server left that was killed with its launcher, before free memory is looked at.
        remove_stale_regions()
        check_platform()
        environment = find_environment(self.server_python)
        check_repository(self.repository, self.profile, self.backends)
        self.grpc_port = check_port("grpc", self.grpc_port)
        self.http_port = check_port("http", self.http_port)
        self.metrics_port = check_port("metrics", self.metrics_port)
        try:
            self._launch(environment)
            self._process.wait_until(self._is_ready, self.ready_timeout_s, 0.1, self._last_errors)
            self._check_profile()
            if self.warm:
                self._warm_up()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop the server and remove what it made. May be called twice."""
        try:
            self._process.stop()
        finally:
            self._regions.remove()

    def check_alive(self) -> None:
        """Raise when the server has died.

        Raises
        ------
        LauncherError
            With the last errors of its log.
        """
        self._process.check_alive(self._last_errors)

    def _launch(self, environment: Environment) -> None:
        backend = self._process.make_folder() / "backends" / "python"
        backend.mkdir(parents=True)
        files = [path for path in environment.backend.iterdir() if path.is_file()]
        for path in (*files, environment.stub):
            # Copied: to a backend that is a Python model itself Triton lends no linked library.
            shutil.copy(path, backend / path.name)
        for path in self.backends.iterdir() if self.backends else ():
            if path.is_dir() and path.name != backend.name:
                (backend.parent / path.name).symlink_to(path)
        if self.backends:
            linked = link_server_library(environment.libraries, backend.parent.parent)
            environment = replace(environment, libraries=(*environment.libraries, linked))
        variables = server_variables(environment)
        if self.threads is not None:
            variables["DLILD_THREADS"] = str(self.threads)
        self._process.start(
            self._command(environment, backend.parent), variables, inherited=[self._regions.open()]
        )

    def _command(self, environment: Environment, backends: Path) -> list[str]:
        return [
            str(environment.tritonserver),
            f"--model-repository={self.repository}",
            f"--model-config-name={self.profile}",
            f"--backend-directory={backends}",
            f"--backend-config=python,shm-region-prefix-name={self._regions.prefix}",
            "--model-control-mode=none",
            "--exit-on-error=true",
            "--exit-timeout-secs=10",
            f"--grpc-address={HOST}",
            f"--grpc-port={self.grpc_port}",
            f"--http-address={HOST}",
            f"--http-port={self.http_port}",
            f"--metrics-address={HOST}",
            f"--metrics-port={self.metrics_port}",
            "--allow-gpu-metrics=false",
            *access_flags(self.tls, self._api_key),
            *thread_flags(self.threads or os.environ.get("DLILD_THREADS")),
        ]

    def _is_ready(self) -> bool:
        with urllib.request.urlopen(f"{self.http_url}/v2/health/ready", timeout=2):  # noqa: S310
            return True

    def _check_profile(self) -> None:
        """Ask each model for its profile: Triton falls back to config.pbtxt in silence."""
        for model in served_models(self.repository):
            url = f"{self.http_url}/v2/models/{model}/config"
            with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310
                parameters = json.load(answer).get("parameters", {})
            served = parameters.get("profile", {}).get("string_value")
            if served != self.profile:
                raise LauncherError(
                    f"model {model} is served with profile {served!r}, asked was {self.profile!r}: "
                    "run `make configs`"
                )

    def _warm_up(self) -> None:
        try:
            warm_up(self.http_url, self.ready_timeout_s)
        except ProbeError as error:
            raise LauncherError(
                f"the server cannot score a dummy box: {error}{self._last_errors()}"
            ) from None

    def _last_errors(self) -> str:
        """Return the last lines of the log that say why, to follow a message."""
        lines = self._process.log_lines()
        # A model that fails is repeated by everything that depends on it: the first word is enough.
        causes = [line for line in lines if "failed to load '" in line and "version" in line]
        causes = causes or [line for line in lines if _is_error(line)] or lines
        return "".join(
            f"\n  {line.replace(chr(92) + 'n', ' ')[:LOG_LINE_LENGTH]}"
            for line in causes[-LOG_LINES_SHOWN:]
        )


def link_server_library(libraries: Iterable[Path], folder: Path) -> Path:
    """Link the wheel's library of Triton under the name that Triton's own backends load it by.

    A backend of a Triton container needs ``libtritonserver.so``; the wheel's has a digest in its
    name. The loader takes both names for one file, and so for one library.

    Parameters
    ----------
    libraries : iterable of Path
        Folders with the wheel's libraries.
    folder : Path
        Where to make the folder with the link.

    Returns
    -------
    Path
        The folder, for the loader's search path.
    """
    made = folder / "libraries"
    made.mkdir()
    library = next((path for held in libraries for path in held.glob("libtritonserver-*.so")), None)
    if library:
        (made / SERVER_LIBRARY).symlink_to(library)
    return made


def thread_flags(threads: int | str | None) -> list[str]:
    """Make the flags that bound the threads of ONNX Runtime; OpenVINO reads ``DLILD_THREADS``.

    Parameters
    ----------
    threads : int or str, optional
        Threads of one inference; without them as many as there are cores.
    """
    if not threads:
        return []
    options = ("enable-global-threadpool=1", f"intra_op_thread_count={threads}")
    return [f"--backend-config=onnxruntime,{option}" for option in options]


def _is_error(line: str) -> bool:
    marked = (line[:1] == "E" and line[1:2].isdigit()) or "rror:" in line
    return marked and not any(word in line.lower() for word in HARMLESS)
