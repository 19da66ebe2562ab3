"""A saved model on another cohort: what is found, and the recalibrated model."""

from __future__ import annotations

import json
import math

import numpy as np
import pandas as pd
import pytest

from dlild_analysis import (
    calibrate,
    draw_cohort,
    load_cohort,
    load_study,
    parse_study,
    read_model,
)
from dlild_analysis.cli import main
from dlild_analysis.errors import InputRejectedError, NotDoneError
from dlild_analysis.prediction import risk
from dlild_analysis.report.validation import write_validation
from dlild_analysis.simulate import STUDY_TOML
from dlild_analysis.stats import cox, survival
from dlild_analysis.steps.attempts import NotDone
from dlild_analysis.steps.external_validation import validate_model

BETA, CENTRE = 0.045, 30.0


@pytest.fixture
def model(tmp_path):
    """Write a model of the score alone, whose truth is that of the simulated cohorts."""
    parameters = calibrate()
    saved = {
        "schema_version": risk.SCHEMA_VERSION,
        "kind": risk.KIND,
        "quantile": 1.959964,
        "inputs": [
            {
                "name": "score",
                "label": "DL-ILD",
                "column": "dl_ild_percent",
                "kind": "number",
                "factor": 1.0,
                "unit": "percent",
                "low": 0.0,
                "high": 70.0,
                "mean": 30.0,
            }
        ],
        "terms": [
            {
                "name": "score",
                "label": "DL-ILD",
                "level": None,
                "beta": parameters.beta / parameters.score_sd,
                "centre": parameters.score_mean,
            }
        ],
        "covariance": [[1e-4]],
        "baseline": [
            {
                "horizon_months": h,
                "cumulative_hazard": parameters.hazard_24 * (h / 24) ** parameters.shape,
                "variance": 1e-3,
                "gradient": [0.0],
            }
            for h in (12.0, 24.0)
        ],
        "training": {"study": "The source", "rule": "recorded@1"},
    }
    path = tmp_path / "model.json"
    path.write_text(json.dumps(saved))
    return path


@pytest.fixture
def cohort(tmp_path):
    def read(edit=lambda frame: frame, n=600, toml=STUDY_TOML):
        frame = draw_cohort(calibrate(), n, np.random.default_rng(5), dropout_24=0.2)
        edit(frame).to_csv(tmp_path / "new.csv", index=False)
        (tmp_path / "new.toml").write_text(toml)
        return load_cohort(tmp_path / "new.csv", load_study(tmp_path / "new.toml"))

    return read


@pytest.fixture
def registry_validation(golden, registry, tmp_path):
    """Validate the model of the golden on the registry."""
    expected = golden("validation")
    saved = {
        "inputs": [{"name": "score", "label": "DL-ILD", "kind": "number", "low": 0, "high": 100}],
        "terms": [{"name": "score", "label": "DL-ILD", "level": None, "beta": 0.03, "centre": 30}],
        "baseline": [
            {"horizon_months": at["months"], "cumulative_hazard": at["cumulative_hazard"]}
            for at in expected["horizons"]
        ],
    }
    registry.assign(id=np.arange(160)).to_csv(tmp_path / "registry.csv", index=False)
    study = parse_study(
        {
            "table": {"id": "id"},
            "score": {"column": "lesion"},
            "outcome": {"time": "time", "event": "event"},
        }
    )
    return expected, *validate_model(saved, load_cohort(tmp_path / "registry.csv", study))


