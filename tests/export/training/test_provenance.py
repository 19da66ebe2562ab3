"""What weights record of how they were made."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import onnx
import pytest
import torch
from export.small_cases import small_config, write_cases
from export.tiny import TINY, write_run
from typer.testing import CliRunner

from dlild_export.cli import app
from dlild_export.data.digest import sha256
from dlild_export.serving.onnx import export_run
from dlild_export.training.config import config_from
from dlild_export.training.loop import train
from dlild_export.training.provenance import (
    CALIBRATION,
    NETWORK,
    RECIPE,
    TRAININGS,
    network_config,
    origin_of,
    read_metadata,
    trainings,
    write_metadata,
)
from dlild_export.training.start import WeightsError, load_network

pytestmark = pytest.mark.usefixtures("one_thread")


def test_a_checkpoint_records_its_start_and_the_trainings_before(tmp_path: Path) -> None:
    cases = write_cases(tmp_path / "cases", 2)
    settings = {"stages": [{"steps": 2, "patch": 16}], "bf16": False}
    first = train(cases, tmp_path / "first", small_config(**settings, seed=7))

    second = train(cases, tmp_path / "second", small_config(**settings, seed=8), start=first)

    one, two = trainings(torch.load(second, weights_only=True))
    assert (one["seed"], one["steps"], one["start_sha256"]) == (7, 2, None)
    assert (two["seed"], two["cases"], two["start_sha256"]) == (8, 2, sha256(first))
    assert two["stages"] == [{"steps": 2, "patch": 16, "batch": 2}]
    assert two["versions"]["torch"] == torch.__version__.partition("+")[0]


def test_the_file_carries_network_trainings_calibration_and_recipe(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", 3)
    (run / "calibration.json").write_text('{"class_biases": [0, 0, 0.5, 0, 0, 0], "cases": 4}')
    (tmp_path / "weights.toml").write_text('name = "trial"\n')

    result = CliRunner().invoke(app, ["onnx", str(run), "--recipe", str(tmp_path / "weights.toml")])

    assert result.exit_code == 0, result.output
    texts = read_metadata(onnx.load(run / "model.onnx"))
    assert network_config(json.loads(texts[NETWORK])) == TINY
    assert json.loads(texts[TRAININGS])[0]["seed"] == 0
    assert json.loads(texts[CALIBRATION])["cases"] == 4
    assert texts[RECIPE] == 'name = "trial"\n'
    assert origin_of(run / "model.onnx")["before"] == json.loads(texts[TRAININGS])
    assert load_network(run / "model.onnx").config == TINY


@pytest.mark.slow
def test_another_recipe_is_exported_anew(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", 3)
    before = sha256(export_run(run))

    (run / "recipe.toml").write_text("# another\n")

    assert sha256(export_run(run)) != before


def test_a_file_without_metadata_that_was_never_released_is_refused(tmp_path: Path) -> None:
    path = export_run(write_run(tmp_path / "run", 3))
    model = onnx.load(path)
    write_metadata(model, {})
    onnx.save(model, path)

    with pytest.raises(WeightsError, match=r"metadata have no dlild\.network.*dlild-export onnx"):
        load_network(path)


def test_former_names_of_settings_are_read() -> None:
    stored = asdict(TINY)
    stored["lung_level"] = stored.pop("lung_density")

    assert network_config(stored) == TINY
    assert config_from({"network": stored}).network == TINY
