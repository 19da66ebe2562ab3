"""Several embedded servers behind the proxy, on loopback: ``make cluster N=3``.

One machine shows what a hospital has on several: TLS and keys at the proxy, streams balanced over
the servers, and what happens to a scan when a server dies.
"""

import os
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Self

from dlild_deploy.checkout import MODEL_REPOSITORY
from dlild_deploy.errors import LauncherError
from dlild_deploy.proxy.haproxy import Backend, Proxy, find_haproxy
from dlild_deploy.server.embedded_server import EmbeddedServer

MOST_SERVERS = 16
PORTS_A_SERVER = 10


class Cluster:
    """Servers and the proxy before them, for as long as the ``with`` block lasts.

    Parameters
    ----------
    servers : sequence of EmbeddedServer
        Not started.
    proxy : Proxy
        Not started.

    Raises
    ------
    LauncherError
        On entering: what is wrong, in one line. Nothing is left running then.

    Notes
    -----
    All of them stop when the thread that has entered the block dies, as one server does.
    """

    def __init__(self, servers: Sequence[EmbeddedServer], proxy: Proxy) -> None:
        self.servers = tuple(servers)
        self.proxy = proxy

    def __enter__(self) -> Self:
        """Start the servers one after the other, then the proxy."""
        # What is missing should not show only after minutes of starting.
        find_haproxy()
        try:
            for server in self.servers:
                server.start()
            self.proxy.start(
                [
                    Backend(f"server{number}", server.grpc_port, server.http_port)
                    for number, server in enumerate(self.servers, 1)
                ]
            )
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, *_exception: object) -> None:
        """Stop the proxy, then the servers."""
        self._stop()

    def kill(self, server: EmbeddedServer) -> None:
        """Kill a server without warning, as a power cut does."""
        assert server.pid is not None
        os.killpg(server.pid, signal.SIGKILL)
        server.stop()

    def watch(self, report: Callable[[str], None]) -> Callable[[], None]:
        """Return the check for `supervisor.run_until_stopped`.

        Parameters
        ----------
        report : callable
            Takes a line about each server that dies, once. Nothing is started again: the proxy
            takes the server out, and whoever runs the cluster decides.

        Returns
        -------
        callable
            Raises LauncherError when the proxy has ended, or no server is left.
        """
        alive = dict(enumerate(self.servers, 1))

        def check() -> None:
            self.proxy.check_alive()
            for number, server in list(alive.items()):
                try:
                    server.check_alive()
                except LauncherError as error:
                    del alive[number]
                    report(f"error: server {number}: {error}")
            if not alive:
                raise LauncherError("no server is left")

        return check

    def _stop(self) -> None:
        self.proxy.stop()
        # At once: each may take some seconds for what its clients have left half-way.
        with ThreadPoolExecutor(len(self.servers)) as pool:
            for stopped in [pool.submit(server.stop) for server in self.servers]:
                stopped.result()


def make_servers(
    count: int,
    *,
    repository: Path = MODEL_REPOSITORY,
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