def test_measures_against_r(registry_validation):
    expected, found, _ = registry_validation
    assert (found.used, found.unknown, found.lacking, found.outside) == (160, 0, 0, 0)
    assert found.slope.estimate == pytest.approx(expected["slope"]["beta"], rel=1e-8)
    assert found.slope.std_error == pytest.approx(expected["slope"]["se"], rel=1e-8)
    assert found.slope.p_value == pytest.approx(expected["slope"]["p_against_1"], rel=1e-7)
    assert found.concordance.estimate == pytest.approx(expected["concordance"]["c"], rel=1e-9)
    assert found.concordance.std_error == pytest.approx(expected["concordance"]["se"], rel=1e-7)
    for item, at in zip(found.horizons, expected["horizons"], strict=True):
        observed, ratio = item.observed, item.observed_over_expected
        assert observed.estimate == pytest.approx(at["observed"]["risk"], rel=1e-9)
        assert observed.std_error == pytest.approx(at["observed"]["se"], rel=1e-8)
        assert observed.ci_low == pytest.approx(at["observed"]["low"], rel=1e-8)
        assert observed.ci_high == pytest.approx(at["observed"]["high"], rel=1e-8)
        assert item.expected == pytest.approx(at["expected"], rel=1e-9)
        assert math.log(ratio.estimate) == pytest.approx(at["log_ratio"], rel=1e-8)
        assert ratio.std_error == pytest.approx(at["log_ratio_se"], rel=1e-8)
        (auc,), (brier,) = at["auc"], at["brier"]
        assert item.auc.estimate == pytest.approx(auc["AUC"], rel=1e-9)
        assert item.auc.std_error == pytest.approx(auc["se"], rel=1e-7)
        assert item.calibration.brier.estimate == pytest.approx(brier["Brier"], rel=1e-9)
        assert item.calibration.brier.std_error == pytest.approx(brier["se"], rel=1e-7)


def test_recalibrated_model_against_r(registry_validation):
    expected, _, again = registry_validation
    (term,) = again["terms"]
    assert term["beta"] == pytest.approx(0.03 * expected["slope"]["beta"], rel=1e-8)
    for base, at in zip(again["baseline"], expected["horizons"], strict=True):
        right = at["recalibrated"]
        assert base["cumulative_hazard"] == pytest.approx(right["hazard"], rel=1e-7)
        # R's error of the hazard at a linear predictor of zero, where the old model is centred.
        spread = (
            base["variance"] + expected["slope"]["se"] ** 2 * base["gradient"][0] ** 2 * 0.03**2
        )
        assert math.sqrt(spread) == pytest.approx(right["se"], rel=1e-6)


def test_the_true_model_is_calibrated(model, cohort):
    found, _ = validate_model(read_model(model), cohort())
    assert found.patients == found.used + found.unknown + found.lacking + found.outside
    assert found.slope.ci_low < 1 < found.slope.ci_high
    for item in found.horizons:
        ratio = item.observed_over_expected
        assert ratio.ci_low < 1 < ratio.ci_high
        assert item.calibration.ici < 0.06
        assert item.auc.estimate > 0.7


def test_measures_are_those_of_the_predicted_risks(model, cohort):
    saved, read = read_model(model), cohort()
    found, _ = validate_model(saved, read)
    patients = read.patients[read.patients["score"].between(0, 70)]
    event = (patients["status"] > 0).astype(int)
    risks = np.array([risk.risks(saved, {"score": v})[1]["risk"] for v in patients["score"]])
    at = found.horizons[1]
    assert found.used == len(patients)
    assert at.expected == pytest.approx(risks.mean())
    expected = survival.time_auc(patients["time"], event, risks, 24.0)
    assert at.auc.estimate == pytest.approx(expected.estimate)
    slope = cox.fit_cox(np.log(-np.log1p(-risks)), patients["time"], event).terms[0].beta
    assert found.slope.estimate == pytest.approx(slope, rel=1e-6)


