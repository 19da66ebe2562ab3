"""What a server's words mean, and what is at an address where no gRPC server answers."""

from __future__ import annotations

import http.server
import socket
import threading
from dataclasses import dataclass

import grpc
import pytest

from dlild_client import Client, Retries
from dlild_client.address import parse_url
from dlild_client.errors import (
    BadAddressError,
    BusyError,
    ConnectionFailedError,
    KeyRefusedError,
    ModelNotFoundError,
    NotReadyError,
    RefusedError,
    ScanLostError,
    ServerError,
)
from dlild_client.settings import find_settings
from dlild_client.transport.connection import connect_error
from dlild_client.transport.failures import from_rpc_error, from_server_message

Code = grpc.StatusCode


@dataclass
class Failed:
    """An error of gRPC, with the code and words that a real server or proxy was seen to give."""

    status: Code
    words: str

    def code(self):
        return self.status

    def details(self):
        return self.words


STARTING = [
    # Triton 24.10 while it stops and starts, as read from one.
    (Code.NOT_FOUND, "Request for unknown model: 'dlild' has no available versions"),
    (Code.UNAVAILABLE, "Server exiting"),
    (Code.UNAVAILABLE, "Server not ready"),
    (Code.UNAVAILABLE, "Request for unknown model: 'dlild' version 4 is not at ready state"),
    (Code.UNAVAILABLE, "scheduler for model has stopped accepting new inference requests"),
    # Proxies with no server behind them.
    (Code.UNAVAILABLE, "Received http2 header with status: 503"),
    (Code.UNAVAILABLE, "Received http2 header with status: 502"),
    (Code.UNKNOWN, "Received http2 header with status: 500"),
]  # fmt: skip
BROKEN = [
    (Code.UNAVAILABLE, "Socket closed"),
    (Code.UNAVAILABLE, "GOAWAY received"),
    (Code.UNAVAILABLE, "Connection reset by peer"),
    (Code.UNKNOWN, "Stream removed"),
    (Code.INTERNAL, "Received RST_STREAM with error code 2"),
    (Code.CANCELLED, "CANCELLED"),
]


@pytest.mark.parametrize(("code", "words"), STARTING)
def test_a_server_that_starts_or_stops_is_not_ready(code, words):
    settings = find_settings("grpc://127.0.0.1:1", variables={})
    for error in (
        from_rpc_error(Failed(code, words)),
        connect_error(Failed(code, words), settings),
    ):
        assert type(error) is NotReadyError
        assert error.retryable


@pytest.mark.parametrize(("code", "words"), BROKEN)
def test_a_connection_that_ends_is_a_failed_connection(code, words):
    error = from_rpc_error(Failed(code, words))
    assert type(error) is ConnectionFailedError
    assert error.retryable


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ("Request for unknown model: 'dlild' has no available versions", NotReadyError),
        ("in ensemble 'dlild', Request for unknown model: 'm' has no available versions",
         NotReadyError),
        ("in ensemble 'dlild', Stub process 'dlild_0_0' is not healthy.",
         NotReadyError),
        ("Request for unknown model: 'dlild' is not found", ModelNotFoundError),
        ("Request for unknown model: 'dlild' version 9 is not found", ModelNotFoundError),
        ("in ensemble 'dlild', BUSY: 12 scans are open", BusyError),
        ("GONE: this scan was dropped", ScanLostError),
        ("REFUSED: window has NaN", RefusedError),
        ("expected 6 inputs but got 0 inputs for model 'dlild'", ServerError),
    ],
)  # fmt: skip
def test_messages_on_the_stream_are_distinguished(message, kind):
    assert type(from_server_message(message)) is kind


def test_what_will_not_pass_is_not_waited_for():
    for code, words, kind in (
        (Code.UNAVAILABLE, "This protocol is restricted, expecting header 'x'", KeyRefusedError),
        (Code.PERMISSION_DENIED, "Received http2 header with status: 403", KeyRefusedError),
        (Code.INTERNAL, "failed to parse the request", ServerError),
        (Code.UNKNOWN, "division by zero", ServerError),
    ):
        error = from_rpc_error(Failed(code, words))
        assert type(error) is kind
        assert not error.retryable


