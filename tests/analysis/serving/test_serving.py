"""The progression model as files of a model repository; the real server is asked elsewhere."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import pytest

from dlild_analysis import (
    InputRejectedError,
    ModelFileError,
    UsageError,
    add_to_repository,
    build_model,
    read_model,
)
from dlild_analysis.cli import main
from dlild_analysis.prediction import risk
from dlild_analysis.serving import tensor_names

PROFILES = ("embedded", "onnxruntime", "tensorrt")


@pytest.fixture
def model(analysed):
    return build_model(analysed)


@pytest.fixture
def served(tmp_path):
    folder = tmp_path / "models"
    folder.mkdir()
    (folder / "contract.json").write_text(json.dumps({"profiles": {name: {} for name in PROFILES}}))
    return folder


def test_all_files_are_there_and_nothing_else(model, served):
    folder = add_to_repository(model, served)
    assert folder == served / "progression"
    assert {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()} == {
        "config.pbtxt",
        *(f"configs/{profile}.pbtxt" for profile in PROFILES),
        "1/model.py",
        "1/risk.py",
        "1/model.json",
    }
    assert {p.name for p in served.parent.iterdir()} == {"models"}


def test_each_profile_says_its_name_and_the_digest_of_the_model(model, served):
    folder = add_to_repository(model, served)
    digest = hashlib.sha256((folder / "1/model.json").read_bytes()).hexdigest()
    for profile in PROFILES:
        text = (folder / f"configs/{profile}.pbtxt").read_text(encoding="utf-8")
        assert f'key: "profile" value {{ string_value: "{profile}" }}' in text
        assert f'string_value: "{digest}"' in text
        assert re.search(r'^backend: "python"$', text, re.MULTILINE)
        assert '{ name: "dl_ild_percent" data_type: TYPE_FP64 dims: [ 1 ] }' in text
        assert '{ name: "sex" data_type: TYPE_STRING dims: [ 1 ] }' in text
    config = (folder / "config.pbtxt").read_text(encoding="utf-8")
    assert config == (folder / "configs/embedded.pbtxt").read_text(encoding="utf-8")


def test_the_arithmetic_is_a_copy_of_the_packages_own(model, served):
    folder = add_to_repository(model, served)
    head, copied = (folder / "1/risk.py").read_text(encoding="utf-8").split("\n", 1)
    assert head.startswith("# Generated")
    assert copied == Path(risk.__file__).read_text(encoding="utf-8")
    assert read_model(folder / "1/model.json") == json.loads(json.dumps(model))


def test_a_model_that_is_there_is_not_overwritten_unasked(model, served):
    folder = add_to_repository(model, served)
    (folder / "1/left_over.py").touch()
    with pytest.raises(UsageError, match="--replace"):
        add_to_repository(model, served)
    add_to_repository(model, served, replace=True)
    assert not (folder / "1/left_over.py").exists()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, r"no contract\.json"),
        ("{", "not a contract"),
        ("[]", "not a contract"),
        ('{"profiles": {}}', "names no profile"),
    ],
)
def test_what_is_no_repository_is_named(model, served, content, words):
    contract = served / "contract.json"
    contract.unlink() if content is None else contract.write_text(content)
    with pytest.raises(InputRejectedError, match=words):
        add_to_repository(model, served)


def test_a_model_that_a_scan_cannot_feed_is_refused(model, served):
    inputs = model["inputs"]
    with pytest.raises(ModelFileError, match="takes no score"):
        add_to_repository({**model, "inputs": inputs[1:]}, served)
    with pytest.raises(ModelFileError, match="a score in points"):
        add_to_repository({**model, "inputs": [{**inputs[0], "unit": "points"}]}, served)
    with pytest.raises(ModelFileError, match="share a name on the wire"):
        tensor_names({"inputs": [inputs[0], {**inputs[1], "name": "dl ild percent"}]})


def test_the_command(model, served, tmp_path, capsys):
    (tmp_path / "model.json").write_text(json.dumps(model))
    arguments = ["add-to-repository", str(tmp_path / "model.json"), str(served)]
    assert main(arguments) == 0
    assert "dl_ild_percent: DL-ILD (column dl_ild_percent)," in capsys.readouterr().out
    assert main(arguments) == 2
    assert main([*arguments, "--replace"]) == 0
    assert main([*arguments[:2], str(tmp_path)]) == 3
