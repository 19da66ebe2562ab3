"""The real server behind mutual TLS and a key, and what becomes of a scan when it restarts.

With a tiny network: the score is that of the same server without TLS and key.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from certificates import Authority
from integration.conftest import wait_for

from dlild_client import TLS, AsyncClient, CancelToken, Client, Limits, Retries
from dlild_client.errors import CancelledError, KeyRefusedError, TLSFailedError
from dlild_client.results.result import Result
from dlild_client.volume import Volume
from dlild_deploy.server import EmbeddedServer, ServerTLS

pytestmark = pytest.mark.server
KEY = "a-key-for-tests"


@dataclass(frozen=True)
class Guarded:
    """A server, and what a client needs to speak to it."""

    server: EmbeddedServer
    tls: TLS
    authority: Authority


@pytest.fixture(scope="module")
def guarded(
    server_platform: None, hasty_repository: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Guarded]:
    folder = tmp_path_factory.mktemp("guarded")
    authority = Authority(folder / "ca")
    mine, theirs = authority.issue("client"), authority.issue("server")
    server = EmbeddedServer(
        hasty_repository,
        grpc_port=0,
        http_port=0,
        metrics_port=0,
        log_path=folder / "tritonserver.log",
        tls=ServerTLS(theirs.cert, theirs.key, authority.ca),
        api_key=KEY,
        warm=False,
    )
    with server:
        yield Guarded(server, TLS(authority.ca, mine.cert, mine.key), authority)


@pytest.fixture
def in_the_open(quiet_server: EmbeddedServer, volume: Volume) -> Result:
    with Client(quiet_server.grpc_url) as client:
        return client.score(volume)


def test_a_scan_through_mutual_tls_and_a_key(
    guarded: Guarded, in_the_open: Result, volume: Volume
) -> None:
    with Client(guarded.server.grpc_url, tls=guarded.tls, api_key=KEY) as client:
        result = client.score(volume)
    assert result.dl_ild_percent == pytest.approx(in_the_open.dl_ild_percent, abs=1e-6)


@pytest.mark.parametrize("key", [None, "another-key"])
def test_a_missing_or_wrong_key_is_refused_at_once(
    guarded: Guarded, volume: Volume, key: str | None
) -> None:
    with (
        Client(guarded.server.grpc_url, tls=guarded.tls, api_key=key) as client,
        pytest.raises(KeyRefusedError, match="API key"),
    ):
        client.score(volume)


def test_certificates_that_the_server_refuses(guarded: Guarded, tmp_path: Path) -> None:
    stranger = Authority(tmp_path / "stranger").issue("stranger")
    expired = guarded.authority.issue("expired", days=-1)
    ca = guarded.tls.ca
    for tls in (TLS(ca), TLS(ca, stranger.cert, stranger.key), TLS(ca, expired.cert, expired.key)):
        with (
            Client(guarded.server.grpc_url, tls=tls, api_key=KEY) as client,
            pytest.raises(TLSFailedError, match="certificate of this client"),
        ):
            client.info()


def test_the_key_is_in_no_log_of_the_server(guarded: Guarded) -> None:
    assert guarded.server.log_path is not None
    assert KEY not in guarded.server.log_path.read_text(errors="replace")


@pytest.mark.parametrize("in_flight", [1, 4])
def test_a_cancelled_scan_is_let_go_by_the_server_at_once(
    quiet_server: EmbeddedServer, volume: Volume, in_flight: int
) -> None:
    """That server holds one scan, and would keep a silent one for five seconds.

    With windows still to be sent, and with the last one on its way.
    """
    token = CancelToken()
    slowly = Limits(in_flight=in_flight)

    def stop(stage: str, done: int, whole: int) -> None:
        if (stage, done) == ("inference", 1):
            token.cancel()

    with Client(quiet_server.grpc_url, limits=slowly, retries=Retries(attempts=1)) as client:
        with pytest.raises(CancelledError):
            client.score(volume, stop, token)
        client.score(volume)  # raises BusyError where the other is still open

    async def leave() -> None:
        reached = asyncio.Event()

        def tell(stage: str, done: int, whole: int) -> None:
            if (stage, done) == ("inference", 1):
                reached.set()

        async with AsyncClient(quiet_server.grpc_url, limits=slowly) as client:
            task = asyncio.create_task(client.score(volume, tell))
            await reached.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(leave())
    with Client(quiet_server.grpc_url, retries=Retries(attempts=1)) as client:
        client.score(volume)


def test_a_busy_server_is_waited_for(quiet_server: EmbeddedServer, volume: Volume) -> None:
    """Two scans for a server that holds one: both are scored, one after the other."""
    with Client(quiet_server.grpc_url, retries=Retries(attempts=60, longest_wait_s=1)) as client:
        scores = {outcome.unwrap().dl_ild_percent for outcome in client.score_many([volume] * 2)}
    assert len(scores) == 1
    metrics = wait_for(quiet_server, lambda told: told["dlild_open_scans"] == 0)
    assert metrics['dlild_scans_total{outcome="BUSY"}'] >= 1


def test_a_server_restarted_in_mid_scan_gives_the_result_all_the_same(
    guarded: Guarded, volume: Volume, in_the_open: Result
) -> None:
    """Killed with windows still to be sent, started again on the same port."""
    steps: list[tuple[str, int, int]] = []
    restarted: list[threading.Thread] = []
    killed, done = threading.Event(), threading.Event()

    def restart() -> None:
        assert guarded.server.pid is not None
        os.killpg(guarded.server.pid, signal.SIGKILL)
        guarded.server.stop()
        killed.set()
        guarded.server.start()
        # The server goes with the thread that has started it.
        done.wait()

    def report(stage: str, done: int, whole: int) -> None:
        steps.append((stage, done, whole))
        if (stage, done) == ("inference", 1) and not restarted:
            restarted.append(threading.Thread(target=restart))
            restarted[0].start()
            assert killed.wait(60)

    with Client(
        guarded.server.grpc_url,
        tls=guarded.tls,
        api_key=KEY,
        limits=Limits(in_flight=1),
        retries=Retries(attempts=60, longest_wait_s=2),
    ) as client:
        try:
            result = client.score(volume, report)
        finally:
            done.set()
            restarted[0].join()

    assert result.dl_ild_percent == pytest.approx(in_the_open.dl_ild_percent, abs=1e-6)
    assert [step for step in steps if step[0] == "again"]
