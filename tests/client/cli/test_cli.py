from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
from certificates import Authority
from client.commands import ROOT, assert_one_line, dlild, typed_dlild
from client.disks import files_of_at_most

from dlild_client.results.files import TRIAL_BYTES, write_nifti

# Even root may not read everything then.
UNPRIVILEGED = ("setpriv", "--bounding-set=-dac_override,-dac_read_search")


def start(*arguments):
    return subprocess.Popen(
        [sys.executable, "-m", "dlild_client.cli", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT / "client" / "src")},
    )


@pytest.fixture
def scan_file(tmp_path, small) -> Path:
    write_nifti(small, tmp_path / "scan.nii.gz")
    return tmp_path / "scan.nii.gz"


def test_a_scan_is_scored_into_a_folder_and_a_table(server, scan_file, tmp_path):
    done = typed_dlild("score", scan_file, "--url", server.url, "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    assert f"{result['dl_ild_percent']:.2f} %" in done.stdout
    model = result["model"]
    assert f"by {model['engine']} in {model['precision']}" in done.stdout
    assert "research use only" in done.stdout
    assert len(list((tmp_path / "out").iterdir())) == 3


def test_a_folder_that_takes_no_result_is_reported_before_the_scan_is_sent(server, scan_file):
    done = dlild("score", scan_file, "--url", server.url, "--out", scan_file)
    assert_one_line(done, 1, "scan.nii.gz: cannot be written: File exists")
    done = dlild("batch", scan_file.parent, "--url", server.url, "--out", scan_file)
    assert_one_line(done, 1, "scan.nii.gz: cannot be written: File exists")
    (scan_file.parent / "labels.nii.gz").mkdir()
    done = dlild("score", scan_file, "--url", server.url, "--out", scan_file.parent)
    assert_one_line(done, 1, "cannot be written: labels.nii.gz is a folder there")
    assert server.sequence_ids == []


@pytest.mark.parametrize("command", ["score", "batch", "compare", "report"])
def test_an_empty_path_for_outputs_is_not_this_folder(scan_file, command):
    done = dlild(command, scan_file, "--out", "")
    assert done.returncode == 2
    assert "the path is empty" in done.stderr


def test_a_score_is_reported_even_where_it_cannot_be_kept(server, scan_file, tmp_path):
    with files_of_at_most(TRIAL_BYTES + 100):
        told = typed_dlild(
            "score", scan_file, "--url", server.url, "--out", tmp_path / "out", "--json"
        )
    assert told.returncode == 1
    assert json.loads(told.stdout)["windows"] > 0
    assert told.stderr == "error: out: cannot be written: File too large; choose another folder\n"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "command", [["info", "--json"], ["info"], ["--help"], ["score", "--json"], ["batch"]]
)
def test_an_output_that_takes_nothing_is_one_line(server, scan_file, tmp_path, command):
    more = {"score": [scan_file], "batch": [scan_file.parent, "--out", tmp_path / "out"]}
    with Path("/dev/full").open("w") as full:
        done = typed_dlild(*command, *more.get(command[0], []), DLILD_URL=server.url, stdout=full)
    assert done.returncode == 1
    assert done.stderr == (
        "error: standard output cannot be written: No space left on device; send it elsewhere\n"
    )


def test_json_for_machines_is_nothing_but_json(server, scan_file):
    done = dlild("score", scan_file, "--url", server.url, "--json")
    assert done.stderr == ""
    assert json.loads(done.stdout)["windows"] > 0
    info = json.loads(dlild("info", "--url", server.url, "--json").stdout)
    assert info["profile"] == "embedded"
    # What the server computes in, not what the contract says of every server of the profile.
    assert (info["engine"], info["precision"]) == ("openvino", "bf16")


def test_info_of_a_busy_server_says_what_its_profile_can(server):
    server.busy = 1
    info = json.loads(dlild("info", "--url", server.url, "--json").stdout)
    assert info["precision"] == server.contract.profiles["embedded"].precision


def test_a_bad_input_is_one_line_and_exit_3(server, tmp_path, series_writer, chest):
    (tmp_path / "empty").mkdir()
    (tmp_path / "letter.txt").write_text("Dear all")

    def mr(ds, i):
        ds.Modality = "MR"

    def broken(ds, i):
        ds.PixelData = ds.PixelData[:50]

    cases = {
        tmp_path / "absent": "no such file",
        tmp_path / "empty": "no DICOM image",
        tmp_path / "letter.txt": "neither DICOM",
        series_writer.write(chest, "mr", mr): "MR, not CT",
        next(series_writer.write(chest, "ct").iterdir()): "one CT slice",
        series_writer.write(chest, "broken", broken): "50 bytes where 90 x 120 need",
    }
    for path, words in cases.items():
        done = dlild("score", path, "--url", server.url, "--json")
        assert_one_line(done, 3, words)
        assert "SECRET" not in done.stderr
        assert str(tmp_path) not in done.stderr


