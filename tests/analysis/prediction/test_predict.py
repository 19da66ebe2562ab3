"""The saved model: the same risks as the fit, an interval, and refusal outside its data."""

from __future__ import annotations

import ast
import inspect
import json

import numpy as np
import pandas as pd
import pytest

from dlild_analysis import (
    InputRejectedError,
    ModelFileError,
    build_model,
    predict_table,
    read_model,
)
from dlild_analysis.prediction import risk
from dlild_analysis.stats import cox


@pytest.fixture
def fitted(analysed):
    return analysed, build_model(analysed)


def test_risks_are_those_of_the_cox_model(fitted):
    analysis, model = fitted
    sample = analysis.data.sample(("score", "age", "sex"), "survival")
    event = (sample.status > 0).astype(int)
    fit = cox.fit_cox(sample.design, sample.time, event)
    expected = cox.predict_cox(fit, sample.design.iloc[:5], 12.0)
    model = json.loads(json.dumps(model))
    for index in range(5):
        row = analysis.data.cohort.patients.iloc[sample.position[index]]
        found = risk.risks(model, {"score": row["score"], "age": row["age"], "sex": row["sex"]})[0]
        assert found["risk"] == pytest.approx(expected.risk[index], rel=1e-9)
        assert found["low"] == pytest.approx(expected.ci_low[index], rel=1e-6)
        assert found["high"] == pytest.approx(expected.ci_high[index], rel=1e-6)


def test_refusal_names_value_and_range(fitted, tmp_path):
    _, model = fitted
    (tmp_path / "model.json").write_text(json.dumps(model))
    table = tmp_path / "new.csv"
    table.write_text("id,dl_ild_percent,age,sex\na,30,60,F\nb,99,60,F\nc,30,60,X\nd,,60,M\n")
    frame = predict_table(read_model(tmp_path / "model.json"), table)
    assert list(frame["refused"] != "") == [False, True, True, True]
    assert "score is 99; the model was fitted on" in frame["refused"][1]
    assert "the model knows F, M" in frame["refused"][2]
    assert 0 < frame["risk_12_low"][0] < frame["risk_12_months"][0] < frame["risk_24_months"][0] < 1
    assert frame["risk_24_months"][1:].isna().all()
    with pytest.raises(ValueError, match="fitted on"):
        risk.risks(model, {"score": 99, "age": 60, "sex": "F"})


def test_training_summary(fitted):
    _, model = fitted
    assert model["training"]["patients"] == 90
    assert model["training"]["events"] > 10
    assert model["research_use_only"] is True
    assert [item["name"] for item in model["inputs"]] == ["score", "age", "sex"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("no json", "not a saved model"),
        ("{}", "kind"),
        ('{"kind": "cox-progression-risk", "schema_version": 7}', "reads 1"),
        ('{"kind": "cox-progression-risk", "schema_version": 1}', "lacks 'inputs'"),
    ],
)
def test_broken_model_files(tmp_path, text, words):
    path = tmp_path / "m.json"
    path.write_text(text)
    with pytest.raises(ModelFileError, match=words):
        read_model(path)
    with pytest.raises(ModelFileError, match="no such file"):
        read_model(tmp_path / "none.json")


def test_absent_inputs_are_named(fitted, tmp_path):
    pd.DataFrame({"id": ["a"], "age": [60], "sex": ["F"]}).to_csv(tmp_path / "n.csv", index=False)
    with pytest.raises(InputRejectedError, match="no column 'dl_ild_percent'"):
        predict_table(fitted[1], tmp_path / "n.csv")


def test_evaluation_needs_numpy_only():
    tree = ast.parse(inspect.getsource(risk))
    roots = {
        node.module.split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)
    }
    roots |= {
        name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names
    }
    assert roots <= {"__future__", "collections", "typing", "numpy"}
    assert np.isnan(risk._number("x"))
