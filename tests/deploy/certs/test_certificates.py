"""`make certs`: what openssl and Python make of the certificates, and that none is lost."""

import shutil
import socket
import ssl
import stat
import subprocess
import threading
from datetime import datetime, timedelta

import pytest
from deploy.certificates import make_authority

from dlild_deploy import cli
from dlild_deploy.certificates import authority
from dlild_deploy.certificates.authority import Authority
from dlild_deploy.certificates.certificate_files import entries
from dlild_deploy.errors import CertificateError

NAMES = ["dlild.hospital.example", "10.1.2.3", "fd00::8"]


def run(*arguments):
    return cli.main(["certs", *(str(word) for word in arguments)])


def make(folder, *more):
    words = [word for name in NAMES for word in ("--name", name)]
    return run("make", folder, *words, "--client", "ward-3", *more)


@pytest.fixture
def folder(tmp_path):
    assert make(tmp_path / "certs") == 0
    return tmp_path / "certs"


def openssl(*arguments):
    command = ["openssl", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def age(folder, monkeypatch, days):
    """Make certificates that are so many days old: the clock is turned back meanwhile."""

    class Past(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.now(tz) - timedelta(days=days)

    monkeypatch.setattr(authority, "datetime", Past)
    code = make(folder, "--days", "10")
    monkeypatch.undo()
    assert code == 0


def test_openssl_verifies_what_was_made_for_its_purpose_alone(folder):
    for name, purpose, other in (
        ("tls", "sslserver", "sslclient"),
        ("client-ward-3", "sslclient", "sslserver"),
    ):
        words = ("verify", "-x509_strict", "-CAfile", folder / "ca.crt", "-purpose")
        good = openssl(*words, purpose, folder / f"{name}.crt")
        assert good.returncode == 0, good.stderr
        assert openssl(*words, other, folder / f"{name}.crt").returncode != 0


@pytest.mark.parametrize("name", [*NAMES, "localhost", "127.0.0.1"])
def test_the_server_is_known_by_every_name_and_address(folder, name):
    option = "-verify_ip" if name[0].isdigit() or ":" in name else "-verify_hostname"
    words = ("verify", "-CAfile", folder / "ca.crt")
    assert openssl(*words, option, name, folder / "tls.crt").returncode == 0
    assert openssl(*words, "-verify_hostname", "other.example", folder / "tls.crt").returncode != 0


def test_a_client_and_a_server_shake_hands_with_them(folder):
    """TLS 1.3 of the standard library, both sides asking for a certificate."""
    serving = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=folder / "ca.crt")
    serving.verify_mode = ssl.CERT_REQUIRED
    serving.load_cert_chain(folder / "tls.crt", folder / "tls.key")
    calling = ssl.create_default_context(cafile=folder / "ca.crt")
    calling.load_cert_chain(folder / "client-ward-3.crt", folder / "client-ward-3.key")
    near, far = socket.socketpair()
    got = []

    def serve():
        with serving.wrap_socket(far, server_side=True) as line:
            got.append(line.getpeercert())
            line.sendall(b"hello")

    thread = threading.Thread(target=serve)
    thread.start()
    with calling.wrap_socket(near, server_hostname="dlild.hospital.example") as line:
        assert line.recv(5) == b"hello"
    thread.join()
    assert got[0]["subject"] == ((("commonName", "ward-3"),),)


def test_private_keys_are_for_their_owner_alone(folder):
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.glob("*.key")}
    assert modes == {"ca.key": 0o600, "tls.key": 0o600, "client-ward-3.key": 0o600}


def test_a_second_run_overwrites_nothing_and_adds_what_is_new(folder, capsys):
    before = contents(folder)
    assert make(folder, "--client", "research") == 0
    after = contents(folder)
    assert {name: after[name] for name in before} == before
    assert set(after) - set(before) == {"client-research.crt", "client-research.key"}
    assert capsys.readouterr().out.count("kept") == 3


def test_another_name_for_the_server_is_not_passed_over(folder, capsys):
    before = contents(folder)
    assert run("make", folder, "--name", "new.hospital.example") == 1
    assert "not for new.hospital.example" in capsys.readouterr().err
    assert contents(folder) == before