def test_an_unknown_model_is_reported_at_once_by_a_server_that_was_never_met(server):
    server.ready = False
    server.parameters = {}
    settings = find_settings(server.url, variables={})
    words = "Request for unknown model: 'dlild' is not found"
    error = connect_error(Failed(Code.NOT_FOUND, words), settings)
    assert type(error) is ModelNotFoundError
    assert "has no model dlild; is it a DL-ILD server" in str(error)


@pytest.fixture
def http_port():
    class Quiet(http.server.BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

    web = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet)
    threading.Thread(target=web.serve_forever, daemon=True).start()
    yield web.server_port
    web.shutdown()
    web.server_close()


def test_the_port_of_http_is_distinguished_from_that_of_grpc(http_port):
    with (
        Client(f"grpc://127.0.0.1:{http_port}", retries=Retries(attempts=1)) as client,
        pytest.raises(ConnectionFailedError, match=r"speaks HTTP/1, not gRPC; give .* mostly 8001"),
    ):
        client.info()


def test_a_port_that_says_nothing_and_a_name_that_is_none_are_reported():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        threading.Thread(
            target=lambda: [silent.accept()[0].close() for _ in range(20)], daemon=True
        ).start()
        url = f"grpc://127.0.0.1:{silent.getsockname()[1]}"
        with Client(url) as client, pytest.raises(ConnectionFailedError, match="takes connections"):
            client.info()
        silent.close()
    with (
        Client("grpc://no.such.host.invalid") as client,
        pytest.raises(
            ConnectionFailedError, match=r"the name no\.such\.host\.invalid is not known"
        ),
    ):
        client.info()


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("grpc://host:0", "the port is no number from 1 to 65535"),
        ("grpc://host:99999", "the port is no number from 1 to 65535"),
        ("grpc://host:eight", "the port is no number from 1 to 65535"),
        ("grpc://host:-1", "the port is no number from 1 to 65535"),
        ("http://host:8000", "use grpc://host:8001"),
        ("host:8001", "use grpc://host:8001"),
        ("127.0.0.1:8001", "use grpc://host:8001"),
        ("", "use grpc://host:8001"),
        ("grpc://", "use grpc://host:8001"),
        ("grpc:///path", "use grpc://host:8001"),
        ("grpc://host:8001/v2", "use grpc://host:8001"),
        ("grpc://[::1", "use grpc://host:8001"),
        ("grpc://256.1.1.1:8001", "is no host"),
        ("grpc://10.0.0:8001", "is no host"),
        ("grpc://ho st:8001", "is no host"),
        ("grpc://a..b", "is no host"),
        ("grpc://::1:8001", "use grpc://host:8001"),
        ("grpc://me:secret@host", "an address with a user"),
    ],
)
def test_what_is_no_address_is_reported(url, words):
    with pytest.raises(BadAddressError) as told:
        parse_url(url)
    assert words in str(told.value)
    assert "secret" not in str(told.value)


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("grpc://host", "host:8001"),
        (" grpc://host:1\n", "host:1"),
        ("GRPC://Host_1.example.:65535/", "host_1.example.:65535"),
        ("grpcs://bücher.example:9", "bücher.example:9"),
        ("grpc://[fe80::1%eth0]:9", "[fe80::1%eth0]:9"),
        ("grpc://127.0.0.1:", "127.0.0.1:8001"),
    ],
)
def test_addresses_that_are_right_stay_so(url, target):
    assert parse_url(url).target == target


@pytest.mark.parametrize(
    ("words", "seconds"),
    [
        ("BUSY: 12 scans are open, the limit; send it again in 23 s", 23.0),
        ("in ensemble 'dlild', BUSY: full; send it again in 0.5 s", 0.5),
        ("BUSY: 12 scans are open, the limit; send it again later", None),
        ("Exceeds maximum queue size", None),
        ("in ensemble 'dlild', Request timeout expired", None),
    ],
)
def test_a_busy_server_says_when_it_takes_the_scan(words, seconds):
    error = from_server_message(words)
    assert type(error) is BusyError
    assert error.retryable
    assert error.retry_after_s == seconds
