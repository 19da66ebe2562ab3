"""Every command block of every README: typed here, or declared with the reason why it is not.

What is not typed is parsed: its targets, scripts, sub-commands and options must exist.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from deploy.checkers import ROOT
from deploy.readmes import PAGES, Block, blocks, fault_of, is_commands, program_of, words_of
from deploy.test_runbook import (  # noqa: F401  (fixtures)
    checkout,
    port,
    wait_until_ready,
)
from patients import write_child

from dlild_client.reading.read import read_volume
from dlild_client.results.files import write_nifti
from dlild_deploy.server import EmbeddedServer

ALL = [block for page in PAGES for block in blocks(page)]
COMMANDS = [block for block in ALL if is_commands(block)]
PATIENCE_S = 300

TYPED = {
    # Page and first words of a command, of blocks that a test below types as they stand.
    ("README.md", "make serve"),
    ("README.md", ".venv/bin/dlild score"),
    ("README.md", "dlild-analysis"),
    ("client/README.md", "dlild score scans/patient-1"),
    ("client/README.md", "dlild score scan.nii.gz"),
    ("client/README.md", "dlild report"),
    ("client/README.md", "dlild series"),
    ("client/README.md", "dlild batch scans --out OUT"),
    ("client/README.md", "dlild info"),
    ("client/README.md", "dlild doctor"),
    ("analysis/README.md", "dlild-analysis --help"),
    ("analysis/README.md", "dlild-analysis simulate"),
    ("analysis/README.md", "dlild-analysis check"),
    ("analysis/README.md", "dlild-analysis fit"),
    ("analysis/README.md", "dlild-analysis predict"),
    ("export/README.md", "dlild-export phantom"),
    ("export/README.md", "dlild-export contact-sheet"),
    ("export/README.md", "dlild-export check"),
    # By test_runbook.py.
    ("deploy/README.md", "make certs"),
    ("deploy/README.md", "(umask 077; openssl rand"),
    ("deploy/README.md", "make serve"),
    ("deploy/README.md", "export DLILD_URL"),
    ("deploy/README.md", ".venv/bin/dlild"),
}
NOT_TYPED = (
    # What matches a command, and why no test types it.
    (r"^make (demo|venvs|test|lint|format)", "makes environments for minutes; test_demo.py and CI"),
    (r"^make (load|load-scans|bundle)", "measures or downloads: tests/deploy/load, test_bundle.py"),
    (r"^make (cluster|certs)", "tests/integration/cluster/test_cluster.py and tests/deploy/certs"),
    (r"^make serve$", "as in README.md, by test_readmes.py"),
    (r"^pip install", "an environment of its own: integration/commands/test_fresh_install.py"),
    (r"^\.venv/bin/pre-commit install", "changes the hooks of the checkout"),
    (r"^dlild .*--dask", "a Dask cluster: tests/integration/commands/test_batch_on_dask.py"),
    (r"^dlild compare", "two scans of one patient: tests/client/report/test_comparison.py"),
    (r"^dlild (score dicomweb|listen|queue)",
     "a hospital's network: tests/client/archive, on a real Orthanc"),
    (r"^dlild (score .*--seg|batch .*--seg|verify)", "tests/client/cli/test_objects.py"),
    (r"^dlild --install-completion", "writes into the user's shell: tests/client/test_cli.py"),
    (r"^dlild-export (train|plant|onnx|evaluate|repeatability|parity|release|serve|recipe)",
     "trains or evaluates for hours: tests/export, test_release.py, on small networks"),
    (r"^dlild-export (reading|phantom-check)",
     "scans of patients, minutes: tests/export/readers and tests/export/phantom/test_measured.py"),
    (r"^dlild-export int8", "minutes of processor time: tests/export/serving/test_int8.py"),
    (r"^dlild-export tensorrt", "needs TensorRT and a GPU: tests/export/serving/test_tensorrt.py"),
    (r"^(torchrun|tensorboard)", "trains for hours: tests/export/training/test_processes.py"),
    (r"^dlild-export check DATASET", "a dataset of the user: tests/export/data"),
    (r"^dlild-analysis add-to-repository", "tests/analysis/test_serving.py"),
    (r"^dlild-analysis (init|check|fit) (registry|clinic)", "tables of the user: test_proposal.py"),
    (r"^tritonserver", "Triton's container: test_container.py runs the entrypoint"),
    (r"docker", "needs Docker, which root installs: test_compose.py and test_dockerfile.py"),
    (r"^(kubectl|helm)", "needs a Kubernetes cluster: test_helm.py renders and checks the chart"),
    (r"^haproxy", "tests/deploy/proxy and tests/integration/cluster/test_cluster.py run it"),
    (r"^(cp|mkdir|cd|sudo|chown|chmod|openssl) ", "files for Docker, with root's owners"),
    (r"^dlild-deploy serve", "tests/deploy/server/test_embedded_server.py"),
    (r"^(for|done)\b", "the loop round a command of Docker"),
    (r"^dlild-deploy load (sequences|table)", "tests/deploy/load/test_window_load.py"),
    (r"^dlild-deploy load scans", "tests/deploy/load/test_scan_load.py"),
    (r"^dlild-deploy (keys|certs)", "tests/deploy/proxy/test_api_keys.py and certs/"),
    (r"verify.py|sha256sum", "tests/deploy/test_bundle.py verifies a bundle"),
)  # fmt: skip
NOT_COMMANDS = (
    # First words of indented blocks that are a formula, a drawing or a list.
    "DL-ILD = 100 x", "DICOM / NIfTI ->", "DATASET/dataset.json", "cohort/ ",
    "window (HU) ──>", "server-template server", "z_mm,outline,class,x,y",
    "id,risk_12_months",
)  # fmt: skip


def commands() -> list[tuple[Block, str]]:
    return [(block, command) for block in COMMANDS for command in block.commands()]


def test_every_block_is_one_of_commands_or_is_declared_as_something_else() -> None:
    unknown = [
        (block.page, block.line, block.commands()[0])
        for block in ALL
        if block.language in {"sh", "text"}
        and not is_commands(block)
        and not block.text.startswith(NOT_COMMANDS)
    ]
    assert unknown == []
    assert len(COMMANDS) > 30


def test_every_command_is_typed_or_its_reason_is_declared() -> None:
    open_ones = [
        (block.page, block.line, command)
        for block, command in commands()
        if not any(block.page == page and command.startswith(w) for page, w in TYPED)
        and not any(re.search(pattern, command) for pattern, _ in NOT_TYPED)
    ]
    assert open_ones == []
    for page, words in TYPED:
        assert any(b.page == page and c.startswith(words) for b, c in commands()), (page, words)
    for pattern, reason in NOT_TYPED:
        assert any(re.search(pattern, c) for _, c in commands()), (pattern, reason)


def test_every_command_has_options_and_targets_that_exist() -> None:
    faults = [
        (block.page, block.line, fault)
        for block, command in commands()
        if program_of(command) and (fault := fault_of(command))
    ]
    assert faults == []


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("make nothing-of-the-kind", "no nothing-of-the-kind"),
        ("make demo SCANN=x", "no SCANN"),
        ("dlild scor x", "no sub-command"),
        ("dlild score x --outt y", "--outt"),
        ("dlild batch x", "lacks ['out']"),
        ("dlild score a b", "is too much"),
        ("dlild-deploy certs renew certs tls --dayss 3", "--dayss"),
        ("dlild-deploy keys", "no sub-command"),
        ("python deploy/embedded/absent.py", "there is no"),
    ],
)
def test_a_command_that_does_not_exist_is_found(command: str, words: str) -> None:
    assert words in fault_of(command)


def test_every_python_block_can_be_read() -> None:
    for block in ALL:
        if block.language == "python" and not block.text.startswith(">>>"):
            compile(block.text, f"{block.page}:{block.line}", "exec")


def block_with(page: str, words: str) -> Block:
    (found,) = [b for b in COMMANDS if b.page == page and words in b.text]
    return found


@pytest.fixture(scope="module")
def scan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The phantom of a child as a DICOM series."""
    folder = tmp_path_factory.mktemp("readme-scan")
    write_child(folder)
    return folder


