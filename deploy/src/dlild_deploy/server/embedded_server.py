"""A real tritonserver without Docker: the one inside the ``nvidia-pytriton`` wheel.

``EmbeddedServer`` checks first what could be wrong (``preflight``), starts the server on loopback,
waits until it is ready, and stops it with all it made. On the command line
``python deploy/embedded/launcher.py`` is ``make serve``.

Needs the standard library only: the server runs in an environment of its own.
"""

import argparse
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
import uuid
from collections.abc import Sequence
from pathlib import Path
from types import FrameType, TracebackType
from typing import NoReturn, Self

from guard import ServerTLS, add_options, guard_flags, read_options
from lifeline import tied
from preflight import (
    HOST,
    ROOT,
    SHARED_MEMORY,
    Environment,
    LauncherError,
    check_platform,
    check_port,
    check_repository,
    default_server_python,
    find_environment,
    served_models,
    server_variables,
)

__all__ = ["EmbeddedServer", "LauncherError", "ServerTLS", "main"]

STOP_PATIENCE_S = 15.0
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
        Profile to serve.
    grpc_port, http_port, metrics_port : int, optional
        Ports on 127.0.0.1; 0 chooses a free one, which the attribute of that name then holds.
    server_python : Path, optional
        Interpreter of the server's environment; by default ``DLILD_SERVER_PYTHON``, or
        ``.venv-server/bin/python`` of this project.
    log_path : Path, optional
        Where the server's log goes; by default into the private folder that goes with the server.
    ready_timeout_s : float, optional
        Seconds to wait until the server is ready.
    tls : ServerTLS, optional
        Certificates of the gRPC door; without them it is open to whoever reads along.
    api_key : str, optional
        What clients must send with every call but those that ask for its health.
    threads : int, optional
        Threads of the network; by default as many as the machine has cores.

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
        repository: Path | str = ROOT / "model_repository",
        profile: str = "embedded",
        *,
        grpc_port: int = 8001,
        http_port: int = 8000,
        metrics_port: int = 8002,
        server_python: Path | str | None = None,
        log_path: Path | str | None = None,
        ready_timeout_s: float = 120.0,
        tls: ServerTLS | None = None,
        api_key: str | None = None,
        threads: int | None = None,
    ) -> None:
        self.repository = Path(repository).resolve()
        self.profile = profile
        self.grpc_port = grpc_port
        self.http_port = http_port
        self.metrics_port = metrics_port
        # Not resolved: the link inside an environment is what makes it that environment.
        self.server_python = Path(server_python or default_server_python()).absolute()
        self.log_path = Path(log_path).absolute() if log_path else None
        self.ready_timeout_s = ready_timeout_s
        self.tls = tls
        self.threads = threads
        self._api_key = api_key
        self._prefix = f"dlild_{uuid.uuid4().hex[:12]}_"
        self._home: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def grpc_url(self) -> str:
        """Address for clients, such as ``grpc://127.0.0.1:8001``; ``grpcs://`` with TLS."""
        return f"{'grpcs' if self.tls else 'grpc'}://{HOST}:{self.grpc_port}"

    @property
    def http_url(self) -> str:
        """Address of Triton's HTTP door."""
        return f"http://{HOST}:{self.http_port}"

    @property
    def metrics_url(self) -> str:
        """Address that Prometheus reads."""
        return f"http://{HOST}:{self.metrics_port}/metrics"

    @property
    def pid(self) -> int | None:
        """Process id of the server while it runs."""
        return self._process.pid if self._process is not None else None

    def __enter__(self) -> Self:
        """Start the server; see ``start``."""
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop the server; see ``stop``."""
        self.stop()

    def start(self) -> None:
        """Check, start, wait until ready, and verify the profile.

        Raises
        ------
        LauncherError
            What is wrong. Nothing is left behind then.
        """
        if self._process is not None:
            raise LauncherError("this server was started already")
        check_platform()
        environment = find_environment(self.server_python)
        check_repository(self.repository, self.profile)
        self.grpc_port = check_port("grpc", self.grpc_port)
        self.http_port = check_port("http", self.http_port)
        self.metrics_port = check_port("metrics", self.metrics_port)
        try:
            self._launch(environment)
            self._wait_until_ready()
            self._check_profile()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop the server and remove what it made. May be called twice."""
        process = self._process
        try:
            if process is not None and process.poll() is None:
                process.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(STOP_PATIENCE_S)
        finally:
            if process is not None:
                # The models' own processes are in the group as well, whatever became of the server.
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            self._process = None
            self._tidy()

    def check_alive(self) -> None:
        """Raise when the server has died.

        Raises
        ------
        LauncherError
            With the last errors of its log.
        """
        if self._process is None or self._process.poll() is not None:
            code = None if self._process is None else self._process.returncode
            raise LauncherError(f"the server ended with code {code}{self._last_errors()}")

    def _launch(self, environment: Environment) -> None:
        self._home = Path(tempfile.mkdtemp(prefix="dlild-server-"))
        backend = self._home / "backends" / "python"
        backend.mkdir(parents=True)
        files = [path for path in environment.backend.iterdir() if path.is_file()]
        for path in (*files, environment.stub):
            (backend / path.name).symlink_to(path)
        if self.log_path is None:
            self.log_path = self._home / "tritonserver.log"
        self.log_path.parent.mkdir(parents=True, exist_ok=True)
        variables = server_variables(environment)
        if self.threads is not None:
            variables["DLILD_THREADS"] = str(self.threads)
        with self.log_path.open("wb") as log:
            self._process = subprocess.Popen(
                tied(self._command(environment, backend.parent)),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=variables,
                # A group of its own: Ctrl-C in a terminal reaches the launcher alone, which stops
                # the server in order.
                start_new_session=True,
            )

    def _command(self, environment: Environment, backends: Path) -> list[str]:
        return [
            str(environment.tritonserver),
            f"--model-repository={self.repository}",
            f"--model-config-name={self.profile}",
            f"--backend-directory={backends}",
            f"--backend-config=python,shm-region-prefix-name={self._prefix}",
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
            *guard_flags(self.tls, self._api_key),
        ]

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + self.ready_timeout_s
        while time.monotonic() < deadline:
            self.check_alive()
            try:
                with urllib.request.urlopen(f"{self.http_url}/v2/health/ready", timeout=2):  # noqa: S310
                    return
            except OSError:
                time.sleep(0.1)
        raise LauncherError(
            f"the server was not ready after {self.ready_timeout_s:g} s{self._last_errors()}"
        )

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

    def _last_errors(self) -> str:
        """Return the log's last lines that tell why, to follow a message."""
        if self.log_path is None or not self.log_path.is_file():
            return ""
        lines = self.log_path.read_text("utf-8", errors="replace").splitlines()
        # A model that fails is repeated by everything that depends on it: the first word is enough.
        telling = [line for line in lines if "failed to load '" in line and "version" in line]
        telling = telling or [line for line in lines if _tells(line)] or lines
        return "".join(
            f"\n  {line.replace(chr(92) + 'n', ' ')[:LOG_LINE_LENGTH]}"
            for line in telling[-LOG_LINES_SHOWN:]
        )

    def _tidy(self) -> None:
        """Remove the private folder and this server's shared memory, never another's."""
        for region in SHARED_MEMORY.glob(f"{self._prefix}*"):
            with contextlib.suppress(OSError):
                region.unlink()
        if self._home is not None:
            if self.log_path is not None and self.log_path.is_relative_to(self._home):
                self.log_path = None
            shutil.rmtree(self._home, ignore_errors=True)
            self._home = None


