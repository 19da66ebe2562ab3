"""The runbook: what it names is there, and a newcomer who types its CPU trial gets a score."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from deploy.checkers import ROOT

from dlild_client.settings import VARIABLES
from dlild_deploy.server.preflight import default_server_python

RUNBOOK = ROOT / "deploy" / "README.md"
TEXT = RUNBOOK.read_text("utf-8")
PATIENCE_S = 120


def block(name: str) -> str:
    """Return the commands behind a mark of the runbook."""
    (found,) = re.findall(rf"<!-- {name} -->\n```sh\n(.*?)```", TEXT, flags=re.DOTALL)
    return str(found)


def anchors(text: str) -> set[str]:
    heads = re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads}


def test_every_link_leads_somewhere() -> None:
    links = re.findall(r"\]\(([^)]+)\)", TEXT)
    assert len(links) > 15
    for link in links:
        path, _, anchor = link.partition("#")
        target = (RUNBOOK.parent / path).resolve() if path else RUNBOOK
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target.read_text("utf-8")), link


def test_every_alert_is_an_incident_and_no_other() -> None:
    rules = yaml.safe_load((ROOT / "deploy/monitoring/alerts.yml").read_text("utf-8"))
    alerts = {rule["alert"] for group in rules["groups"] for rule in group["rules"]}

    assert set(re.findall(r"\*(Dlild\w+)\*", TEXT)) == alerts


def test_the_messages_of_the_incident_table_are_real() -> None:
    sources = "".join(
        path.read_text("utf-8")
        for folder in ("client/src", "deploy/src", "deploy/proxy", "model_repository")
        for path in (ROOT / folder).rglob("*")
        if path.suffix in {".py", ".cfg"}
    )
    # A message may run over two lines of source.
    sources = re.sub(r'"\s*\n\s*f?"', "", sources)
    for said in (
        "takes no connection", "does not answer within", "renew the server's certificate soon",
        "the server speaks TLS; use grpcs:// instead of grpc://", "no server answers at",
        "is not ready", "is served with profile", "has no profile", "said by a worker",
        "the server runs another model now", "TLSFailedError", "KeyRefusedError", "NotReadyError",
        "ContractError",
    ):  # fmt: skip
        assert said in TEXT, said
        assert said in sources, said


def test_every_make_target_and_file_it_names_is_there() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    targets = set(re.findall(r"^([a-z-]+)(?: [a-z -]+)?:", makefile, flags=re.MULTILINE))
    for target in set(re.findall(r"(?:`|^)make ([a-z-]+)", TEXT, flags=re.MULTILINE)):
        assert target in targets, target
    for name in re.findall(r"(?:deploy|tests|docs)/[\w./-]+\.(?:py|md|yml|yaml|cfg)", TEXT):
        assert (ROOT / name).is_file(), name


@pytest.fixture
def checkout(server_platform: None, tmp_path: Path) -> Path:
    """Return what a newcomer has, and the environments that `make` would fill for minutes."""
    for name in ("make", "openssl"):
        if shutil.which(name) is None:
            pytest.skip(f"{name} is not installed")
    for path in ROOT.iterdir():
        if path.name not in {".venv", ".venv-server", ".git", "certs", "trial"}:
            (tmp_path / path.name).symlink_to(path)
    _lend(tmp_path / ".venv", Path(sys.prefix), ".demo", ".dev")
    _lend(tmp_path / ".venv-server", Path(default_server_python()).parents[1], ".server")
    return tmp_path


def _lend(place: Path, environment: Path, *stamps: str) -> None:
    place.mkdir()
    for name in ("bin", "lib", "pyvenv.cfg"):
        (place / name).symlink_to(environment / name)
    for stamp in stamps:
        (place / stamp).touch()


@pytest.fixture
def port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@pytest.fixture
def first_terminal(checkout: Path, port: int) -> Iterator[subprocess.Popen[str]]:
    """Type the commands of the first terminal; the server goes on until the test ends."""
    variables = {"GRPC_PORT": str(port), "HTTP_PORT": "0", "METRICS_PORT": "0"}
    shell = subprocess.Popen(
        ["sh", "-eu", "-c", block("terminal 1")],
        cwd=checkout,
        env=os.environ | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    yield shell
    os.killpg(shell.pid, signal.SIGTERM)
    shell.wait(30)


def wait_until_ready(shell: subprocess.Popen[str]) -> str:
    """Read what a newcomer reads, until `ready`."""
    said, deadline = "", time.monotonic() + PATIENCE_S
    assert shell.stdout is not None
    while time.monotonic() < deadline:
        line = shell.stdout.readline()
        said += line
        if line.startswith("ready"):
            return said
        assert line, f"it ended: {said}"
    raise AssertionError(said)


@pytest.mark.server
@pytest.mark.slow
def test_a_newcomer_reaches_the_known_score_through_tls(
    first_terminal: subprocess.Popen[str], checkout: Path, port: int
) -> None:
    assert f"grpcs://127.0.0.1:{port}" in wait_until_ready(first_terminal)

    commands = block("terminal 2")
    assert commands.count("8001") == 1
    done = subprocess.run(
        ["sh", "-eu", "-c", commands.replace("8001", str(port))],
        cwd=checkout,
        env=os.environ | {"COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert not [line for line in done.stdout.splitlines() if line.startswith("x ")]
    assert re.search(r"^\+ TLS +TLSv1\.3", done.stdout, flags=re.MULTILINE)
    assert re.search(r"^\+ key +the server takes it", done.stdout, flags=re.MULTILINE)
    version = json.loads((ROOT / "model_repository/contract.json").read_text())["model"]["version"]
    known = re.search(rf"\| {version} \| ([\d.]+) % \(([\d.]+) to ([\d.]+)\) \| (\d+) mL", TEXT)
    assert known is not None
    low, high = float(known[2]), float(known[3])
    (score,) = re.findall(r"DL-ILD +│ +([\d.]+) %", done.stdout)
    assert low <= float(score) <= high
    assert (checkout / "trial/result/overlay.png").stat().st_size > 10_000
    # Nothing of the trial is open to others of the machine.
    for name in ("tls.key", "ca.key", "api-key"):
        assert (checkout / "certs" / name).stat().st_mode & 0o077 == 0, name


def test_its_shell_is_correct() -> None:
    for commands in re.findall(r"```sh\n(.*?)```", TEXT, flags=re.DOTALL):
        told = subprocess.run(
            ["sh", "-n"], input=commands, capture_output=True, text=True, check=False
        )
        assert told.returncode == 0, f"{shlex.quote(commands)}: {told.stderr}"


def test_the_descriptions_of_dask_clusters_can_be_read() -> None:
    text = (ROOT / "docs/batch-on-dask.md").read_text("utf-8")
    scripts = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    assert len(scripts) == 2
    for script in scripts:
        compile(script, "batch-on-dask.md", "exec")
    (written,) = re.findall(r"```yaml\n(.*?)```", text, flags=re.DOTALL)
    spec = yaml.safe_load(written)["spec"]
    (worker,) = spec["worker"]["spec"]["containers"]
    mounted = {mount["name"] for mount in worker["volumeMounts"]}
    assert mounted == {volume["name"] for volume in spec["worker"]["spec"]["volumes"]}
    # Every setting that it gives is one that a client reads, and none is the key itself.
    names = {variable["name"] for variable in worker["env"]}
    assert names <= set(VARIABLES) - {"DLILD_API_KEY"}
