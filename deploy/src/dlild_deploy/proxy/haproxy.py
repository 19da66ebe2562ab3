"""The proxy before several servers, as a process: HAProxy with the configuration of deploy/proxy.

Needs the standard library, and Debian's ``haproxy``.
"""

import contextlib
import csv
import io
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lifeline import tied
from preflight import HOST, ROOT, LauncherError, check_port

PROXY = ROOT / "deploy" / "proxy"
READY_TIMEOUT_S = 10.0
STOP_PATIENCE_S = 5.0
LOG_LINES_SHOWN = 3
SOCKET = "admin.sock"
# What HAProxy says of a server once it has answered; before that it is taken for up.
CHECKED = "L7OK"


@dataclass(frozen=True)
class Backend:
    """A server behind the proxy: its name there, and its ports on loopback."""

    name: str
    grpc_port: int
    http_port: int


class Door:
    """HAProxy on loopback, from ``start`` to ``stop``.

    Parameters
    ----------
    certificates : Path
        Folder with ``tls.crt``, ``tls.key`` and ``ca.crt``.
    keys : Path
        ``keys.map``: the digests of valid keys.
    port, metrics_port : int, optional
        Of clients and of Prometheus; 0 chooses a free one.
    mutual : bool, optional
        Clients must show a certificate.
    log_path : Path, optional
        By default in a private folder that goes with the proxy.
    settings : mapping, optional
        Further variables of deploy/proxy/README.md.
    """

    def __init__(
        self,
        certificates: Path,
        keys: Path,
        *,
        port: int = 8001,
        metrics_port: int = 0,
        mutual: bool = True,
        log_path: Path | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self.certificates = certificates
        self.keys = keys
        self.port = port
        self.metrics_port = metrics_port
        self.mutual = mutual
        self.log_path = log_path
        self._settings = dict(settings or {})
        self._home: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Address for clients."""
        return f"grpcs://localhost:{self.port}"

    @property
    def metrics_url(self) -> str:
        """Address that Prometheus reads."""
        return f"http://{HOST}:{self.metrics_port}/metrics"

    @property
    def pid(self) -> int | None:
        """Process id of HAProxy's master while it runs."""
        return self._process.pid if self._process is not None else None

    def start(self, backends: Sequence[Backend]) -> None:
        """Check, start, and wait until it has found every server.

        Parameters
        ----------
        backends : sequence of Backend

        Raises
        ------
        LauncherError
            HAProxy is missing or refuses its configuration, a port is taken, a file or a server is
            not there. Nothing is left behind then.
        """
        program = find_haproxy()
        for path in (self.keys, *(self.certificates / f"{n}" for n in self._certificate_names())):
            if not path.is_file():
                raise LauncherError(f"the proxy needs {path}, which is not there: run `make certs`")
        self.port = check_port("proxy", self.port)
        self.metrics_port = check_port("proxy-metrics", self.metrics_port)
        self._home = Path(tempfile.mkdtemp(prefix="dlild-proxy-"))
        try:
            self._launch(program, backends)
            self._wait_until_ready()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop at once, cutting off what is open. May be called twice."""
        process = self._process
        if process is not None:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(STOP_PATIENCE_S)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        self._process = None
        if self._home is not None:
            if self.log_path is not None and self.log_path.is_relative_to(self._home):
                self.log_path = None
            shutil.rmtree(self._home, ignore_errors=True)
            self._home = None

    def reload(self) -> None:
        """Read certificates, keys and servers anew; open scans go on.

        Raises
        ------
        LauncherError
            It does not run, or refuses what it finds and goes on as before.
        """
        self.check_alive()
        assert self._process is not None
        before = self._worker()
        os.kill(self._process.pid, signal.SIGUSR2)
        deadline = time.monotonic() + READY_TIMEOUT_S
        while self._worker() == before:
            if time.monotonic() > deadline:
                raise LauncherError(f"the proxy goes on as it was{self._last_lines()}")
            time.sleep(0.05)

    def states(self) -> dict[str, str]:
        """State of every server as the proxy sees it: ``UP``, ``DOWN``, or on the way there."""
        return {row["svname"]: row["status"] for row in self._servers()}

    def streams(self) -> dict[str, int]:
        """Open streams of every server."""
        return {row["svname"]: int(row["scur"]) for row in self._servers()}

    def ask(self, command: str) -> str:
        """Ask HAProxy's own command line (its manual has the commands).

        Raises
        ------
        OSError
            It does not answer.
        """
        assert self._home is not None
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
            line.settimeout(READY_TIMEOUT_S)
            line.connect(str(self._home / SOCKET))
            line.sendall(command.encode() + b"\n")
            return b"".join(iter(lambda: line.recv(65536), b"")).decode()

    def check_alive(self) -> None:
        """Raise when the proxy has ended.

        Raises
        ------
        LauncherError
            With the last lines of its log.
        """
        if self._process is None or self._process.poll() is not None:
            code = None if self._process is None else self._process.returncode
            raise LauncherError(f"the proxy ended with code {code}{self._last_lines()}")

    def _certificate_names(self) -> tuple[str, ...]:
        return ("tls.crt", "tls.key", "ca.crt") if self.mutual else ("tls.crt", "tls.key")

    def _launch(self, program: str, backends: Sequence[Backend]) -> None:
        assert self._home is not None
        servers = self._home / "servers.cfg"
        servers.write_text(servers_cfg(backends), "utf-8")
        if self.log_path is None:
            self.log_path = self._home / "haproxy.log"
        with self.log_path.open("wb") as log:
            self._process = subprocess.Popen(
                tied([program, "-W", "-db", "-f", str(PROXY / "haproxy.cfg"), "-f", str(servers)]),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=os.environ | self._variables(self._home),
                start_new_session=True,
            )

    def _variables(self, home: Path) -> dict[str, str]:
        return {
            "DLILD_PROXY_BIND": f"{HOST}:{self.port}",
            "DLILD_PROXY_METRICS": f"{HOST}:{self.metrics_port}",
            "DLILD_PROXY_FOLDER": str(PROXY),
            "DLILD_PROXY_SOCKET": str(home / SOCKET),
            "DLILD_TLS": "mutual" if self.mutual else "on",
            "DLILD_TLS_FOLDER": str(self.certificates.absolute()),
            "DLILD_KEYS": str(self.keys.absolute()),
            **self._settings,
        }

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + READY_TIMEOUT_S
        while time.monotonic() < deadline:
            self.check_alive()
            try:
                if all(row["check_status"] == CHECKED for row in self._servers()):
                    return
            except OSError:
                pass
            time.sleep(0.05)
        raise LauncherError(
            f"the proxy was not ready after {READY_TIMEOUT_S:g} s{self._last_lines()}"
        )

    def _worker(self) -> str:
        """Return the number of the process that takes calls now; empty while there is none."""
        try:
            lines = self.ask("show info").splitlines()
        except OSError:
            return ""
        return next((line for line in lines if line.startswith("Pid:")), "")

    def _servers(self) -> list[dict[str, str]]:
        """Read what HAProxy tells of every server."""
        table = self.ask("show stat servers 4 -1").lstrip("# ")
        return list(csv.DictReader(io.StringIO(table)))

    def _last_lines(self) -> str:
        if self.log_path is None or not self.log_path.is_file():
            return ""
        lines = self.log_path.read_text("utf-8", errors="replace").splitlines()
        telling = [line for line in lines if "[ALERT]" in line] or lines
        return "".join(f"\n  {line}" for line in telling[-LOG_LINES_SHOWN:])


def find_haproxy() -> str:
    """Find HAProxy on the path, where Debian puts it, or where `make deploy-tools` does.

    Raises
    ------
    LauncherError
        It is not installed.
    """
    places = [os.environ.get("PATH", ""), "/usr/sbin", str(ROOT / ".tools" / "bin")]
    found = shutil.which("haproxy", path=os.pathsep.join(places))
    if found is None:
        raise LauncherError("haproxy is not installed: apt-get install haproxy")
    return found


def servers_cfg(backends: Sequence[Backend]) -> str:
    """Write deploy/proxy/servers.cfg for other servers: only the lines that begin with ``server``.

    Parameters
    ----------
    backends : sequence of Backend

    Returns
    -------
    str
    """
    kept = [
        line
        for line in (PROXY / "servers.cfg").read_text("utf-8").splitlines()
        if not line.lstrip().startswith("server ")
    ]
    lines = [f"    server {b.name} {HOST}:{b.grpc_port} check port {b.http_port}" for b in backends]
    return "\n".join([*kept, *lines, ""])
