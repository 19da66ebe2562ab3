"""What was refused stays refused: models, rules, cut-offs, and means of what has no mean."""

from __future__ import annotations

import json

import numpy as np
import pytest

from dlild_analysis import analyse, write_report
from dlild_analysis.report.checklists import checklists
from dlild_analysis.simulate import STUDY_TOML
from dlild_analysis.stats import resampling
from dlild_analysis.stats.errors import StatisticsError
from dlild_analysis.steps.attempts import NotDone
from dlild_analysis.steps.logistic.logistic import LOGISTIC
from dlild_analysis.steps.roc.roc import ROC
from dlild_analysis.steps.validation import optimism
from dlild_analysis.steps.validation.calibration import CALIBRATION
from dlild_analysis.steps.validation.cross_validation import CROSS_VALIDATION
from dlild_analysis.steps.validation.decision_curves import DECISION_CURVES
from dlild_analysis.steps.validation.optimism import OPTIMISM, unstable

QUICK = STUDY_TOML + "bootstraps = 20\nrepeats = 1\n"
TWICE = QUICK.replace("[covariates]", '[covariates]\nmonths = "months"')


def twice(frame):
    return frame.assign(months=frame["age"] * 12)


@pytest.fixture
def collinear(load):
    return analyse(load(twice, toml=TWICE))


def test_a_collinear_model_is_not_validated(collinear, tmp_path):
    refused = collinear.of(LOGISTIC).multivariable
    assert "collinear" in refused.not_done_because
    corrected = collinear.of(OPTIMISM)
    for measured in (
        {item.name: item.auc for item in collinear.of(CROSS_VALIDATION).models},
        {item.name: item.auc for item in corrected.logistic},
        {item.name: item.harrell_c for item in corrected.cox},
    ):
        assert "collinear" in measured["full"].not_done_because
        assert not isinstance(measured["score"], NotDone)
    for items in (collinear.of(CALIBRATION).binary, collinear.of(DECISION_CURVES).curves):
        names = [item.name for item in items]
        assert "full" not in names
        assert "score" in names
    write_report(collinear, tmp_path)
    rows = next((tmp_path / "tables").glob("table*_validation.csv")).read_text().splitlines()
    joint = [row for row in rows if "DL-ILD + " in row]
    assert joint
    assert not any("0." in row for row in joint)


def test_a_model_with_too_few_patients_is_not_validated(load):
    def edit(frame):
        frame = frame.assign(event=0, time_months=24.0)
        frame.loc[[1, 40], ["event", "time_months"]] = [1, 8.0]
        return frame

    analysis = analyse(load(edit))
    assert "too few for 3 parameters" in analysis.of(LOGISTIC).multivariable.not_done_because
    models = {item.name: item for item in analysis.of(CROSS_VALIDATION).models}
    assert "too few for 3 parameters" in models["full"].auc.not_done_because


FRACTION = QUICK.replace(
    'column = "dl_ild_percent"', 'column = "dl_ild_percent"\nunit = "fraction"'
)


def hundredth(frame):
    return frame.assign(dl_ild_percent=frame["dl_ild_percent"] / 100)


@pytest.mark.parametrize(
    ("toml", "edit", "groups"),
    [(FRACTION, hundredth, 0.3), (FRACTION, hundredth, 30), (QUICK, None, 30)],
)
def test_a_cut_off_is_read_in_the_unit_of_the_score(load, toml, edit, groups):
    analysis = analyse(load(edit, toml=f"{toml}groups = {groups}\n"))
    chosen = analysis.of(ROC).cutoff
    assert chosen.cutoff == pytest.approx(30.0)
    plain = analyse(load(toml=QUICK + "groups = 30\n")).of(ROC).cutoff
    assert (chosen.high, chosen.low) == (plain.high, plain.low)
    assert any("was read as 30 %" in text for text in chosen.warnings) == (edit is not None)


def test_a_cut_off_between_fractions_falls_on_the_value_it_names(load):
    def edit(frame):
        frame = hundredth(frame)
        frame["dl_ild_percent"] = np.where(np.arange(len(frame)) % 2, 0.07, 0.29)
        return frame

    chosen = analyse(load(edit, toml=f"{FRACTION}groups = 0.29\n")).of(ROC).cutoff
    assert (chosen.high, chosen.low) == (45, 45)


