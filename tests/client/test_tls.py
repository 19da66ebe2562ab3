from __future__ import annotations

import ssl
from datetime import UTC, datetime

import pytest
from certificates import Authority
from fake_server import FakeServer

from dlild_client import Client
from dlild_client.address import parse_url
from dlild_client.errors import BadSettingsError
from dlild_client.tls import TLS, explain, shake_hands, speaks_tls


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def served(authority, contract_text):
    fake = FakeServer(contract_text)
    pair = authority.issue("server", days=12.5)
    fake.use_tls(pair.cert, pair.key)
    fake.start()
    yield parse_url(fake.url)
    fake.stop()


def test_a_handshake_reports_the_certificate(served, authority):
    hands = shake_hands(served, TLS(authority.ca), 5)
    assert hands.version == "TLSv1.3"
    assert hands.names == ("localhost", "127.0.0.1")
    assert hands.issuer == "Test authority"
    assert hands.days_left == 12
    assert hands.expires > datetime.now(UTC)


def test_a_failed_handshake_is_explained(served, authority):
    tls = TLS(authority.ca, server_name="other")
    with pytest.raises(ssl.SSLError) as failure:
        shake_hands(served, tls, 5)
    finding, remedy = explain(failure.value, served, tls)
    assert finding == "the server's certificate is not for other"
    assert "--tls-server-name" in remedy


def test_tls_is_seen_from_without(served, server):
    assert speaks_tls(served, 5)
    assert not speaks_tls(parse_url(server.url), 5)


def test_certificate_and_key_come_together():
    for half in ({"cert": "a"}, {"key": "a"}):
        with pytest.raises(BadSettingsError, match="both cert and key"):
            TLS(**half)


def test_files_that_cannot_be_used_are_named_before_anything_is_sent(authority, tmp_path):
    (tmp_path / "letter").write_text("Dear all")
    mine, other = authority.issue("mine"), authority.issue("other")
    letter, absent = tmp_path / "letter", tmp_path / "absent"
    cases = {
        "absent: cannot be read": [TLS(absent), TLS(None, absent, mine.key)],
        "letter: no certificate in it": [TLS(letter), TLS(None, letter, mine.key)],
        "letter: no private key in it": [TLS(None, mine.cert, letter)],
        "other.key: it does not belong": [TLS(None, mine.cert, other.key)],
    }
    for words, settings in cases.items():
        for tls in settings:
            with pytest.raises(BadSettingsError, match=words) as refusal:
                Client("grpcs://127.0.0.1:1", tls=tls)
            assert str(tmp_path) not in str(refusal.value)
            assert refusal.value.exit_code == 2