def test_a_server_that_is_not_there_is_one_line_and_exit_1(server, scan_file):
    server.stop()
    assert_one_line(dlild("score", scan_file, "--url", server.url), 1, "no server answers")
    assert_one_line(dlild("info", "--url", server.url), 1, "no server answers")


@pytest.mark.parametrize("command", [["score"], ["batch", "--out", "out"], ["series"]])
def test_a_path_that_cannot_be_read_is_reported_before_an_absent_server(server, tmp_path, command):
    server.stop()
    locked = tmp_path / "locked"
    locked.mkdir(mode=0)
    before = UNPRIVILEGED if os.geteuid() == 0 else ()

    absent = dlild(*command, tmp_path / "absent", DLILD_URL=server.url)
    unreadable = typed_dlild(*command, locked, before=before, DLILD_URL=server.url)

    locked.chmod(0o700)
    assert_one_line(absent, 3, "absent: no such file or folder")
    assert_one_line(unreadable, 3, "locked: no permission to read it")


def test_wrong_usage_is_exit_2(scan_file):
    assert dlild("score").returncode == 2
    assert dlild("nonsense").returncode == 2
    assert_one_line(dlild("score", scan_file, "--url", "http://x"), 2, "not an address")


def test_the_version_is_reported():
    from dlild_client import __version__  # noqa: PLC0415

    assert dlild("--version").stdout == f"dlild {__version__}\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_is_one_line_and_the_server_is_notified(server, scan_file, number):
    server.fault = lambda i, r: [r] if i < 2 else None
    running = start("score", scan_file, "--url", server.url)
    deadline = time.monotonic() + 30
    while not server.sequence_ids and time.monotonic() < deadline:
        time.sleep(0.05)
    running.send_signal(number)
    out, err = running.communicate(timeout=30)
    assert (running.returncode, out, err) == (130, "", "error: interrupted\n")
    assert server.aborts == server.sequence_ids


@pytest.fixture
def guarded(server, tmp_path):
    """A server with mutual TLS and a key, and the options that open it."""
    authority = Authority(tmp_path / "ca")
    theirs, mine = authority.issue("server"), authority.issue("client")
    server.stop()
    server.use_tls(theirs.cert, theirs.key, authority.ca)
    server.key = "right-key"
    server.start()
    (tmp_path / "key").write_text("right-key\n")
    return {
        "--url": server.url,
        "--tls-ca": authority.ca,
        "--tls-cert": mine.cert,
        "--tls-key": mine.key,
        "--api-key-file": tmp_path / "key",
    }


def flat(options):
    return [part for pair in options.items() for part in pair]


def as_variables(options):
    return {f"DLILD_{k.strip('-').replace('-', '_').upper()}": str(v) for k, v in options.items()}


def test_options_and_variables_open_a_guarded_server(guarded):
    assert dlild("info", *flat(guarded)).returncode == 0
    variables = as_variables(guarded)
    assert dlild("info", **variables).returncode == 0
    # An option stands in for its own variable; the others hold.
    wrong = {**variables, "DLILD_API_KEY": "wrong-key"}
    assert dlild("info", "--api-key-file", guarded["--api-key-file"], **wrong).returncode == 0
    assert_one_line(dlild("info", **wrong), 1, "API key")
    assert "wrong-key" not in dlild("info", **wrong).stderr


def test_wrong_settings_are_one_line_and_exit_2(guarded, tmp_path):
    absent = {**guarded, "--tls-ca": tmp_path / "absent.pem"}
    assert_one_line(dlild("info", *flat(absent)), 2, "absent.pem: cannot be read")
    half = {k: v for k, v in guarded.items() if k != "--tls-key"}
    assert_one_line(dlild("info", *flat(half)), 2, "both cert and key")
    assert_one_line(dlild("info", DLILD_SCAN_S="soon"), 2, "DLILD_SCAN_S")