def test_a_cut_off_that_looks_like_a_fraction_is_said(load):
    def edit(frame):
        frame.loc[0, "dl_ild_percent"] = 0.1
        return frame

    chosen = analyse(load(edit, toml=QUICK + "groups = 0.2\n")).of(ROC).cutoff
    assert chosen.cutoff == 0.2
    assert any("was read as 0.2 %" in text for text in chosen.warnings)


def test_a_rule_that_could_not_be_applied_is_not_called_robust(load, analysed):
    analysis = analyse(load(), all_rules=True)
    told = " ".join(analysis.steps["rules"].sentences(analysis.data))
    for rule in ("relative-decline@1", "pf-ild@1", "ppf-2022@1"):
        assert f"{rule} could not be applied" in told
    assert told.startswith("3 combinations of rule and handling of death")
    for item in (entry for one in checklists(analysis) for entry in one.items):
        if "sensitivity" in item.asks:
            assert "applied: recorded@1." in item.answer
            assert "ppf-2022@1 could not be applied" in item.answer
    (robust,) = (entry for entry in checklists(analysed)[1].items if "sensitivity" in entry.asks)
    assert "No other progression rule was tried" in robust.answer


def test_bootstrap_failures_name_the_model_and_the_reason(load):
    def edit(frame):
        rare = np.where(np.arange(len(frame)) < 2, "rare", frame["sex"])
        return frame.assign(sex=rare)

    analysis = analyse(load(edit))
    step = analysis.steps["optimism"]
    told = [text for text in step.warnings if "bootstrap samples failed" in text]
    assert told
    for text in told:
        assert "DL-ILD + Age + Sex" in text
        assert "times design: a constant column in this resample" in text or "times" in text
        assert text.rstrip(".").endswith(")")


def test_reasons_of_failed_resamples():
    def fit(train):
        if (train == 0).sum() > 2:
            raise StatisticsError("patient 0 is there too often")
        return lambda index: index.astype(float)

    found = resampling.optimism_bootstrap(
        fit, lambda index, _: float(len(index)), 5, rng=np.random.default_rng(1), bootstraps=200
    )
    assert found.failures > 0
    (told,) = found.warnings
    assert told.startswith(f"{found.failures} of 200 bootstrap samples failed and were left out")
    assert told.endswith(f"({found.failures} times patient 0 is there too often)")

    def often(train):
        if len(np.unique(train)) < 5:
            raise StatisticsError("somebody is missing")
        return lambda index: index

    with pytest.raises(StatisticsError, match=r"19 of 20 .* \(19 times somebody"):
        resampling.optimism_bootstrap(
            often, lambda index, _: 1.0, 5, rng=np.random.default_rng(3), bootstraps=20
        )


def slope(values):
    gaps = 1 - np.asarray(values, dtype=float)
    order = iter([1.0, *np.column_stack([1 + 0 * gaps, 1 - gaps]).ravel()])
    return resampling.optimism_bootstrap(
        lambda train: lambda index: index,
        lambda index, prediction: next(order),
        30,
        rng=np.random.default_rng(1),
        bootstraps=len(values),
        shifted_interval=False,
    )


def test_a_slope_that_ranges_widely_has_no_mean():
    wild = slope([-5.9, 12.4, *np.full(18, 0.9)])
    assert (wild.lowest, wild.highest) == pytest.approx((-5.9, 12.4))
    assert unstable(wild)
    calm = slope(np.linspace(0.7, 1.1, 20))
    assert (calm.lowest, calm.highest) == pytest.approx((0.7, 1.1))
    assert not unstable(calm)


def test_the_report_gives_the_range_instead_of_the_mean(load, tmp_path, monkeypatch):
    monkeypatch.setattr(optimism, "WIDEST_SLOPE", 0.01)
    analysis = analyse(load())
    (score,) = (item for item in analysis.of(OPTIMISM).logistic if item.name == "score")
    low, high = score.calibration_slope.lowest, score.calibration_slope.highest
    assert high - low > 0.01
    told = " ".join(analysis.steps["optimism"].sentences(analysis.data))
    assert f"{low:.2f} to {high:.2f} over the bootstraps: not stable, no mean is given" in told
    assert any("its mean is no result" in text for text in analysis.steps["optimism"].warnings)
    write_report(analysis, tmp_path)
    table = next((tmp_path / "tables").glob("table*_validation.csv")).read_text()
    assert f"not stable ({low:.2f} to {high:.2f})" in table
    results = json.loads((tmp_path / "results.json").read_text())
    stored = results["steps"]["optimism"]["values"]["logistic"][0]["calibration_slope"]
    assert stored["lowest"] == pytest.approx(low)