def _tells(line: str) -> bool:
    is_error = (line[:1] == "E" and line[1:2].isdigit()) or "rror:" in line
    return is_error and not any(word in line.lower() for word in HARMLESS)


class Stopped(BaseException):
    """A signal asked to stop. Not an Exception: nothing on the way may swallow it."""


def stop_on_signals() -> None:
    """Have Ctrl-C and SIGTERM raise ``Stopped`` in the main thread, once."""
    for kind in (signal.SIGINT, signal.SIGTERM):
        signal.signal(kind, _stop)


def _stop(number: int, frame: FrameType | None) -> NoReturn:  # noqa: ARG001
    # The first signal is enough: a second one must not interrupt the stopping.
    for kind in (signal.SIGINT, signal.SIGTERM):
        signal.signal(kind, signal.SIG_IGN)
    raise Stopped


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until Ctrl-C or SIGTERM.

    Parameters
    ----------
    arguments : sequence of str, optional
        The command line without the program's name; ``sys.argv`` when left out.

    Returns
    -------
    int
        0 when stopped on request, 1 when the server cannot run or died.
    """
    options = _parser().parse_args(arguments)
    stop_on_signals()
    try:
        tls, api_key = read_options(options)
        server = EmbeddedServer(
            repository=options.repository,
            profile=options.profile,
            grpc_port=options.grpc_port,
            http_port=options.http_port,
            metrics_port=options.metrics_port,
            server_python=options.server_python,
            log_path=options.log,
            ready_timeout_s=options.ready_timeout,
            tls=tls,
            api_key=api_key,
        )
        with server:
            print(f"ready   {server.grpc_url}  profile {server.profile}")
            print(f"also    {server.http_url}  {server.metrics_url}")
            print(f"log     {server.log_path}")
            print(f"stop    Ctrl-C, or kill {os.getpid()}", flush=True)
            while True:
                server.check_alive()
                time.sleep(0.5)
    except LauncherError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except Stopped:
        print("stopped")
        return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Run the embedded Triton on loopback.")
    parser.add_argument("--repository", type=Path, default=ROOT / "model_repository")
    parser.add_argument("--profile", default="embedded")
    parser.add_argument("--grpc-port", type=int, default=8001, help="0 chooses a free one")
    parser.add_argument("--http-port", type=int, default=8000, help="0 chooses a free one")
    parser.add_argument("--metrics-port", type=int, default=8002, help="0 chooses a free one")
    parser.add_argument("--server-python", type=Path, help="the server's own environment")
    parser.add_argument("--log", type=Path, default=ROOT / ".cache" / "tritonserver.log")
    parser.add_argument("--ready-timeout", type=float, default=120.0, help="seconds")
    add_options(parser)
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
