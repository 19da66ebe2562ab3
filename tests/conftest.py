"""What tests of several packages share."""

import json
import os
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from examples import load_profile

ROOT = Path(__file__).resolve().parents[1]
# The one list of source roots: what lies in model_repository is in no environment.
SOURCE_ROOTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["mypy"]["mypy_path"]
sys.path[:0] = [str(ROOT / root) for root in SOURCE_ROOTS]

from dlild_deploy.errors import LauncherError  # noqa: E402
from dlild_deploy.server import EmbeddedServer  # noqa: E402
from dlild_deploy.server.preflight import check_platform  # noqa: E402

load_profile()


PROFILE = os.environ.get("DLILD_PROFILE") or "embedded"
"""Profile that servers of the tests run; another than `embedded` needs DLILD_BACKENDS."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what belongs to another profile than the one that is tested, and say why."""
    for item in items:
        for mark in item.iter_markers("only"):
            profile, why = mark.args
            if profile != PROFILE:
                item.add_marker(pytest.mark.skip(f"of the profile {profile} only: {why}"))


@pytest.fixture(scope="session")
def repository() -> Path:
    """The model repository of this project."""
    return ROOT / "model_repository"


@pytest.fixture(scope="session")
def weights(repository: Path) -> Path:
    """The network that the repository answers with."""
    contract = json.loads((repository / "contract.json").read_text("utf-8"))
    return repository / "ild_unet" / str(contract["model"]["version"]) / "model.onnx"


@pytest.fixture(scope="session")
def server_platform() -> None:
    """Skip where the platform cannot run the real server: whatever else is wrong is a failure."""
    try:
        check_platform()
    except LauncherError as reason:
        pytest.skip(str(reason))


@pytest.fixture(scope="session")
def embedded_server(
    server_platform: None, repository: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[EmbeddedServer]:
    """The real server, started once a run on free ports of loopback; its first scan is slower."""
    log = tmp_path_factory.mktemp("server") / "tritonserver.log"
    with EmbeddedServer(
        repository, grpc_port=0, http_port=0, metrics_port=0, log_path=log, warm=False
    ) as server:
        yield server
