"""Every served version is checked, whatever engine loads it."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from dlild_client.contract import weights
from dlild_client.contract.weights import PLAN, RECORD, WeightsError, check_repository

VERSIONS = ("4", "5")


@pytest.fixture
def served(tmp_path: Path, repository: Path) -> Path:
    """A repository that serves two versions, with a plan of each."""
    contract = json.loads((repository / "contract.json").read_text())
    (tmp_path / "contract.json").write_text(json.dumps(contract))
    releases = {}
    for version in VERSIONS:
        folder = tmp_path / "ild_unet" / version
        folder.mkdir(parents=True)
        (folder / "model.onnx").write_text(f"network {version}")
        (folder / PLAN).write_text(f"plan {version}")
        digest = weights._sha256(folder / "model.onnx")
        releases[version] = {"weights_sha256": digest}
        record = {
            "version": int(version),
            "weights_sha256": digest,
            "plan_sha256": weights._sha256(folder / PLAN),
            "windows": contract["windows"],
        }
        (folder / RECORD).write_text(json.dumps(record))
    serving = {"serving": [4, 5], "releases": releases}
    (tmp_path / "releases.json").write_text(json.dumps(serving))
    return tmp_path


@pytest.mark.parametrize("profile", ["embedded", "onnxruntime", "tensorrt"])
def test_what_was_released_passes(served: Path, profile: str) -> None:
    check_repository(served, profile)


@pytest.mark.parametrize("profile", ["embedded", "onnxruntime", "tensorrt"])
def test_the_repository_of_this_project_serves_what_was_released(
    repository: Path, profile: str
) -> None:
    if profile == "tensorrt":
        with pytest.raises(WeightsError, match=r"TensorRT plan is not there: .* build it"):
            check_repository(repository, profile)
    else:
        check_repository(repository, profile)


@pytest.mark.parametrize("profile", ["embedded", "onnxruntime"])
def test_the_file_of_another_version_is_not_served(served: Path, profile: str) -> None:
    shutil.copy(served / "ild_unet/4/model.onnx", served / "ild_unet/5/model.onnx")
    with pytest.raises(WeightsError, match=r"5/model\.onnx has sha256 \w+, version 5 was released"):
        check_repository(served, profile)


def test_the_plan_of_another_version_is_not_served(served: Path) -> None:
    for name in (PLAN, RECORD):
        shutil.copy(served / "ild_unet/4" / name, served / "ild_unet/5" / name)
    with pytest.raises(WeightsError, match=r"5/model\.plan was built from weights with sha256"):
        check_repository(served, "tensorrt")


def test_a_plan_that_its_record_does_not_know_is_not_served(served: Path) -> None:
    shutil.copy(served / "ild_unet/4" / PLAN, served / "ild_unet/5" / PLAN)
    with pytest.raises(WeightsError, match="lies under version 5; its record is of version 5 with"):
        check_repository(served, "tensorrt")


def test_a_plan_of_other_windows_is_not_served(served: Path) -> None:
    contract = json.loads((served / "contract.json").read_text())
    contract["windows"]["maximum"] = [128, 128, 128]
    (served / "contract.json").write_text(json.dumps(contract))
    with pytest.raises(WeightsError, match=r"takes windows of .* contract\.json has .*128, 128\]"):
        check_repository(served, "tensorrt")


def test_by_itself_it_ends_with_one_line(served: Path) -> None:
    command = [sys.executable, "-I", weights.__file__, str(served), "onnxruntime"]
    assert subprocess.run(command, check=False).returncode == 0
    (served / "ild_unet/5/model.onnx").unlink()
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "no network here" in done.stderr
