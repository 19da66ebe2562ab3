"""Results of the client, as the client writes them: one schema, one model."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from dlild_analysis import (
    CohortError,
    InputRejectedError,
    add_to_repository,
    analyse,
    build_model,
    load_cohort,
    load_study,
    predict_table,
)
from dlild_analysis.cohort.client_results import read_results
from dlild_analysis.cohort.table.faults import FaultLog
from dlild_analysis.simulate import STUDY_TOML
from dlild_client.batch.record import DENSITY_COLUMNS, result_row
from dlild_client.contract import parse_contract
from dlild_client.results.densitometry import Densitometry, describe
from dlild_client.results.result import ClassVolume, GridInfo, ModelUsed, Result, ZoneVolume
from dlild_client.volume import SeriesInfo, Volume

CONTRACT = Path(__file__).parents[3] / "model_repository" / "contract.json"


@pytest.fixture(scope="module")
def contract():
    return parse_contract(CONTRACT.read_text(encoding="utf-8"))


@pytest.fixture
def result_of(contract):
    """Make the client's result of a scan with a given score."""

    def make(percent: float, **model: object) -> Result:
        volume = Volume(np.zeros((2, 2, 2), np.float32), (1.0, 1.0, 1.0))
        used = ModelUsed(
            name=contract.model.name,
            version=contract.model.version,
            weights_digest=f"sha256:{contract.model.weights_sha256}",
            profile="embedded",
            engine="openvino",
            precision="fp32",
        )
        return Result(
            dl_ild_percent=percent,
            lung_volume_ml=3000.0,
            lesion_volume_ml=30.0 * percent,
            classes={
                c.name: ClassVolume(c.label, 30.0 * percent, percent)
                for c in contract.classes
                if c.lung
            },
            zones={"right upper": ZoneVolume(500.0, 10.0)},
            windows=8,
            grid=GridInfo((1.5, 1.5, 1.5), (2, 2, 2), (0, 0, 0), (2, 2, 2)),
            model=dataclasses.replace(used, **model),
            series=SeriesInfo(),
            timings_s={"total": 1.0},
            flags=(),
            labels=volume,
            image=volume,
            contract=contract,
        )

    return make


@pytest.fixture
def joined(tmp_path, files, drawn, result_of):
    """Write a result for every patient, the first few changed, and load the cohort."""
    quick = STUDY_TOML + "bootstraps = 20\nrepeats = 1\n"
    table, study = files(lambda frame: frame.drop(columns="dl_ild_percent"), toml=quick)

    def load(changed: int = 0, edit=lambda data: data, **model: object):
        for index, row in enumerate(drawn.itertuples()):
            folder = tmp_path / "results" / row.id
            folder.mkdir(parents=True, exist_ok=True)
            mine = index < changed
            data = json.loads(result_of(row.dl_ild_percent, **(model if mine else {})).to_json())
            (folder / "result.json").write_text(json.dumps(edit(data) if mine else data))
        return load_cohort(table, load_study(study), tmp_path / "results")

    return load


def test_real_results_are_joined_and_name_their_model(joined, drawn, contract):
    cohort = joined()
    np.testing.assert_allclose(cohort.patients["score"], drawn["dl_ild_percent"], atol=1e-6)
    assert contract.model.weights_sha256 in cohort.scan_model
    assert not any(name.startswith("results:") for name in cohort.patients)


@pytest.mark.parametrize(
    "model", [{"weights_digest": "sha256:0000"}, {"version": 99}, {"name": "another"}]
)
def test_results_of_two_models_do_not_mix(joined, model):
    with pytest.raises(InputRejectedError, match="scores of different models do not mix") as caught:
        joined(2, **model)
    assert "2 of " in str(caught.value)
    assert "88 of " in str(caught.value)
    assert "S01" in str(caught.value)


def test_a_result_that_does_not_name_its_model_does_not_mix_either(joined):
    def nameless(data):
        del data["model"]
        return data

    with pytest.raises(InputRejectedError, match="a model that is not named"):
        joined(1, nameless)
    assert any("do not name the model" in str(note) for note in joined(90, nameless).notes)


