"""What networks, servers and certificates do to a scan: the right result, or the right error.

Every case runs through both clients.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from dataclasses import replace

import grpc
import pytest
from certificates import Authority
from fake_server import FakeServer, cubes_only
from proxy import Fault, Proxy
from tritonclient.grpc import service_pb2

from dlild_client import TLS, AsyncClient, Client, Retries, Timeout
from dlild_client.errors import (
    BusyError,
    ConnectionFailedError,
    ContractError,
    KeyRefusedError,
    ModelNotFoundError,
    NotReadyError,
    RefusedError,
    ScanLostError,
    ServerError,
    TimedOutError,
    TLSFailedError,
)

SOON = Retries(attempts=5, first_wait_s=0.05, longest_wait_s=0.2)
QUICK = Timeout(connect_s=2, answer_s=2, scan_s=30)


@pytest.fixture(params=[Client, AsyncClient], ids=["sync", "async"])
def score(request):
    """Score scans one after the other, with one client of either kind."""

    def score_all(url, *scans, **settings):
        settings = {"timeout": QUICK, "retries": SOON, **settings}
        if request.param is Client:
            with Client(url, **settings) as client:
                return [client.score(scan, progress) for scan, progress in map(_pair, scans)]

        async def run():
            async with AsyncClient(url, **settings) as client:
                return [await client.score(scan, progress) for scan, progress in map(_pair, scans)]

        return asyncio.run(run())

    return score_all


def _pair(scan):
    return scan if isinstance(scan, tuple) else (scan, None)


@pytest.fixture(scope="module")
def expected(contract_text, chest):
    fake = FakeServer(cubes_only(contract_text))
    fake.start()
    with Client(fake.url) as client:
        result = client.score(chest)
    fake.stop()
    return result.dl_ild_percent


def say(text):
    return service_pb2.ModelStreamInferResponse(error_message=text)


def test_a_server_restarted_in_mid_scan_costs_one_more_sending(server, chest, expected, score):
    def restart(i, r):
        if i == 3:
            server.fault = None
            server.stop()
            threading.Timer(0.3, server.start).start()
            return []
        return [r]

    server.fault = restart
    steps = []
    (result,) = score(server.url, (chest, lambda *step: steps.append(step)))

    assert result.dl_ild_percent == expected
    assert len(set(server.sequence_ids)) == 2
    assert ("again", 1, 4) in steps
    assert len([step for step in steps if step[:2] == ("read", 1)]) == 1


def test_a_busy_server_is_asked_again_with_one_window(server, chest, expected, score):
    server.busy = 3

    (result,) = score(server.url, chest)

    assert result.dl_ild_percent == expected
    assert server.busy == 0


def test_a_server_that_stays_busy_is_waited_for_until_the_scan_has_no_time_left(
    server, chest, score
):
    server.busy = 1000

    with pytest.raises(BusyError, match="12 scans are open"):
        score(server.url, chest, timeout=Timeout(connect_s=2, answer_s=2, scan_s=2))

    assert server.busy < 1000 - SOON.attempts
    assert server.aborts == []


def test_a_scan_whose_time_ends_after_a_busy_answer_says_that_the_server_was_busy(
    server, chest, score
):
    server.busy, server.fault = 1, lambda index, answer: []

    with pytest.raises(BusyError, match="12 scans are open"):
        score(server.url, chest, timeout=Timeout(connect_s=2, answer_s=10, scan_s=1.5))

    assert server.busy == 0


def test_a_busy_server_says_itself_when_it_is_asked_again(server, chest, expected, score):
    server.busy, server.busy_text = 1, "12 scans are open, the limit; send it again in 1.5 s"

    start = time.monotonic()
    (result,) = score(server.url, chest)

    assert result.dl_ild_percent == expected
    assert time.monotonic() - start > 1.5


def test_a_scan_does_not_wait_for_a_server_that_is_busy_for_longer_than_it_has(
    server, chest, score
):
    server.busy, server.busy_text = 1000, "full; send it again in 40 s"

    start = time.monotonic()
    with pytest.raises(BusyError, match="in 40 s") as refused:
        score(server.url, chest)

    assert refused.value.retry_after_s == 40
    assert server.busy == 999
    assert time.monotonic() - start < 10


def test_a_client_that_may_not_try_again_hears_of_a_busy_server_at_once(server, chest, score):
    server.busy = 1000

    with pytest.raises(BusyError):
        score(server.url, chest, retries=Retries(attempts=1))

    assert server.busy == 999


def test_a_server_that_stops_is_waited_for(server, chest, expected, score):
    calls = []

    def stopping(i, r):
        calls.append(i)
        text = (
            "Server is stopping, scheduler for model has stopped accepting new inference requests"
        )
        return [say(text)] if len(calls) == 1 else [r]

    server.fault = stopping

    (result,) = score(server.url, chest)

    assert result.dl_ild_percent == expected


def test_a_slow_network_gives_the_same_result(server, chest, expected, score):
    with Proxy(server.port, lambda n: Fault(bytes_per_s=2e7)) as proxy:
        (result,) = score(proxy.url, chest)

    assert result.dl_ild_percent == expected


def test_a_network_too_slow_for_the_time_limit_is_a_time_out(server, chest, score):
    patience = Timeout(connect_s=2, answer_s=2, scan_s=1.0)
    with (
        Proxy(server.port, lambda n: Fault(bytes_per_s=2e6)) as proxy,
        pytest.raises(TimedOutError),
    ):
        score(proxy.url, chest, timeout=patience)


def test_a_dropped_stream_is_sent_again(server, chest, expected, score):
    # Over four windows of 1.8 MB: the fifth is sent when the first was answered.
    def drops(n):
        return Fault(cut_after=8_000_000) if n == 0 else None

    with Proxy(server.port, drops) as proxy:
        (result,) = score(proxy.url, chest)

    assert result.dl_ild_percent == expected
    assert len(set(server.sequence_ids)) == 2


def test_a_line_that_always_drops_is_a_failed_connection(server, chest, score):
    with (
        Proxy(server.port, lambda n: Fault(cut_after=4_000_000)) as proxy,
        pytest.raises(ConnectionFailedError, match="try again"),
    ):
        score(proxy.url, chest)

    assert proxy.connections >= SOON.attempts


def test_a_half_open_connection_is_left_for_a_new_one(server, chest, expected, score):
    def swallows(n):
        return Fault(silent_after=4_000_000) if n == 0 else None

    impatient = Timeout(connect_s=2, answer_s=1, scan_s=30)
    with Proxy(server.port, swallows) as proxy:
        (result,) = score(proxy.url, chest, timeout=impatient)

    assert result.dl_ild_percent == expected


def test_a_peer_that_never_answers_is_named_in_time(server, chest, score):
    impatient = Timeout(connect_s=0.5, answer_s=1, scan_s=30)
    start = time.monotonic()
    with (
        Proxy(server.port, lambda n: Fault(silent_after=0)) as proxy,
        pytest.raises(ConnectionFailedError, match=r"no answer .* within 0\.5 s"),
    ):
        score(proxy.url, chest, timeout=impatient)
    assert time.monotonic() - start < 5


def test_a_server_that_was_never_there_is_reported_at_once(server, chest, score):
    server.stop()
    start = time.monotonic()
    with pytest.raises(ConnectionFailedError, match="no server answers"):
        score(server.url, chest, retries=Retries())
    assert time.monotonic() - start < 3


@pytest.mark.parametrize("twice", [1, 11])
def test_a_server_that_answers_twice_is_an_error_and_not_asked_again(server, chest, score, twice):
    server.fault = lambda i, r: [r, r] if i == twice else [r]

    with pytest.raises(ServerError, match=r"twice|more often"):
        score(server.url, chest)

    assert len(server.sequence_ids) == 1


@pytest.mark.parametrize("version", ["77", ""])
def test_another_version_than_the_contract_s_is_no_score(server, chest, score, version):
    def answer(i, r):
        r.infer_response.model_version = server.version if i < 5 else version
        return [r]

    server.fault = answer

    with pytest.raises(ContractError, match=f"version {version or 'unknown'} of the model answer"):
        score(server.url, chest)

    # Its contract has not changed: it would be the same again.
    assert len(server.sequence_ids) == 1
    assert server.aborts == server.sequence_ids


def test_a_version_that_is_loaded_in_mid_scan_is_met_by_a_scan_of_its_own(
    server, chest, expected, score
):
    def load(i, r):
        if i == 2:
            newer = json.loads(server.parameters["contract"])
            newer["model"]["version"] = 77
            server.parameters["contract"] = json.dumps(newer)
            server.version = "77"
        return [r]

    server.fault = load

    (result,) = score(server.url, chest)

    assert (result.model.version, len(server.sequence_ids)) == (77, 2)
    assert result.dl_ild_percent == expected
    assert server.aborts == server.sequence_ids[:1]


def test_what_is_refused_is_not_sent_again(server, chest, score):
    server.fault = lambda i, r: [say("REFUSED: window has NaN")]

    with pytest.raises(RefusedError, match="NaN"):
        score(server.url, chest)

    assert len(server.sequence_ids) == 1


def other_weights(server):
    raw = json.loads(server.parameters["contract"])
    raw["model"]["weights_sha256"] = "ab" * 32
    return {**server.parameters, "contract": json.dumps(raw)}


def test_a_contract_that_changes_between_scans_is_asked_for_anew(server, chest, score):
    first = server.contract.model.weights_sha256

    def change(stage, done, whole):
        if (stage, done) == ("read", 0):
            server.parameters = other_weights(server)

    def keep(stage, done, whole):
        pass

    # The second scan changes the server before it is read, when its first contract is known: both
    # that scan's contract and its score are the new server's.
    results = score(server.url, (chest, keep), (chest, change), (chest, keep))

    digests = [result.model.weights_digest for result in results]
    assert digests == [f"sha256:{first}", "sha256:" + "ab" * 32, "sha256:" + "ab" * 32]


def test_a_contract_that_changes_during_a_scan_never_mixes(server, chest, expected, score):
    def change(stage, done, whole):
        if stage == "inference" and done == 4:
            server.parameters = other_weights(server)

    (result,) = score(server.url, (chest, change))

    assert result.dl_ild_percent == expected
    assert result.model.weights_digest == "sha256:" + "ab" * 32
    assert len(set(server.sequence_ids)) == 2


def test_a_contract_that_keeps_changing_is_no_score(server, chest, score):
    first, second = server.parameters, other_weights(server)

    def change(stage, done, whole):
        if stage == "inference" and done == 4:
            server.parameters = second if server.parameters is first else first

    with pytest.raises(ScanLostError, match="changed its model"):
        score(server.url, (chest, change), retries=replace(SOON, attempts=2))


def test_a_model_that_is_not_ready_after_a_restart_is_waited_for(server, chest, expected, score):
    def lose(i, r):
        server.fault = None
        server.ready = False
        threading.Timer(0.2, lambda: setattr(server, "ready", True)).start()
        return [say("GONE: this scan was dropped")]

    server.fault = lose

    (result,) = score(server.url, chest)

    assert result.dl_ild_percent == expected


def test_a_model_that_never_was_ready_is_reported_at_once(server, chest, score):
    server.ready = False
    with pytest.raises(NotReadyError, match="not ready"):
        score(server.url, chest)


def test_a_model_that_is_not_found_any_more_is_waited_for_only_a_while(
    server, chest, score, monkeypatch
):
    monkeypatch.setattr("dlild_client.core.MODEL_NOT_FOUND_S", 0.5)
    server.fault = lambda i, r: [say("Request for unknown model: 'dlild' is not found")]

    start = time.monotonic()
    with pytest.raises(ModelNotFoundError, match="unknown model"):
        score(server.url, chest, retries=replace(SOON, attempts=500))

    assert 0.5 < time.monotonic() - start < 15
    assert 1 < len(server.sequence_ids) < 100


def test_a_model_without_available_versions_is_waited_for(server, chest, expected, score):
    def starting(i, r):
        server.fault = None
        return [say("Request for unknown model: 'dlild' has no available versions")]

    server.fault = starting

    (result,) = score(server.url, chest)

    assert result.dl_ild_percent == expected


@pytest.mark.parametrize("key", [None, "wrong-key"])
def test_a_missing_or_wrong_key_is_reported_at_once_and_never_shown(server, chest, score, key):
    server.key = "right-key"

    with pytest.raises(KeyRefusedError, match="API key") as refusal:
        score(server.url, chest, api_key=key)

    assert "wrong-key" not in str(refusal.value)
    assert "right-key" not in str(refusal.value)
    assert server.sequence_ids == []


def test_the_right_key_is_taken(server, chest, expected, score):
    server.key = "right-key"

    (result,) = score(server.url, chest, api_key="right-key")

    assert result.dl_ild_percent == expected


def test_a_key_that_is_changed_in_mid_scan_is_not_retried(server, chest, score):
    server.key = "old-key"

    def rotate(stage, done, whole):
        if stage == "inference" and done == 2:
            server.key = "new-key"
            server.fault = lambda i, r: [say("GONE: dropped")]

    with pytest.raises(KeyRefusedError):
        score(server.url, (chest, rotate), api_key="old-key")


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("stranger"), "Stranger")


@pytest.fixture
def tls_server(contract_text, request, authority):
    fake = FakeServer(cubes_only(contract_text))
    days = getattr(request, "param", 7)
    pair = authority.issue("server", days=days)
    fake.use_tls(pair.cert, pair.key, authority.ca)
    fake.start()
    yield fake
    fake.stop()


@pytest.fixture(scope="module")
def client_pair(authority):
    return authority.issue("client")


def test_mutual_tls_and_a_key_together(tls_server, authority, client_pair, chest, score):
    tls_server.key = "right-key"
    tls = TLS(authority.ca, client_pair.cert, client_pair.key)

    (result,) = score(tls_server.url, chest, tls=tls, api_key="right-key")

    assert result.windows > 1


@pytest.mark.parametrize("tls_server", [-1], indirect=True)
def test_an_expired_certificate_of_the_server(tls_server, authority, client_pair, chest, score):
    tls = TLS(authority.ca, client_pair.cert, client_pair.key)
    with pytest.raises(TLSFailedError, match="server's certificate has expired"):
        score(tls_server.url, chest, tls=tls)


def test_a_certificate_of_an_unknown_authority(tls_server, stranger, client_pair, chest, score):
    for ca in (stranger.ca, None):
        tls = TLS(ca, client_pair.cert, client_pair.key)
        with pytest.raises(TLSFailedError, match="authority that this client does not know"):
            score(tls_server.url, chest, tls=tls)


def test_a_certificate_for_another_name(tls_server, authority, client_pair, chest, score):
    tls = TLS(authority.ca, client_pair.cert, client_pair.key, server_name="other.example")
    with pytest.raises(TLSFailedError, match=r"not for other\.example"):
        score(tls_server.url, chest, tls=tls)
    (result,) = score(tls_server.url, chest, tls=replace(tls, server_name="localhost"))
    assert result.windows > 1


def test_no_certificate_of_the_client(tls_server, authority, chest, score):
    with pytest.raises(TLSFailedError, match="wants a certificate of this client"):
        score(tls_server.url, chest, tls=TLS(authority.ca))


@pytest.mark.parametrize("whose", ["expired", "strange"])
def test_a_bad_certificate_of_the_client(tls_server, authority, stranger, chest, score, whose):
    pair = authority.issue("expired", days=-1) if whose == "expired" else stranger.issue("strange")
    with pytest.raises(TLSFailedError, match=r"refuses the certificate of this client|has expired"):
        score(tls_server.url, chest, tls=TLS(authority.ca, pair.cert, pair.key))


def test_tls_and_no_tls_do_not_meet(server, tls_server, authority, chest, score):
    with pytest.raises(TLSFailedError, match="speaks TLS; use grpcs"):
        score(tls_server.url.replace("grpcs:", "grpc:"), chest)
    with pytest.raises(TLSFailedError, match=r"speaks no TLS|hangs up"):
        score(server.url.replace("grpc:", "grpcs:"), chest, tls=TLS(authority.ca))


def test_a_stream_that_the_server_aborts_is_sent_again(server, chest, expected, score):
    def fault(i, r):
        if i == 2:
            server.fault = None
            server.context.abort(grpc.StatusCode.UNAVAILABLE, "Socket closed")
        return [r]

    server.fault = fault

    (result,) = score(server.url, chest)

    assert result.dl_ild_percent == expected
