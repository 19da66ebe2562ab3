"""A repository and a machine from which a test takes one thing away."""

import platform
import shutil

import pytest

from dlild_deploy.server import preflight


@pytest.fixture
def model_repository(repository, tmp_path):
    """The configurations of every model, with a file where the weights belong."""
    for path in repository.glob("*/configs/*.pbtxt"):
        target = tmp_path / path.relative_to(repository)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    shutil.copy(repository / "contract.json", tmp_path)
    (tmp_path / "ild_unet/1").mkdir()
    (tmp_path / "ild_unet/1/model.onnx").touch()
    return tmp_path


@pytest.fixture
def machine(monkeypatch):
    """A machine that can run the server; a test takes one thing away."""
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(platform, "libc_ver", lambda: ("glibc", "2.36"))
    monkeypatch.setattr(preflight, "shared_memory_free", lambda: 2**30)
    return monkeypatch