def test_another_precision_of_the_same_weights_is_said(joined):
    notes = " ".join(map(str, joined(3, precision="int8").notes))
    assert "openvino fp32, openvino int8" in notes


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda data: {**data, "schema_version": 2}, "schema_version 2; this package reads 1"),
        (lambda data: {**data, "schema_version": "1"}, "schema_version '1'"),
        (
            lambda data: {k: v for k, v in data.items() if k != "schema_version"},
            "not a result of the client",
        ),
        (lambda data: {**data, "dl_ild_percent": float("nan")}, "dl_ild_percent is nan"),
        (lambda data: [data], "not a result of the client"),
        (lambda data: {**data, "model": "unet"}, "not a result of the client"),
        (lambda data: {**data, "classes": 3}, "not a result of the client"),
    ],
)
def test_what_is_no_result_is_refused(joined, edit, words):
    with pytest.raises(CohortError) as caught:
        joined(1, edit)
    assert words in str(caught.value)
    assert "S01" in str(caught.value)


def test_scores_in_the_table_with_two_digests_do_not_mix(load):
    with pytest.raises(InputRejectedError, match="do not mix: 89 of sha256:a"):
        load(
            lambda frame: frame.assign(
                weights_digest=["sha256:b"] + ["sha256:a"] * (len(frame) - 1)
            )
        )
    one = load(lambda frame: frame.assign(weights_digest="sha256:a"))
    assert one.scan_model == "sha256:a"
    part = load(lambda frame: frame.assign(weights_digest=["", *["sha256:a"] * (len(frame) - 1)]))
    assert any("'1 scores' do not say which weights" in str(note) for note in part.notes)


def test_a_result_of_another_model_that_is_not_used_does_no_harm(joined, tmp_path, result_of):
    joined()
    other = tmp_path / "results" / "not-in-the-table"
    other.mkdir()
    (other / "result.json").write_text(result_of(3.0, weights_digest="sha256:1").to_json())
    cohort = load_cohort(
        tmp_path / "cohort.csv", load_study(tmp_path / "study.toml"), tmp_path / "results"
    )
    assert len(cohort.patients) == 90


def test_densitometry_is_joined_under_the_names_of_the_clients_table(tmp_path, result_of):
    """Of a real result: what the analysis has is what `dlild batch` writes into its row."""
    lung = describe(np.r_[np.zeros(100), np.ones(20), np.zeros(3976)], 1.0)
    result = dataclasses.replace(result_of(2.0), densitometry=Densitometry(lung, {}))
    (tmp_path / "P1").mkdir()
    (tmp_path / "P1" / "result.json").write_text(result.to_json())
    frame = read_results(tmp_path, "folder", FaultLog("results"))
    row = result_row(json.loads(result.to_json()))
    names = {name for name in frame if name.startswith("density_")}
    assert names == {name for name in DENSITY_COLUMNS if row[name] is not None}
    assert len(names) > 8
    for name in names:
        assert frame[name].item() == row[name]
    # A result without it, as older ones, has no such column.
    (tmp_path / "P1" / "result.json").write_text(result_of(2.0).to_json())
    assert not [n for n in read_results(tmp_path, "folder", FaultLog("results")) if "density" in n]


def test_a_saved_model_knows_whose_scores_it_takes(joined, tmp_path, contract, drawn):
    model = build_model(analyse(joined()))
    digest = f"sha256:{contract.model.weights_sha256}"
    assert digest in model["scan_model"]
    new = drawn.head(3).assign(weights_digest=[digest, "sha256:0000", ""])
    new.to_csv(tmp_path / "new.csv", index=False)
    told = predict_table(model, tmp_path / "new.csv")
    assert [bool(text) for text in told["refused"]] == [False, True, False]
    assert "scored with weights sha256:0000" in told["refused"][1]
    assert np.isfinite(told["risk_24_months"].astype(float)).tolist() == [True, False, True]
    repository = tmp_path / "models"
    repository.mkdir()
    (repository / "contract.json").write_text(CONTRACT.read_text(encoding="utf-8"))
    assert add_to_repository(model, repository).is_dir()
    other = {**model, "scan_model": "dlild version 1, weights sha256:1111"}
    with pytest.raises(InputRejectedError, match="fitted on scores of dlild version 1"):
        add_to_repository(other, repository, replace=True)
