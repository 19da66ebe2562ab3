"""A served scan plus covariates gives a risk: the fitted model beside the models that score."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tritonclient import grpc as triton
from tritonclient.utils import InferenceServerException

from dlild_analysis import (
    analyse,
    build_model,
    calibrate,
    draw_cohort,
    load_cohort,
    load_study,
    predict_table,
    read_model,
)
from dlild_analysis.cli import main as analysis_command
from dlild_analysis.simulate import STUDY_TOML
from dlild_client import Client
from dlild_deploy.server import EmbeddedServer

pytestmark = pytest.mark.server

RISKS = ("horizon_months", "risk", "risk_low", "risk_high")


@pytest.fixture(scope="module")
def model_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of DL-ILD, age and sex, fitted on a simulated cohort."""
    folder = tmp_path_factory.mktemp("study")
    table, study = folder / "cohort.csv", folder / "study.toml"
    draw_cohort(calibrate(), 300, np.random.default_rng(5)).to_csv(table, index=False)
    study.write_text(STUDY_TOML + "bootstraps = 20\nrepeats = 1\n", encoding="utf-8")
    model = build_model(analyse(load_cohort(table, load_study(study))))
    (folder / "model.json").write_text(json.dumps(model), encoding="utf-8")
    return folder / "model.json"


@pytest.fixture(scope="module")
def server(
    server_platform: None,
    model_path: Path,
    tiny_repository: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[EmbeddedServer]:
    folder = tmp_path_factory.mktemp("serving")
    copied = folder / "model_repository"
    shutil.copytree(tiny_repository, copied, ignore=shutil.ignore_patterns("__pycache__"))
    assert analysis_command(["add-to-repository", str(model_path), str(copied)]) == 0
    log = folder / "tritonserver.log"
    with EmbeddedServer(
        copied, grpc_port=0, http_port=0, metrics_port=0, log_path=log, warm=False
    ) as running:
        yield running


def ask(server: EmbeddedServer, dl_ild_percent: float, age: float, sex: str) -> dict[str, list]:
    tensors = []
    for name, kind, value in (
        ("dl_ild_percent", "FP64", np.array([dl_ild_percent])),
        ("age", "FP64", np.array([age])),
        ("sex", "BYTES", np.array([sex.encode()], dtype=np.object_)),
    ):
        tensor = triton.InferInput(name, [1], kind)
        tensor.set_data_from_numpy(value)
        tensors.append(tensor)
    with triton.InferenceServerClient(server.grpc_url.removeprefix("grpc://")) as client:
        answer = client.infer("progression", tensors)
    return {name: answer.as_numpy(name).tolist() for name in RISKS}


def test_a_scan_and_covariates_give_the_risk_of_predict(
    server: EmbeddedServer, patient: Path, model_path: Path, tmp_path: Path
) -> None:
    with Client(server.grpc_url) as client:
        # The tiny network calls more of the lung ill than any patient of the cohort has.
        score = client.score(patient).dl_ild_percent / 2

    served = ask(server, score, 61.0, "F")

    new = pd.DataFrame({"id": ["new"], "dl_ild_percent": [score], "age": [61.0], "sex": ["F"]})
    new.to_parquet(tmp_path / "new.parquet")
    row = predict_table(read_model(model_path), tmp_path / "new.parquet").iloc[0]
    assert row["refused"] == ""
    assert served["horizon_months"] == [12, 24]
    for column, name in (("months", "risk"), ("low", "risk_low"), ("high", "risk_high")):
        expected = [row[f"risk_{horizon}_{column}"] for horizon in (12, 24)]
        assert served[name] == pytest.approx(expected, abs=1e-9)
    assert 0 < served["risk_low"][0] < served["risk"][0] < served["risk_high"][0] < 1
    assert served["risk"][0] < served["risk"][1]


@pytest.mark.parametrize(
    ("patient_is", "words"),
    [
        ((99.5, 61.0, "F"), "dl_ild_percent is 99.5; the model was fitted on "),
        ((12.0, 7.0, "F"), "age is 7; the model was fitted on "),
        ((12.0, float("nan"), "F"), "age is nan; the model needs a number"),
        ((12.0, 61.0, "unknown"), "sex is 'unknown'; the model knows F, M"),
    ],
)
def test_a_patient_outside_the_data_is_refused_by_value_and_range(
    server: EmbeddedServer, patient_is: tuple[float, float, str], words: str
) -> None:
    with pytest.raises(InferenceServerException, match="OUT_OF_RANGE") as refusal:
        ask(server, *patient_is)
    assert words in refusal.value.message()
    # One patient's refusal is nothing to the next.
    assert len(ask(server, 12.0, 61.0, "M")["risk"]) == 2