def variables(**more: str) -> dict[str, str]:
    """Our programs come first on the path, as in an environment that is activated."""
    path = f"{Path(sys.prefix) / 'bin'}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "COLUMNS": "200", **more}


def type_in(commands: str, place: Path, **more: str) -> str:
    """Type commands in a folder; each must be content."""
    done = subprocess.run(
        ["sh", "-eu", "-c", commands],
        cwd=place,
        env=variables(**more),
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )
    assert done.returncode == 0, f"{commands}\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.mark.server
def test_the_second_example_of_the_readme_gives_a_score(
    checkout: Path,  # noqa: F811
    port: int,  # noqa: F811
    scan: Path,
) -> None:
    serve, score = block_with("README.md", "make serve").commands()
    (checkout / "path" / "to").mkdir(parents=True)
    (checkout / "path" / "to" / "scan").symlink_to(scan)
    shell = subprocess.Popen(
        ["sh", "-eu", "-c", serve],
        cwd=checkout,
        env=os.environ | {"GRPC_PORT": str(port), "HTTP_PORT": "0", "METRICS_PORT": "0"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        wait_until_ready(shell)
        told = type_in(score.replace("8001", str(port)), checkout)
        (python,) = [b for b in ALL if b.page == "README.md" and b.language == "python"]
        (checkout / "example.py").write_text(python.text.replace("8001", str(port)))
        percent = type_in("python example.py", checkout)
    finally:
        os.killpg(shell.pid, 15)
        shell.wait(30)
    assert f"{float(percent):.2f} %" in told
    assert {p.name for p in (checkout / "results").iterdir()} == {
        "result.json", "labels.nii.gz", "overlay.png",
    }  # fmt: skip


def test_a_fresh_clone_has_what_the_second_example_types(tmp_path: Path) -> None:
    """Before `make serve` is ready it has made the environment whose `dlild` comes next."""
    for path in ROOT.iterdir():
        if path.name not in {".venv", ".venv-server", ".git", ".tools"}:
            (tmp_path / path.name).symlink_to(path)
    planned = subprocess.run(
        ["make", "--dry-run", "serve"], cwd=tmp_path, capture_output=True, text=True, check=True
    ).stdout
    assert planned.index("-e client") < planned.index("dlild-deploy serve")


ELSEWHERE = "--dask|--install-completion|dicomweb|dlild listen|dlild compare"
"""Commands of the client that another test types: see `NOT_TYPED`."""


@pytest.mark.server
def test_the_commands_of_the_client_are_typed(
    embedded_server: EmbeddedServer, scan: Path, tmp_path: Path
) -> None:
    block = block_with("client/README.md", "dlild batch scans --out OUT --dask")
    (tmp_path / "scans").mkdir()
    shutil.copytree(scan, tmp_path / "scans" / "patient-1")
    write_nifti(read_volume(scan), tmp_path / "scan.nii.gz")
    typed = [c for c in block.commands() if not re.search(ELSEWHERE, c)]
    assert len(typed) == 9
    told = type_in("\n".join(typed), tmp_path, DLILD_URL=embedded_server.grpc_url)
    assert "research use only" in told
    assert (tmp_path / "OUT" / "result.json").is_file()
    assert (tmp_path / "OUT" / "results.csv").is_file()


@pytest.mark.slow
def test_the_worked_example_of_the_analysis_is_typed(tmp_path: Path) -> None:
    first = block_with("analysis/README.md", "pip install").commands()[1]
    *example, predict = block_with("analysis/README.md", "simulate").commands()
    type_in("\n".join([first, *example]), tmp_path)
    assert (tmp_path / "report" / "report.html").stat().st_size > 10_000
    # New patients are the user's own: three of those that the model knows.
    lines = (tmp_path / "cohort.csv").read_text().splitlines(keepends=True)
    (tmp_path / "new.csv").write_text("".join(lines[:4]))
    printed = type_in(predict, tmp_path).splitlines()
    assert block_with("README.md", "simulate").commands() == [*example, predict]
    (shown,) = [b for b in ALL if b.page == "README.md" and b.text.startswith("id,risk")]
    assert numbers(printed) == pytest.approx(numbers(shown.text.splitlines()), abs=1e-3)


def numbers(table: list[str]) -> list[float]:
    return [float(cell) for row in table[1:] for cell in row.split(",")[1:-1]]


@pytest.mark.slow
def test_the_phantoms_of_the_export_are_typed(tmp_path: Path) -> None:
    """With one phantom in the place of 160, in the order in which they need each other."""
    lines: dict[str, str] = {}
    for command in block_with("export/README.md", "phantom").commands():
        lines.setdefault(words_of(command)[1], command)  # the first of several of one name
    assert "--count 160" in lines["phantom"]
    typed = [
        lines["phantom"].replace("160", "1"),
        lines["contact-sheet"],
        lines["check"].replace("DATASET", "DIR"),
    ]
    type_in("\n".join(typed), tmp_path)
    assert (tmp_path / "sheet.png").stat().st_size > 10_000
