"""Ctrl-C ends every command with exit code 130 and without a traceback."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

BIN = Path(sys.prefix) / "bin"
PATIENCE_S = 300

# Commands that read a file before they do anything else; where it is a pipe they wait for it.
COMMANDS = {
    "dlild": ("info", "--url", "grpcs://127.0.0.1:9", "--api-key-file", "PIPE"),
    "dlild-export": ("serve", "FOLDER", "1"),
    "dlild-analysis": ("audit", "PIPE"),
    "dlild-deploy": ("load", "table", "PIPE"),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_an_interrupted_command_ends_with_130(name: str, tmp_path: Path) -> None:
    pipe = tmp_path / "contract.json"
    os.mkfifo(pipe)
    words = {"PIPE": str(pipe), "FOLDER": str(tmp_path)}
    # A shell ignores Ctrl-C in what it runs in the background, and so would the command.
    inherited = signal.signal(signal.SIGINT, signal.default_int_handler)
    running = subprocess.Popen(
        [BIN / name, *(words.get(word, word) for word in COMMANDS[name])],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    signal.signal(signal.SIGINT, inherited)
    writing = open_when_it_is_read(pipe, running)
    try:
        running.send_signal(signal.SIGINT)
        out, err = running.communicate(timeout=PATIENCE_S)
    finally:
        os.close(writing)
        running.kill()
    assert running.returncode == 130, err
    assert out == ""
    assert "Traceback" not in err


def open_when_it_is_read(pipe: Path, running: subprocess.Popen[str]) -> int:
    """Wait until the command has opened the pipe, and return our end of it."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        try:
            return os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
        except OSError:
            assert running.poll() is None, running.communicate()
            time.sleep(0.05)
    running.kill()
    raise AssertionError(running.communicate())
