"""Progression between visits, landmarks and follow-up scans."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from dlild_analysis import draw_visits, load_cohort, load_study
from dlild_analysis.errors import NotDoneError
from dlild_analysis.progression import assess
from dlild_analysis.simulate import STUDY_TOML, VISITS_TOML
from dlild_analysis.stats import cox, survival
from dlild_analysis.steps.attempts import NotDone
from dlild_analysis.steps.cutoff import choose_cutoff
from dlild_analysis.steps.data import Data
from dlild_analysis.steps.longitudinal import landmarks as landmark_step
from dlild_analysis.steps.longitudinal import time_between_visits as between
from dlild_analysis.steps.longitudinal import time_varying as varying

RULE = STUDY_TOML.replace('rule = "recorded"', 'rule = "fvc-relative-10"')


@pytest.fixture
def data(tmp_path, drawn) -> Data:
    """Draw visits with a scan every six months whose score rises by half a point a month."""
    rows = draw_visits(drawn, np.random.default_rng(8))
    start = rows["id"].map(drawn.set_index("id")["dl_ild_percent"])
    scanned = (rows["months"] % 6 == 0) & (rows["months"] > 0)
    rows["scan"] = (start + rows["months"] / 2).where(scanned).clip(upper=100)
    rows.to_csv(tmp_path / "visits.csv", index=False)
    drawn.to_csv(tmp_path / "cohort.csv", index=False)
    visits = VISITS_TOML.format(file="visits.csv") + 'score = "scan"\n'
    (tmp_path / "study.toml").write_text(RULE + visits)
    cohort = load_cohort(tmp_path / "cohort.csv", load_study(tmp_path / "study.toml"))
    return Data(cohort, assess(cohort))


def test_progression_between_visits(data):
    result = between.time_between_visits(data)
    assert result.patients == 90
    assert result.median_interval_months == pytest.approx(3.0, abs=0.5)
    ratios = [part.estimate for _, part in result.rows]
    assert all(1.0 < ratio < 10.0 for ratio in ratios)
    sample = data.sample(("score",), "survival")
    plain = cox.fit_cox(sample.design / 10, sample.time, sample.event).terms[0].hazard_ratio
    assert result.at_visit.estimate == pytest.approx(plain.estimate)
    assert len(set(ratios)) == 4
    assert between.populations(result, data)[0].n == 90


def test_recorded_outcomes_have_no_visits(load):
    cohort = load()
    with pytest.raises(NotDoneError, match="does not come from visits"):
        between.time_between_visits(Data(cohort, assess(cohort)))


def test_landmarks_are_cox_regression_from_the_month_on(data):
    result = landmark_step.landmarks(data, choose_cutoff(data))
    sample = data.sample(("score",), "survival")
    for item, months in zip(result.landmarks, (6.0, 12.0), strict=True):
        later = sample.time > months
        plain = cox.fit_cox(
            sample.design[later] / 10, sample.time[later] - months, sample.event[later]
        )
        assert item.patients == later.sum()
        assert item.score.estimate == pytest.approx(plain.terms[0].hazard_ratio.estimate)
        high = sample.design[later].to_numpy().ravel() >= choose_cutoff(data).cutoff
        expected = survival.log_rank(sample.time[later], sample.event[later], high)
        assert item.log_rank.test.p_value == pytest.approx(expected.test.p_value)
        assert item.fvc_decline.n <= item.patients
    stages = landmark_step.populations(result, data)
    assert stages[0].n + stages[0].missing[0].patients == result.eligible


def test_change_up_to_a_landmark(data):
    decline = landmark_step.relative_decline_by(data, 6.0)
    visits = data.cohort.visits
    own = visits[visits["patient"] == 0].set_index("time")["fvc_percent"]
    last = own[(own.index > 0) & (own.index <= 6)].iloc[-1]
    assert decline[0] == pytest.approx(100 * (own.loc[0.0] - last) / own.loc[0.0])
    rise = landmark_step.score_rise_by(data, 12.0)
    known = np.isfinite(rise)
    assert known.any()
    assert set(np.round(rise[known], 6)) <= {3.0, 6.0}


def test_follow_up_is_cut_at_the_scans(data):
    rows = varying.counting_process(data)
    assert (rows["stop"] > rows["start"]).all()
    ends = rows.groupby("patient")["stop"].max()
    np.testing.assert_allclose(ends, data.outcome.time[ends.index])
    assert rows["event"].sum() == data.outcome.events
    assert set(rows["start"]) <= {0.0, 6.0, 12.0, 18.0}
    np.testing.assert_allclose((rows["score"] - rows["baseline"]), rows["start"] / 2, atol=1e-9)
    result = varying.time_varying(data)
    assert result.scans == (rows["start"] > 0).sum()
    assert 1.0 < result.current.estimate < 10.0
    # The change is the same in all at one time: nothing can be learnt from it.
    assert (
        isinstance(result.change, NotDone)
        or not np.isfinite(result.change.std_error or 1e9)
        or (result.change.ci_high > 10 or result.change.ci_low < 1)
    )


def test_follow_up_scans_that_say_something(data):
    rng = np.random.default_rng(1)
    visits = data.cohort.visits
    progressing = pd.Series(data.outcome.status == 1)[visits["patient"]].to_numpy()
    rise = np.where(progressing, 4.0, 0.0) + rng.normal(0, 2, len(visits))
    data.cohort.visits["score"] = (visits["score"] + rise).clip(0, 100)
    result = varying.time_varying(data)
    assert result.change.ci_low > 1.0
    assert "follow-up scans" in " ".join(varying.sentences(result, data))


def test_scores_of_visits_are_checked(tmp_path, drawn):
    rows = draw_visits(drawn, np.random.default_rng(8)).assign(scan=np.nan)
    rows.loc[3, "scan"] = 130.0
    rows.to_csv(tmp_path / "visits.csv", index=False)
    drawn.to_csv(tmp_path / "cohort.csv", index=False)
    (tmp_path / "study.toml").write_text(
        RULE + VISITS_TOML.format(file="visits.csv") + 'score = "scan"\n'
    )
    with pytest.raises(Exception, match="130") as caught:
        load_cohort(tmp_path / "cohort.csv", load_study(tmp_path / "study.toml"))
    assert "visits.csv" in str(caught.value)
