"""The analysis: every step, its order, its streams of chance, and cohorts that support little."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from dlild_analysis import analyse
from dlild_analysis.cohort.gap import gap_points
from dlild_analysis.errors import NotDoneError
from dlild_analysis.progression import assess
from dlild_analysis.report.results import results_dict
from dlild_analysis.simulate import STUDY_TOML
from dlild_analysis.stats.logistic import fit_logistic
from dlild_analysis.stats.results import Estimate
from dlild_analysis.steps.agreement.agreement import AGREEMENT
from dlild_analysis.steps.attempts import NotDone, attempt
from dlild_analysis.steps.cox.cox import COX
from dlild_analysis.steps.data import Data
from dlild_analysis.steps.sensitivity.imputation import IMPUTATION, _one_level, nelson_aalen
from dlild_analysis.steps.step import collect_warnings, thin
from dlild_analysis.steps.survival.kaplan_meier import KAPLAN_MEIER
from dlild_analysis.steps.validation import decision_curves, optimism
from dlild_analysis.steps.validation.decision_curves import DECISION_CURVES
from dlild_analysis.steps.validation.models import fit_quickly
from dlild_analysis.steps.validation.optimism import OPTIMISM

QUICK = STUDY_TOML + "bootstraps = 20\nrepeats = 1\n"
ORDER = [
    "table_one",
    "correlations",
    "logistic",
    "roc",
    "kaplan_meier",
    "cox",
    "cross_validation",
    "optimism",
    "calibration",
    "decision_curves",
    "time_auc",
    "concordance",
    "incremental",
    "competing_risks",
    "subgroups",
    "landmarks",
    "risk_table",
    "sample_size",
    "cutoffs",
]


def test_decision_curves_at_a_given_prevalence(load):
    analysis = analyse(load(toml=QUICK + "prevalence = 0.15\n"))
    found = analysis.of(DECISION_CURVES)
    odds = decision_curves.THRESHOLDS / (1 - decision_curves.THRESHOLDS)
    assert found.curves[0].result.treat_all == pytest.approx(0.15 - 0.85 * odds)
    assert any(
        "15.0" in text for text in analysis.steps["decision_curves"].sentences(analysis.data)
    )
    (axes,) = decision_curves.figure(found, analysis).axes
    assert "at a prevalence of 15.0" in axes.get_ylabel()


def test_every_step_in_order(load):
    analysis = analyse(load(), all_rules=True)
    assert list(analysis.steps) == [*ORDER, "rules"]
    assert all(step.done for step in analysis.steps.values())
    written = results_dict(analysis)
    assert written["steps"]["roc"]["computed_with"]["scipy"] == analysis.versions["scipy"]
    assert written["rule"]["name"] == "recorded@1"
    area = written["steps"]["roc"]["values"]["curves"][0]["result"]["auc"]
    assert area["method"].startswith("AUC")
    assert 0.5 < area["estimate"] < 1


def test_imputation_and_agreement(load):
    def edit(frame):
        rng = np.random.default_rng(1)
        frame["age"] = frame["age"].where(rng.random(len(frame)) > 0.15)
        return frame.assign(
            r1=frame["dl_ild_percent"], r2=frame["dl_ild_percent"] + rng.normal(0, 1, len(frame))
        )

    toml = QUICK.replace("[table]", '[table]\nmissing = "multiple-imputation"\nimputations = 3')
    cohort = load(edit, toml=toml, extra='\n[readings]\ncolumns = ["r1", "r2"]\n')
    analysis = analyse(cohort)
    pooled = analysis.of(IMPUTATION).cox
    assert [item.name for item in pooled] == ["DL-ILD", "Age", "Sex: M"]
    assert pooled[0].n == 90
    assert analysis.of(COX).multivariable.missing > 0
    assert analysis.of(AGREEMENT).icc.icc_2_1.estimate > 0.9
    again = analyse(cohort).of(IMPUTATION).cox
    assert [item.ratio for item in pooled] == [item.ratio for item in again]


@pytest.mark.parametrize("groups", ["median", 30.0])
def test_groups_as_asked(load, groups):
    value = f'"{groups}"' if isinstance(groups, str) else groups
    analysis = analyse(load(toml=QUICK + f"groups = {value}\n"))
    assert analysis.cutoff.origin in ("median", "given by the study")
    assert not isinstance(analysis.of(KAPLAN_MEIER).groups, NotDone)


def test_status_at_the_horizon_is_unknown_for_those_lost_early(load):
    data = Data(load(), assess(load()))
    early = (data.outcome.status == 0) & (data.outcome.time < 23)
    assert early.any()
    assert np.isnan(data.progressed()[early]).all()
    with pytest.raises(NotDoneError, match="no FVC"):
        data.column("fvc_litres")


def test_gap_points(load):
    def edit(frame):
        frame.loc[0, ["sex", "age", "fvc_percent", "dlco_percent"]] = ["M", 70, 45.0, 30.0]
        frame.loc[1, ["sex", "age", "fvc_percent", "dlco_percent"]] = ["F", 60, 90.0, 60.0]
        return frame

    points = gap_points(load(edit))
    assert (points[0], points[1]) == (7, 0)
    assert (
        gap_points(
            load(
                lambda frame: (
                    frame.assign(sex=np.where(frame["sex"] == "F", "F", "M"))
                    .drop(columns="age")
                    .assign(age="")
                )
            )
        )
        is None
    )


def test_quick_logistic_is_the_logistic(drawn):
    matrix = drawn[["dl_ild_percent", "age"]].to_numpy(dtype=float)
    outcome = (drawn["event"] == 1).to_numpy(dtype=float)
    slow, quick = fit_logistic(matrix, outcome), fit_quickly(matrix, outcome)
    np.testing.assert_allclose(quick.beta, [term.beta for term in slow.terms], rtol=1e-6)
    assert quick.log_likelihood == pytest.approx(slow.log_likelihood)
    separated = fit_quickly(np.arange(20.0)[:, None], (np.arange(20) > 9).astype(float))
    assert np.isfinite(separated.beta).all()


def test_nelson_aalen():
    np.testing.assert_allclose(
        nelson_aalen(np.array([1.0, 2, 2, 3]), np.array([1, 1, 0, 1])),
        [0.25, 0.25 + 1 / 3] * 1 + [0.25 + 1 / 3, 0.25 + 1 / 3 + 1],
    )


def test_parts_that_fail_become_reasons():
    assert isinstance(attempt(math.sqrt, -1.0), NotDone)
    assert isinstance(attempt(np.linalg.inv, np.zeros((2, 2))), NotDone)
    estimate = Estimate(estimate=1.0, ci_low=0.0, ci_high=2.0, n=3, method="m", warnings=("x",))
    assert collect_warnings({"a": [estimate]}) == ["x"]
    assert len(thin(list(range(5_000)))) == 1_000


def flat(column, value):
    return lambda frame: frame.assign(**{column: value})


def separated(frame):
    high = frame["dl_ild_percent"] > frame["dl_ild_percent"].median()
    return frame.assign(
        event=high.astype(int), time_months=np.where(high, 10 + np.arange(len(frame)) * 0.1, 24.0)
    )


def tied(frame):
    return frame.assign(
        dl_ild_percent=np.where(frame["dl_ild_percent"] > 32, 40.0, 20.0),
        fvc_percent=70.0,
        visual_score=9.0,
        time_months=np.where(frame["event"] == 1, 12.0, 24.0),
    )


def one_event(frame):
    frame["event"] = 0
    frame.loc[3, ["event", "time_months"]] = [1, 9.0]
    return frame


def ranked(frame):
    frame = frame.sort_values("dl_ild_percent", ascending=False, ignore_index=True)
    return frame.assign(time_months=np.linspace(1, 24, len(frame)), event=1)


@pytest.mark.parametrize(
    ("edit", "undone"),
    [
        (flat("event", 0), {"logistic", "roc", "cox", "concordance"}),
        (one_event, {"calibration"}),
        (separated, set()),
        (flat("dl_ild_percent", 30.0), {"cutoffs", "incremental"}),
        (tied, set()),
        (
            lambda frame: frame.head(3).assign(event=[1, 0, 1], time_months=[5.0, 24.0, 11.0]),
            {"cox", "roc"},
        ),
        (lambda frame: frame.head(1), {"kaplan_meier", "cox", "roc"}),
        (flat("event", 1), set()),
        (flat("event", 2), set()),
        (flat("time_months", 12.0), {"roc"}),
        (flat("dl_ild_percent", np.nan), {"cutoffs", "incremental"}),
        (ranked, {"roc"}),
    ],
)
def test_degenerate_cohorts_end_in_results_and_reasons(load, edit, undone):
    analysis = analyse(load(edit))
    assert list(analysis.steps) == ORDER
    assert undone <= {name for name, step in analysis.steps.items() if not step.done}
    for step in analysis.steps.values():
        assert step.done or step.because


def test_events_must_exceed_parameters(load):
    def edit(frame):
        keep = pd.concat([frame[frame["event"] == 1].head(2), frame[frame["event"] == 0].head(30)])
        return keep.reset_index(drop=True)

    part = analyse(load(edit)).of(COX).multivariable
    assert "too few for 3 parameters" in part.not_done_because


def test_what_a_crowd_leaves_out_is_said(load, monkeypatch):
    monkeypatch.setattr(optimism, "LARGE_COHORT", 50)
    analysis = analyse(load())
    models = analysis.of(OPTIMISM).logistic
    left_out = [item.name for item in models if isinstance(item.auc, NotDone)]
    assert left_out == ["score_spline", "full_selected"]
    told = " ".join(analysis.steps["optimism"].sentences(analysis.data))
    assert "Not bootstrapped: DL-ILD, straight or spline and DL-ILD + Age + Sex, backward" in told
    assert "above 50 patients" in told


def test_an_imputed_patient_is_in_one_level_of_a_category():
    table = pd.DataFrame({"a": [1.0, 0, 1, 0], "b": [1.0, 1, 0, 0], "age": [60.0, 61, 62, 63]})
    _one_level(table, ["a", "b"], np.random.default_rng(1))
    assert table[["a", "b"]].sum(axis=1).tolist() == [1, 1, 1, 0]
    assert table["age"].tolist() == [60, 61, 62, 63]