def test_a_renewal_has_the_same_names_a_new_key_and_keeps_the_old_pair(folder):
    before = contents(folder)
    assert run("renew", folder, "tls", "client-ward-3") == 0
    after = contents(folder)
    for name in ("tls.crt", "tls.key", "client-ward-3.crt", "client-ward-3.key"):
        assert after[name] != before[name]
    kept = {path.read_bytes() for path in (folder / "old").iterdir()}
    assert kept == {before[name] for name in before if not name.startswith("ca.")}
    server = next(entry for entry in entries(folder) if entry.path.name == "tls.crt")
    assert set(NAMES) < set(server.names)
    words = ("verify", "-CAfile", folder / "ca.crt", "-purpose", "sslserver")
    assert openssl(*words, folder / "tls.crt").returncode == 0


def test_check_reports_days_and_fails_below_the_threshold(folder, capsys):
    assert run("check", folder) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines if "days" in line] == ["ok"] * 3
    assert run("check", folder, "--within", "400") == 1
    assert capsys.readouterr().out.count("SOON") == 2


def test_an_expired_certificate_is_seen_by_check_and_by_openssl_and_can_be_renewed(
    tmp_path, monkeypatch, capsys
):
    folder = tmp_path / "certs"
    age(folder, monkeypatch, days=40)
    assert run("check", folder, "--within", "0") == 1
    assert capsys.readouterr().out.count("ENDED") == 2
    words = ("verify", "-CAfile", folder / "ca.crt", folder / "tls.crt")
    assert "expired" in openssl(*words).stderr
    assert run("renew", folder, "tls") == 0
    assert openssl(*words).returncode == 0


def test_nothing_outlives_its_authority(tmp_path):
    Authority(tmp_path, days=5)
    assert Authority(tmp_path).issue_client("ward-3", 365).days_left <= 5


def test_an_authority_that_has_ended_signs_nothing(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "certs"
    age(folder, monkeypatch, days=3700)
    assert run("make", folder, "--client", "late") == 1
    assert "the authority has ended" in capsys.readouterr().err


def test_two_authorities_in_one_file_while_one_is_replaced(folder, tmp_path):
    """docs/security.md: both are trusted until every certificate is of the new one."""
    assert make(tmp_path / "next") == 0
    bundle = (folder / "ca.crt").read_bytes() + (tmp_path / "next/ca.crt").read_bytes()
    (folder / "ca.crt").write_bytes(bundle)
    for place in (folder, tmp_path / "next"):
        words = ("verify", "-CAfile", folder / "ca.crt", place / "tls.crt")
        assert openssl(*words).returncode == 0
    assert run("make", folder, "--client", "another") == 0


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("make", "--name", "two words"), "neither a host name nor an address"),
        (("make", "--name", "300.1.2.3"), "neither a host name nor an address"),
        (("make", "--client", "../../etc/x"), "no name for a client"),
        (("make", "--days", "0"), "has ended already"),
        (("check",), "has no certificates"),
        (("renew", "tls"), "is not there"),
    ],
)
def test_what_is_wrong_is_one_line(tmp_path, capsys, words, says):
    assert run(words[0], tmp_path / "certs", *words[1:]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert says in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("stem", ["ca", "client-nobody"])
def test_only_what_is_there_and_no_authority_is_renewed(folder, capsys, stem):
    assert run("renew", folder, stem) == 1
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("name", ["ca.key", "ca.crt"])
def test_half_of_an_authority_is_not_completed_with_another(folder, capsys, name):
    (folder / name).unlink()
    before = contents(folder)
    assert run("make", folder, "--client", "new") == 1
    assert f"{name} is missing" in capsys.readouterr().err
    assert contents(folder) == before


def test_files_of_somebody_else_are_reported_by_name(folder, tmp_path, capsys):
    make_authority(tmp_path)
    shutil.copy(tmp_path / "ca.key", folder / "ca.key")
    assert run("make", folder, "--client", "new") == 1
    assert "do not belong together" in capsys.readouterr().err
    (folder / "tls.crt").write_text("nonsense")
    with pytest.raises(CertificateError, match=r"tls\.crt: no certificate"):
        entries(folder)