def test_a_wrong_model_is_seen_and_recalibrated(model, cohort, tmp_path):
    saved = read_model(model)
    saved["terms"][0]["beta"] *= 2
    for base in saved["baseline"]:
        base["cumulative_hazard"] *= 3
    found, again = validate_model(saved, cohort())
    assert found.slope.estimate == pytest.approx(0.5, abs=0.12)
    assert found.horizons[1].observed_over_expected.ci_high < 0.9
    path = tmp_path / "model-recalibrated.json"
    path.write_text(json.dumps(again))
    better, _ = validate_model(read_model(path), cohort())
    assert better.slope.estimate == pytest.approx(1.0, abs=1e-6)
    assert better.horizons[1].observed_over_expected.estimate == pytest.approx(1.0, abs=0.05)
    assert better.concordance.estimate == pytest.approx(found.concordance.estimate)


def test_intervals_of_the_recalibrated_model_are_those_of_its_fit(model, cohort):
    saved, read = read_model(model), cohort()
    _, again = validate_model(saved, read)
    patients = read.patients[read.patients["score"].between(0, 70)]
    event = (patients["status"] > 0).astype(int)
    fit = cox.fit_cox(patients[["score"]], patients["time"], event)
    expected = cox.predict_cox(fit, [[20.0], [45.0]], 24.0)
    for index, score in enumerate((20.0, 45.0)):
        one = risk.risks(again, {"score": score})[1]
        assert one["risk"] == pytest.approx(expected.risk[index], rel=1e-6)
        assert one["low"] == pytest.approx(expected.ci_low[index], rel=1e-5)
        assert one["high"] == pytest.approx(expected.ci_high[index], rel=1e-5)


def test_who_is_left_out_is_counted(model, cohort):
    def edit(frame):
        frame.loc[0, "dl_ild_percent"] = np.nan
        frame.loc[1, "dl_ild_percent"] = 90.0
        frame.loc[2, "event"] = np.nan
        return frame

    found, _ = validate_model(read_model(model), cohort(edit))
    assert (found.lacking, found.unknown) == (1, 1)
    assert found.outside >= 1


def test_what_cannot_be_validated_is_refused(model, cohort):
    saved = read_model(model)
    lacking = {**saved, "inputs": [{**saved["inputs"][0], "name": "bmi", "label": "BMI"}]}
    with pytest.raises(InputRejectedError, match=r"covariates\.bmi"):
        validate_model(lacking, cohort())
    with pytest.raises(NotDoneError, match="no patient had the event"):
        validate_model(saved, cohort(lambda frame: frame.assign(event=0)))
    few, again = validate_model(saved, cohort(lambda frame: frame.head(12)))
    assert isinstance(again, NotDone)
    assert "too few" in few.warnings[0]


def test_a_horizon_beyond_follow_up_is_a_reason(model, cohort, tmp_path):
    def early(frame):
        return frame.assign(
            event=np.where(frame["time_months"] > 15, 0, frame["event"]),
            time_months=frame["time_months"].clip(upper=15),
        )

    found, again = validate_model(read_model(model), cohort(early))
    assert "beyond the longest follow-up" in found.horizons[1].not_done_because
    assert [base["horizon_months"] for base in again["baseline"]] == [12.0]
    written = write_validation(found, again, tmp_path / "out")
    assert {path.name for path in written} == {
        "validation.json",
        "validation.csv",
        "validation.html",
        "calibration.png",
        "calibration.svg",
        "decision_curves.png",
        "decision_curves.svg",
        "model-recalibrated.json",
    }
    assert math.isfinite(json.loads(written[0].read_text())["slope"]["estimate"])


def test_the_command(model, cohort, tmp_path, capsys):
    cohort()
    arguments = [str(tmp_path / "new.csv"), "--config", str(tmp_path / "new.toml")]
    out = tmp_path / "out"
    assert main(["validate", str(model), *arguments, "--out", str(out)]) == 0
    assert "observed over expected" in capsys.readouterr().out
    assert "<table" in (out / "validation.html").read_text()
    table = pd.read_csv(out / "validation.csv")
    assert table["Months"].tolist() == [12, 24]
    assert main(["validate", str(tmp_path / "none.json"), *arguments, "--out", str(out)]) == 3
    assert main(["validate", str(model), *arguments, "--out", str(model)]) == 2
