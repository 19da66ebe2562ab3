"""A repository and a machine from which a test takes one thing away."""

import hashlib
import json
import platform
import shutil

import pytest

from dlild_deploy.server import preflight

SHA256_OF_NOTHING = hashlib.sha256(b"").hexdigest()


@pytest.fixture
def model_repository(repository, tmp_path):
    """The configurations of every model, with empty files as weights and plan of version 1."""
    models = tmp_path / "models"
    for path in repository.glob("*/configs/*.pbtxt"):
        target = models / path.relative_to(repository)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    shutil.copy(repository / "contract.json", models)
    (models / "ild_unet/1").mkdir()
    (models / "ild_unet/1/model.onnx").touch()
    (models / "ild_unet/1/model.plan").touch()
    check = "ild_unet/contract/weights.py"
    (models / check).parent.mkdir()
    shutil.copy(repository / check, models / check)
    releases = {"serving": [1], "releases": {"1": {"weights_sha256": SHA256_OF_NOTHING}}}
    (models / "releases.json").write_text(json.dumps(releases))
    windows = json.loads((repository / "contract.json").read_text())["windows"]
    record = {
        "version": 1,
        "weights_sha256": SHA256_OF_NOTHING,
        "plan_sha256": SHA256_OF_NOTHING,
        "windows": {name: windows[name] for name in ("minimum", "maximum")},
    }
    (models / "ild_unet/1/model.plan.json").write_text(json.dumps(record))
    return models


@pytest.fixture
def machine(monkeypatch):
    """A machine that can run the server; a test takes one thing away."""
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(platform, "libc_ver", lambda: ("glibc", "2.36"))
    monkeypatch.setattr(preflight, "shared_memory_free", lambda: 2**30)
    return monkeypatch
