"""Several embedded servers behind the proxy, on loopback: ``make cluster N=3``.

It shows on one machine what a hospital has on several: TLS and keys at the proxy, streams spread
over the servers, and what becomes of a scan when a server dies.
"""

import argparse
import os
import signal
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import NoReturn, Self

from door import Backend, Door, find_haproxy
from launcher import EmbeddedServer, Stopped, stop_on_signals
from preflight import ROOT, LauncherError

MOST_SERVERS = 16
PORTS_A_SERVER = 10
LOOK_S = 0.5


class Cluster:
    """Servers and the proxy before them, for as long as the ``with`` block lasts.

    Parameters
    ----------
    servers : sequence of EmbeddedServer
        Not started.
    door : Door
        Not started.

    Raises
    ------
    LauncherError
        On entering: what is wrong, in one line. Nothing is left running then.

    Notes
    -----
    All of them stop when the thread that has entered the block dies, as one server does.
    """

    def __init__(self, servers: Sequence[EmbeddedServer], door: Door) -> None:
        self.servers = tuple(servers)
        self.door = door

    def __enter__(self) -> Self:
        """Start the servers one after the other, then the proxy."""
        # What is missing should not show only after minutes of starting.
        find_haproxy()
        try:
            for server in self.servers:
                server.start()
            self.door.start(
                [
                    Backend(f"server{number}", server.grpc_port, server.http_port)
                    for number, server in enumerate(self.servers, 1)
                ]
            )
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop the proxy, then the servers."""
        self._stop()

    def kill(self, server: EmbeddedServer) -> None:
        """Kill a server without warning, as a power cut does."""
        assert server.pid is not None
        os.killpg(server.pid, signal.SIGKILL)
        server.stop()

    def _stop(self) -> None:
        self.door.stop()
        # At once: each may take some seconds for what its clients have left half-way.
        with ThreadPoolExecutor(len(self.servers)) as pool:
            for stopped in [pool.submit(server.stop) for server in self.servers]:
                stopped.result()


def make_servers(
    count: int,
    *,
    repository: Path = ROOT / "model_repository",
    base_port: int = 0,
    threads: int | None = None,
    log_folder: Path | None = None,
) -> list[EmbeddedServer]:
    """Describe the servers of a cluster; none is started.

    Parameters
    ----------
    count : int
    repository : Path, optional
        The model repository; this project's by default.
    base_port : int, optional
        The first server's HTTP port; gRPC and metrics follow, and the next server begins ten
        further on. 0 chooses free ones.
    threads : int, optional
        Threads of the network in each; by default the cores are shared out.
    log_folder : Path, optional
        Where the logs go; by default they go with the servers.

    Returns
    -------
    list of EmbeddedServer

    Raises
    ------
    LauncherError
        No number of servers that a machine can hold.
    """
    if not 1 <= count <= MOST_SERVERS:
        raise LauncherError(f"{count} servers: give 1 to {MOST_SERVERS}")
    threads = threads or max(1, len(os.sched_getaffinity(0)) // count)
    servers = []
    for number in range(count):
        first = base_port + PORTS_A_SERVER * number
        http, grpc, metrics = (first, first + 1, first + 2) if base_port else (0, 0, 0)
        server = EmbeddedServer(
            repository,
            grpc_port=grpc,
            http_port=http,
            metrics_port=metrics,
            log_path=log_folder / f"server{number + 1}.log" if log_folder else None,
            threads=threads,
        )
        servers.append(server)
    return servers


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a cluster until Ctrl-C or SIGTERM.

    Parameters
    ----------
    arguments : sequence of str, optional
        The command line without the program's name; ``sys.argv`` when left out.

    Returns
    -------
    int
        0 when stopped on request, 1 when it cannot run, or the proxy or every server has died.
    """
    options = _parser().parse_args(arguments)
    stop_on_signals()
    try:
        door = Door(
            options.certificates,
            options.keys,
            port=options.port,
            metrics_port=options.metrics_port,
            log_path=options.logs / "haproxy.log",
            settings={"DLILD_DRAIN_S": "30"},
        )
        servers = make_servers(
            options.servers,
            repository=options.repository,
            base_port=options.base_port,
            log_folder=options.logs,
        )
        with Cluster(servers, door) as cluster:
            _tell(cluster, options)
            _watch(cluster)
    except LauncherError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except Stopped:
        print("stopped")
    return 0


def _watch(cluster: Cluster) -> NoReturn:
    """Say which server dies, once; nothing is started again behind anybody's back.

    Raises
    ------
    LauncherError
        The proxy has ended, or no server is left.
    """
    alive = dict(enumerate(cluster.servers, 1))
    while alive:
        cluster.door.check_alive()
        for number, server in list(alive.items()):
            try:
                server.check_alive()
            except LauncherError as error:
                del alive[number]
                print(f"error: server {number}: {error}", file=sys.stderr, flush=True)
        time.sleep(LOOK_S)
    raise LauncherError("no server is left")


def _tell(cluster: Cluster, options: argparse.Namespace) -> None:
    door, folder = cluster.door, options.certificates
    print(f"ready   {door.url}  {len(cluster.servers)} servers, mutual TLS, API key")
    for number, server in enumerate(cluster.servers, 1):
        print(f"server  {number}: pid {server.pid}, gRPC {server.grpc_port}, {server.metrics_url}")
    print(f"proxy   pid {door.pid}, {door.metrics_url}")
    print(f"logs    {options.logs}")
    print(
        f"score   dlild score SCAN --url {door.url} --tls-ca {folder / 'ca.crt'} "
        f"--tls-cert {folder / f'client-{options.client}.crt'} "
        f"--tls-key {folder / f'client-{options.client}.key'} --api-key-file {options.api_key_file}"
    )
    print(f"stop    Ctrl-C, or kill {os.getpid()}", flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Run several embedded Tritons behind HAProxy.")
    parser.add_argument("--servers", type=int, default=3)
    parser.add_argument("--repository", type=Path, default=ROOT / "model_repository")
    parser.add_argument("--certificates", type=Path, default=Path("certs"), help="of `make certs`")
    parser.add_argument("--keys", type=Path, default=Path("certs/keys.map"), help="of `make certs`")
    parser.add_argument("--client", default="trial", help="client that the advice is for")
    parser.add_argument("--api-key-file", type=Path, default=Path("certs/client-trial.api-key"))
    parser.add_argument("--port", type=int, default=8001, help="of the proxy; 0 chooses a free one")
    parser.add_argument("--metrics-port", type=int, default=8404, help="of the proxy, likewise")
    parser.add_argument("--base-port", type=int, default=8100, help="of the servers, likewise")
    parser.add_argument("--logs", type=Path, default=ROOT / ".cache" / "cluster")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
