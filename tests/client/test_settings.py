from __future__ import annotations

import re

import pytest

from dlild_client import AsyncClient, Client, Limits, Retries, Timeout, settings
from dlild_client.address import parse_url
from dlild_client.errors import BadAddressError, BadSettingsError
from dlild_client.settings import VARIABLES, find_settings, read_key
from dlild_client.tls import TLS

SECRET = "k3y-that-nobody-may-see"


def test_without_anything_said_there_are_defaults():
    found = find_settings(variables={})
    assert found.address.url == "grpc://127.0.0.1:8001"
    assert found.timeout == Timeout()
    assert found.limits == Limits()
    assert found.retries == Retries()
    assert found.tls == TLS()
    assert found.api_key is None


def test_variables_come_before_defaults(tmp_path):
    (tmp_path / "key").write_text(f"  {SECRET}\n")
    told = {
        "DLILD_URL": "grpcs://host",
        "DLILD_API_KEY_FILE": str(tmp_path / "key"),
        "DLILD_TLS_CA": "ca.pem",
        "DLILD_TLS_CERT": "c.pem",
        "DLILD_TLS_KEY": "k.pem",
        "DLILD_TLS_SERVER_NAME": "inner",
        "DLILD_CONNECT_S": "1.5",
        "DLILD_ANSWER_S": "2",
        "DLILD_SCAN_S": "3",
        "DLILD_SCANS": "7",
        "DLILD_IN_FLIGHT": "2",
        "DLILD_MESSAGE_BYTES": "1000",
        "DLILD_ATTEMPTS": "4",
        "DLILD_FIRST_WAIT_S": "0.25",
        "DLILD_LONGEST_WAIT_S": "9",
    }
    found = find_settings(variables=told)
    assert found.address.target == "host:8001"
    assert found.address.secure
    assert found.api_key == SECRET
    assert found.tls == TLS("ca.pem", "c.pem", "k.pem", "inner")
    assert found.timeout == Timeout(1.5, 2, 3)
    assert found.limits == Limits(7, 2, 1000)
    assert found.retries == Retries(4, 0.25, 9)
    # The key itself comes before the file with it.
    assert find_settings(variables={**told, "DLILD_API_KEY": "other"}).api_key == "other"
    assert set(told) | {"DLILD_API_KEY"} == set(VARIABLES)


def test_arguments_come_before_variables():
    told = {"DLILD_URL": "grpc://a", "DLILD_API_KEY": "x", "DLILD_SCAN_S": "1", "DLILD_SCANS": "9"}
    found = find_settings(
        "grpcs://b:9", api_key="y", timeout=Timeout(), limits=Limits(2), variables=told
    )
    assert (found.address.target, found.api_key) == ("b:9", "y")
    assert (found.timeout.scan_s, found.limits.scans) == (900, 2)


def test_an_empty_variable_counts_as_unset():
    assert find_settings(variables=dict.fromkeys(VARIABLES, "")) == find_settings(variables={})


def test_clients_take_the_variables(monkeypatch):
    monkeypatch.setenv("DLILD_URL", "grpc://there:9")
    assert "grpc://there:9" in repr(Client())
    assert "grpc://there:9" in repr(AsyncClient())
    monkeypatch.setenv("DLILD_SCAN_S", "soon")
    for kind in (Client, AsyncClient):
        with pytest.raises(BadSettingsError, match="DLILD_SCAN_S is 'soon', not a number"):
            kind()
    monkeypatch.setenv("DLILD_SCAN_S", "-1")
    for kind in (Client, AsyncClient):
        with pytest.raises(BadSettingsError, match="DLILD_SCAN_S must be positive, not -1"):
            kind()


def test_the_table_names_every_variable_with_its_default():
    rows = dict(
        re.findall(r"^``(DLILD_\w+)``\s+\S.*?\s{2,}(\S.*)$", settings.__doc__, re.MULTILINE)
    )
    assert set(rows) == set(VARIABLES)
    found = find_settings(variables={})
    for name, group in (("CONNECT_S", "timeout"), ("ANSWER_S", "timeout"), ("SCAN_S", "timeout"),
                        ("SCANS", "limits"), ("MESSAGE_BYTES", "limits"),
                        ("ATTEMPTS", "retries"), ("FIRST_WAIT_S", "retries"),
                        ("LONGEST_WAIT_S", "retries")):  # fmt: skip
        default = getattr(getattr(found, group), name.lower())
        assert float(rows[f"DLILD_{name}"].split()[0]) == default


@pytest.mark.parametrize("kind", [Timeout, Limits, Retries])
def test_numbers_must_be_positive(kind):
    for name in kind.__dataclass_fields__:
        for value in (0, -1, float("nan")):
            with pytest.raises(BadSettingsError, match=f"{name} must be positive"):
                kind(**{name: value})


def test_messages_are_no_longer_than_grpc_carries():
    with pytest.raises(BadSettingsError, match="2147483647"):
        Limits(message_bytes=2**31)


@pytest.mark.parametrize("key", ["", "with space", "line\nbreak", "größe"])
def test_a_key_that_cannot_travel_is_refused_without_showing_it(key):
    with pytest.raises(BadSettingsError, match="API key") as refusal:
        find_settings(api_key=key, variables={})
    assert not key or key not in str(refusal.value)


def test_a_key_never_travels_in_the_open():
    with pytest.raises(BadSettingsError, match="without encryption") as refusal:
        find_settings("grpc://far.example:8001", api_key=SECRET, variables={})
    assert SECRET not in str(refusal.value)
    for near in ("grpc://127.0.0.1", "grpc://localhost:1", "grpc://[::1]:2", "grpcs://far"):
        assert find_settings(near, api_key=SECRET, variables={}).api_key == SECRET


def test_a_key_shows_nowhere():
    found = find_settings(api_key=SECRET, variables={})
    client = Client(api_key=SECRET)
    assert SECRET not in repr(found) + str(found) + repr(client) + str(client)
    assert SECRET not in repr(AsyncClient(api_key=SECRET))


def test_the_file_of_a_key_must_hold_one(tmp_path):
    (tmp_path / "empty").write_text(" \n")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    for name, words in (("absent", "No such file"), ("empty", "is empty"), ("binary", "not text")):
        with pytest.raises(BadSettingsError, match=words) as refusal:
            read_key(tmp_path / name)
        assert str(tmp_path) not in str(refusal.value)


def test_tls_without_grpcs_is_a_mistake():
    with pytest.raises(BadSettingsError, match="use grpcs://"):
        find_settings("grpc://host", tls=TLS(ca="ca.pem"), variables={})


def test_addresses():
    assert parse_url("grpcs://[::1]:9").target == "[::1]:9"
    assert parse_url("grpcs://[::1]:9").host == "::1"
    assert parse_url("grpc://host").port == 8001
    with pytest.raises(BadAddressError) as refusal:
        parse_url("grpc://user:pass@host")
    assert "pass" not in str(refusal.value)
