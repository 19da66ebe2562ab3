"""HAProxy before several servers, as a process with the configuration of deploy/proxy.

Needs the standard library, and Debian's ``haproxy``.
"""

import csv
import io
import os
import shutil
import signal
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dlild_deploy.checkout import DEPLOY, TOOLS
from dlild_deploy.errors import LauncherError
from dlild_deploy.server.preflight import HOST, check_port
from dlild_deploy.supervisor import SupervisedProcess

CONFIGURATION = DEPLOY / "proxy"
READY_TIMEOUT_S = 10.0
STOP_TIMEOUT_S = 5.0
LOG_LINES_SHOWN = 3
SOCKET = "admin.sock"
# State of a server that has answered its check; HAProxy counts it as up before that.
CHECKED = "L7OK"


@dataclass(frozen=True)
class Backend:
    """A server behind the proxy: its name there, and its ports on loopback."""

    name: str
    grpc_port: int
    http_port: int


class Proxy:
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
        By default in the temporary folder that is removed with the proxy.
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
        self._settings = dict(settings or {})
        self._process = SupervisedProcess(
            "the proxy", prefix="dlild-proxy-", stop_timeout_s=STOP_TIMEOUT_S, log_path=log_path
        )

    @property
    def url(self) -> str:
        """Address for clients."""
        return f"grpcs://localhost:{self.port}"

    @property
    def metrics_url(self) -> str:
        """Address that Prometheus reads."""
        return f"http://{HOST}:{self.metrics_port}/metrics"

    @property
    def log_path(self) -> Path | None:
        """Where HAProxy's log is."""
        return self._process.log_path

    @property
    def pid(self) -> int | None:
        """Process id of HAProxy's master while it runs."""
        return self._process.pid

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
        try:
            self._launch(program, self._process.make_folder(), backends)
            self._process.wait_until(self._sees_servers, READY_TIMEOUT_S, 0.05, self._last_lines)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop at once, cutting off what is open. May be called twice."""
        self._process.stop()

    def reload(self) -> None:
        """Read certificates, keys and servers anew; open scans go on.

        Raises
        ------
        LauncherError
            It does not run, or rejects the new configuration and keeps the old one.
        """
        self.check_alive()
        before = self._worker()
        self._process.send_signal(signal.SIGUSR2)
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
        assert self._process.folder is not None
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(READY_TIMEOUT_S)
            connection.connect(str(self._process.folder / SOCKET))
            connection.sendall(command.encode() + b"\n")
            return b"".join(iter(lambda: connection.recv(65536), b"")).decode()

    def check_alive(self) -> None:
        """Raise when the proxy has ended.

        Raises
        ------
        LauncherError
            With the last lines of its log.
        """
        self._process.check_alive(self._last_lines)

    def _certificate_names(self) -> tuple[str, ...]:
        return ("tls.crt", "tls.key", "ca.crt") if self.mutual else ("tls.crt", "tls.key")

    def _launch(self, program: str, folder: Path, backends: Sequence[Backend]) -> None:
        servers = folder / "servers.cfg"
        servers.write_text(servers_cfg(backends), "utf-8")
        command = [program, "-W", "-db", "-f", str(CONFIGURATION / "haproxy.cfg")]
        self._process.start([*command, "-f", str(servers)], os.environ | self._variables(folder))

    def _variables(self, folder: Path) -> dict[str, str]:
        return {
            "DLILD_PROXY_BIND": f"{HOST}:{self.port}",
            "DLILD_PROXY_METRICS": f"{HOST}:{self.metrics_port}",
            "DLILD_PROXY_FOLDER": str(CONFIGURATION),
            "DLILD_PROXY_SOCKET": str(folder / SOCKET),
            "DLILD_TLS": "mutual" if self.mutual else "on",
            "DLILD_TLS_FOLDER": str(self.certificates.absolute()),
            "DLILD_KEYS": str(self.keys.absolute()),
            **self._settings,
        }

    def _sees_servers(self) -> bool:
        return all(row["check_status"] == CHECKED for row in self._servers())

    def _worker(self) -> str:
        """Return the number of the process that takes calls now; empty while there is none."""
        try:
            lines = self.ask("show info").splitlines()
        except OSError:
            return ""
        return next((line for line in lines if line.startswith("Pid:")), "")

    def _servers(self) -> list[dict[str, str]]:
        """Read HAProxy's statistics of every server."""
        table = self.ask("show stat servers 4 -1").lstrip("# ")
        return list(csv.DictReader(io.StringIO(table)))

    def _last_lines(self) -> str:
        lines = self._process.log_lines()
        alerts = [line for line in lines if "[ALERT]" in line] or lines
        return "".join(f"\n  {line}" for line in alerts[-LOG_LINES_SHOWN:])


def find_haproxy() -> str:
    """Find HAProxy on the path, where Debian puts it, or where `make deploy-tools` does.

    Raises
    ------
    LauncherError
        It is not installed.
    """
    folders = [os.environ.get("PATH", ""), "/usr/sbin", str(TOOLS)]
    found = shutil.which("haproxy", path=os.pathsep.join(folders))
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
        for line in (CONFIGURATION / "servers.cfg").read_text("utf-8").splitlines()
        if not line.lstrip().startswith("server ")
    ]
    lines = [f"    server {b.name} {HOST}:{b.grpc_port} check port {b.http_port}" for b in backends]
    return "\n".join([*kept, *lines, ""])
