"""`dlild listen` and `dlild queue` as commands; the server that scores is a fake."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from orthanc import free_port, storescu
from typer.testing import CliRunner

from dlild_client.archive.queue import Queue, digest_of
from dlild_client.cli.app import app
from dlild_client.errors import BadSettingsError

ROOT = Path(__file__).parents[3]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT / "client" / "src")}


def dlild(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "dlild_client.cli", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env=ENVIRONMENT,
        timeout=120,
    )


def wait_for(log: Path, words: str, within_s: float = 90) -> str:
    deadline = time.monotonic() + within_s
    while words not in (text := log.read_text()):
        assert time.monotonic() < deadline, text[-3000:]
        time.sleep(0.1)
    return text


def test_a_study_that_is_sent_comes_back_as_seg_in_the_same_study(
    orthanc, post, server, series_writer, chest, tmp_path
):
    folder, study = series_writer.write(chest), series_writer.study
    post(orthanc, folder)
    port, log = free_port(), tmp_path / "node.log"
    with log.open("w") as stream:
        node = subprocess.Popen(
            [
                sys.executable, "-m", "dlild_client.cli", "listen", "--aet", "DLILD",
                "--port", str(port), "--peer", "SENDER", "--destination", orthanc.peer,
                "--spool", str(tmp_path / "spool"), "--quiet-s", "1", "--kinds", "seg",
                "--http-port", "-1", "--url", server.url, "--free-gib", "0.001",
            ],
            stderr=stream,
            env=ENVIRONMENT,
        )  # fmt: skip
    try:
        wait_for(log, '"started"')
        storescu(port, folder, title="DLILD")
        text = wait_for(log, '"sent"')
        assert '"failed"' not in text
        node.send_signal(signal.SIGTERM)
        assert node.wait(60) == 0
    finally:
        node.kill()
    assert study not in log.read_text()
    (found,) = [
        s for s in orthanc.get("studies?expand") if s["MainDicomTags"]["StudyInstanceUID"] == study
    ]
    modalities = [orthanc.get(f"series/{s}")["MainDicomTags"]["Modality"] for s in found["Series"]]
    assert sorted(modalities) == ["CT", "SEG"]
    listed = json.loads(dlild("queue", tmp_path / "spool", "--json").stdout)
    assert [(s["id"], s["state"], s["objects"]) for s in listed] == [(digest_of(study), "done", 60)]
    assert (
        json.loads(dlild("queue", tmp_path / "spool", "--json", "--find", study).stdout) == listed
    )


def test_what_is_wrong_with_the_settings_is_one_line(tmp_path):
    peer, to = ("--peer", "CT1"), ("--destination", "PACS@127.0.0.1:104")
    (tmp_path / "file").write_text("")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        busy = ("--port", taken.getsockname()[1])
        for arguments, words in (
            (to, "give --peer"),
            ((*peer, "--destination", "PACS"), "not a destination"),
            (("--peer", "A" * 17, *to), "no AE title"),
            ((*peer, *to, "--kinds", "seg,picture"), "no object 'picture'"),
            ((*peer, *to, "--listen-cert", "x.pem"), "--listen-cert and --listen-key"),
            ((*peer, *to, "--spool", tmp_path / "file"), "cannot be used as spool folder"),
            ((*peer, *to, "--quiet-s", "0"), "--quiet-s must be positive and finite, not 0"),
            ((*peer, *to, "--quiet-s", "-1"), "--quiet-s must be positive and finite, not -1"),
            ((*peer, *to, "--quiet-s", "nan"), "--quiet-s must be positive"),
            ((*peer, *to, "--keep-h", "nan"), "--keep-h must be 0 or more"),
            ((*peer, *to, "--keep-h", "-1"), "--keep-h must be 0 or more, and finite, not -1"),
            ((*peer, *to, "--keep-failed-h", "-0.5"), "--keep-failed-h must be 0 or more"),
            ((*peer, *to, "--give-up-h", "inf"), "--give-up-h must be positive and finite"),
            ((*peer, *to, "--drain-s", "-1"), "--drain-s must be 0 or more"),
            ((*peer, *to, "--free-gib", "-1"), "--free-gib must be 0 or more, and finite, not -1"),
            ((*peer, *to, "--object-gib", "0"), "--object-gib must be positive"),
            ((*peer, *to, "--spool-gib", "inf"), "--spool-gib must be a finite number"),
            ((*peer, *to, "--port", "99999"), "--port must be 0 to 65535, not 99999"),
            ((*peer, *to, "--http-port", "99999"), "--http-port must be 0 to 65535"),
            ((*peer, *to, "--http-port", "-2"), "--http-port must be 0 to 65535, not -2"),
            ((*peer, *to, "--host", "x..y"), "--host 'x..y' is no host"),
            (
                (*peer, *to, "--http-port", "0", "--http-host", "x..y"),
                "--http-host 'x..y' is no host",
            ),
            ((*peer, *to, *busy), "cannot listen there: Address already in use"),
        ):
            defaults = ("--aet", "DLILD", "--http-port", "-1", "--spool", tmp_path / "spool")
            done = CliRunner().invoke(app, ["listen", *map(str, (*defaults, *arguments))])
            assert isinstance(done.exception, BadSettingsError), (arguments, done.exception)
            assert words in str(done.exception)
    done = dlild("listen", "--aet", "DLILD", *to)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert done.stderr.startswith("error: whose objects are taken?")


def test_failed_studies_are_listed_and_tried_again(tmp_path):
    spool = tmp_path / "spool"
    spool.mkdir()
    queue = Queue(spool / "queue.sqlite3")
    queue.add("a" * 32, "1", 10)
    queue.fail("a" * 32, "NotChest", "no lungs; give a chest CT")
    assert "no lungs" in dlild("queue", spool).stdout
    assert dlild("queue", spool, "--retry", "all").stdout == "1 study is tried again\n"
    assert queue.get("a" * 32).state == "received"
    done = dlild("queue", tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "no spool folder" in done.stderr
