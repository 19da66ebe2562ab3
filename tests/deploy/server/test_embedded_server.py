import inspect
import json
import platform
import signal
import subprocess
import sys
import tempfile
import time

import pytest
from deploy.checkers import ROOT
from processes import is_running

from dlild_deploy import cli
from dlild_deploy.server import EmbeddedServer, LauncherError, embedded_server
from dlild_deploy.server.preflight import Environment, default_server_python
from dlild_deploy.server.serve import serve


def fake_environment(folder, script):
    """An environment whose tritonserver is a shell script, with a library under a wheel's name."""
    server = folder / "tritonserver"
    server.write_text(f"#!/bin/sh\n{script}\n")
    server.chmod(0o755)
    backend = folder / "backend"
    backend.mkdir()
    (folder / "stub").touch()
    (folder / "libraries").mkdir()
    (folder / "libraries" / "libtritonserver-0a1b2c3d.so").touch()
    return Environment(
        python=folder / "python",
        tritonserver=server,
        stub=folder / "stub",
        backend=backend,
        libraries=(folder / "libraries",),
    )


@pytest.fixture
def start(machine, model_repository, tmp_path_factory):
    """Start a server whose program is a script; give back the server and what it raised."""

    def run(script, **options):
        folder = tmp_path_factory.mktemp("fake")
        environment = fake_environment(folder, script)
        machine.setattr(embedded_server, "find_environment", lambda _python: environment)
        machine.setattr(tempfile, "tempdir", str(folder))
        server = EmbeddedServer(
            model_repository, grpc_port=0, http_port=0, metrics_port=0, **options
        )
        with pytest.raises(LauncherError) as error:
            server.start()
        assert list(folder.glob("dlild-server-*")) == []
        assert server.pid is None
        return str(error.value)

    return run


def test_a_server_that_dies_shows_its_last_errors(start):
    message = start(
        "echo 'E1101 cuda: no device'; echo 'I1101 fine'; echo 'E1101 model: broken'; exit 4"
    )
    assert message == "the server ended with code 4\n  E1101 model: broken"


@pytest.mark.parametrize("given", [True, False])
def test_given_backends_find_the_servers_library_by_the_name_they_are_linked_with(
    start, tmp_path, monkeypatch, given
):
    monkeypatch.setenv("LD_LIBRARY_PATH", "/nowhere")
    monkeypatch.delenv("DLILD_BACKENDS", raising=False)
    (tmp_path / "onnxruntime").mkdir()
    message = start(
        "echo error: found $(find $(echo $LD_LIBRARY_PATH | tr : ' ') "
        "-name libtritonserver.so -exec readlink {} +); exit 1",
        profile="embedded",
        **({"backends": tmp_path} if given else {}),
    )
    assert ("/libraries/libtritonserver-0a1b2c3d.so" in message) == given


def test_a_server_that_is_late_is_stopped_with_all_it_started(start, tmp_path, monkeypatch):
    monkeypatch.setattr(embedded_server, "STOP_TIMEOUT_S", 0.5)
    note = tmp_path / "pid"
    message = start(
        f"trap '' TERM; sleep 60 & echo $! > {note}; echo 'error: slow'; wait; sleep 60",
        ready_timeout_s=1.0,
    )
    assert message == "the server was not ready after 1 s\n  error: slow"
    child = int(note.read_text())
    deadline = time.monotonic() + 5
    while is_running(child) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_running(child)


@pytest.fixture
def waiting(model_repository, tmp_path):
    """The command line in a process of its own, its tritonserver a script that never gets ready.

    With the process id of the script.
    """
    if platform.system() != "Linux":
        pytest.skip("the launcher runs on Linux only")
    folder = tmp_path / "fake"
    folder.mkdir()
    note = folder / "pid"
    fake_environment(folder, f"echo $$ > {note}; exec sleep 60")
    program = f"""
import os, sys
os.register_at_fork(before=lambda: print("fork handlers run", flush=True))
sys.path[:0] = {json.dumps([str(ROOT / "deploy/src")])}
from dlild_deploy import cli
from dlild_deploy.server import embedded_server
from pathlib import Path
folder = Path({str(folder)!r})
embedded_server.check_platform = lambda: None
embedded_server.find_environment = lambda _: embedded_server.Environment(
    folder / "python", folder / "tritonserver", folder / "stub", folder / "backend", ())
sys.argv[1:] = ["serve", "--repository", {str(model_repository)!r}, "--log", str(folder / "log"),
                "--grpc-port", "0", "--http-port", "0", "--metrics-port", "0"]
cli.run()
"""
    running = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 20
    while not (note.is_file() and note.read_text().strip()) and time.monotonic() < deadline:
        time.sleep(0.05)
    with running:
        yield running, int(note.read_text())
        running.kill()


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_waiting_stops_cleanly(waiting, kind):
    running, server = waiting
    running.send_signal(kind)
    out, _ = running.communicate(timeout=20)
    assert running.returncode == 0
    # Nor did it run the fork handlers of libraries, of which gRPC's may abort.
    assert out == "stopped\n"
    assert not is_running(server)


def test_the_server_ends_with_a_launcher_that_is_killed(waiting):
    running, server = waiting
    assert is_running(server)
    running.kill()
    running.wait()
    deadline = time.monotonic() + 10
    while is_running(server) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_running(server)


def test_the_command_line_says_what_is_wrong(machine, tmp_path, capsys):
    machine.setattr(platform, "machine", lambda: "aarch64")
    assert cli.main(["serve", "--repository", str(tmp_path)]) == 1
    assert capsys.readouterr().err.startswith("error: the embedded server needs Linux x86-64")


def test_the_servers_own_environment_runs_it_without_typer(tmp_path):
    python = default_server_python()
    if not python.is_file():
        pytest.skip(f"there is no {python}: run `make venvs`")
    done = subprocess.run(
        [python, "-m", "dlild_deploy.server", "--repository", tmp_path, "--grpc-port", "0"],
        env={"PYTHONPATH": str(ROOT / "deploy/src"), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1


def test_both_command_lines_of_the_server_have_the_same_options_and_defaults():
    with_typer, without = (
        {name: p.default for name, p in inspect.signature(function).parameters.items()}
        for function in (cli.serve, serve)
    )
    assert with_typer == without


@pytest.mark.server
def test_the_real_server_serves_the_profile_asked_for(embedded_server):
    embedded_server.check_alive()
    assert embedded_server.grpc_url.startswith("grpc://127.0.0.1:")
    assert is_running(embedded_server.pid)