def test_doctor_finds_all_well(guarded):
    done = dlild("doctor", *flat(guarded), "--json")
    assert done.returncode == 0, done.stderr
    findings = {f["check"]: f for f in json.loads(done.stdout)}
    assert list(findings) == [
        "address", "port", "TLS", "key", "readiness", "contract", "profile", "round trip",
        "throughput",
    ]  # fmt: skip
    assert "bad" not in {f["verdict"] for f in findings.values()}
    assert findings["key"]["finding"] == "the server takes it"
    assert "6 days left" in findings["TLS"]["finding"]
    assert findings["TLS"]["remedy"] == "renew the server's certificate soon"
    assert "windows/s" in findings["throughput"]["finding"]


def test_doctor_names_what_is_wrong_and_its_remedy(guarded, server, tmp_path):
    stranger = Authority(tmp_path / "stranger")
    (tmp_path / "wrong").write_text("wrong-key")
    cases = {
        "TLS": {**guarded, "--tls-ca": stranger.ca},
        "key": {**guarded, "--api-key-file": tmp_path / "wrong"},
        "address": {**guarded, "--url": "grpcs://no.such.host.invalid:8001"},
    }
    for check, options in cases.items():
        done = dlild("doctor", *flat(options))
        assert done.returncode == 1
        assert f"x {check}" in done.stdout
        assert "->" in done.stdout
        assert "cannot be checked: see" in done.stdout
        assert "wrong-key" not in done.stdout + done.stderr
    server.ready = False
    assert "x readiness" in dlild("doctor", *flat(guarded)).stdout
    server.stop()
    assert "x port" in dlild("doctor", *flat(guarded)).stdout


def test_series_lists_what_is_there_and_why(series_writer, chest):
    def scout(ds, i):
        ds.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
        ds.SeriesNumber = 1
        return i < 2

    series_writer.write(chest, "ct")
    series_writer.write(chest, "scout", scout)
    told = dlild("series", series_writer.folder, "--json")
    assert told.returncode == 0, told.stderr
    listed = json.loads(told.stdout)["series"]
    assert [s["verdict"] for s in listed] == ["chosen", "aside"]
    assert "localizer" in listed[1]["reason"]
    table = dlild("series", series_writer.folder)
    assert "chosen" in table.stdout
    assert "SECRET" not in table.stdout + told.stdout
    asked = dlild("series", series_writer.folder, "--series", listed[1]["uid"])
    assert asked.returncode == 3
    assert "localizer" in asked.stderr


def test_a_series_can_be_asked_for(server, series_writer, chest):
    series_writer.write(chest, "a", lambda ds, i: setattr(ds, "SeriesNumber", 7))
    series_writer.write(chest, "b", lambda ds, i: setattr(ds, "SeriesNumber", 8))
    scored = dlild("score", series_writer.folder, "--series", "8", "--url", server.url, "--json")
    assert scored.returncode == 0, scored.stderr
    none = dlild("score", series_writer.folder, "--series", "9", "--url", server.url)
    assert_one_line(none, 3, "none of 2 series")


def test_batch_reports_its_summary(server, scan_file, tmp_path):
    (scan_file.parent / "broken.nii.gz").write_bytes(b"nothing")
    out = tmp_path / "out"
    done = dlild("batch", scan_file.parent, "--out", out, "--url", server.url)
    assert done.returncode == 3, done.stderr
    assert done.stderr == ""
    assert "Rejected" in done.stdout
    assert (out / "results.csv").read_text().count("\n") == 3
    again = dlild("batch", scan_file.parent, "--out", out, "--url", server.url, "--json")
    assert again.returncode == 0
    assert json.loads(again.stdout)["done_before"] == 2


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_can_complete_the_command(shell):
    done = dlild("--show-completion", shell, _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1")
    assert done.returncode == 0, done.stderr
    assert "_COMPLETE" in done.stdout


def test_progress_is_for_terminals_only(server, scan_file):
    import pty  # noqa: PLC0415

    near, far = pty.openpty()
    shown = b""
    with subprocess.Popen(
        [sys.executable, "-m", "dlild_client.cli", "score", str(scan_file), "--url", server.url],
        stdout=subprocess.PIPE,
        stderr=far,
        env={**os.environ, "PYTHONPATH": str(ROOT / "client" / "src"), "TERM": "xterm"},
    ) as running:
        os.close(far)
        # Read as it comes: a terminal that nobody reads is full after some seconds of progress.
        with open(near, "rb", buffering=0) as terminal, suppress(OSError):  # noqa: PTH123
            while chunk := terminal.read(4096):
                shown += chunk
        assert running.stdout is not None
        told = running.stdout.read()
    assert running.returncode == 0
    assert b"inference" in shown
    assert b"DL-ILD" in told
