"""Times that differ by rounding only are one time, and the horizon is one of them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from dlild_analysis.stats import calibration, competing_risks, cox, survival
from dlild_analysis.stats.arrays import as_survival, horizon_among, merge_tied_times
from dlild_analysis.stats.errors import StatisticsError

SMALL = np.array([0.1 + 0.2, 0.3, 0.3, 0.7, 0.1 * 7, 0.5])
EVENT = np.array([1, 1, 0, 1, 1, 0])
ARM = np.array([1.0, 0.0, 1.0, 0.0, 1.0, 0.0])


@pytest.fixture
def rounded(golden):
    """Give a cohort whose times in weeks were turned into months."""
    numbers = golden("ties")
    frame = pd.DataFrame(numbers["data"])
    first, last = (
        week * 7 / (365.25 / 12) for week in (frame["first"], frame["first"] + frame["length"])
    )
    return numbers, frame.assign(time=last - first)


def test_the_smallest_example():
    times, _ = as_survival(SMALL, EVENT)
    assert np.unique(times).tolist() == [0.3, 0.5, 0.7]
    assert cox.fit_cox(ARM, SMALL, EVENT).terms[0].beta == pytest.approx(0.0, abs=1e-9)
    assert survival.log_rank(SMALL, EVENT, ARM).test.statistic == pytest.approx(0.0, abs=1e-12)
    assert survival.harrell_c(SMALL, EVENT, ARM).estimate == pytest.approx(0.5)
    curve = survival.kaplan_meier(SMALL, EVENT)
    assert curve.times.tolist() == [0.3, 0.5, 0.7]
    assert curve.events.tolist() == [2, 0, 2]


@pytest.mark.parametrize("scale", [1e-3, 1.0, 365.25, 1e6])
def test_what_is_one_time_does_not_hang_on_the_unit(scale):
    merged = merge_tied_times(SMALL * scale)
    assert len(np.unique(merged)) == 3
    apart = np.array([1.0, 1.0 + 1e-6, 2.0]) * scale
    assert merge_tied_times(apart).tolist() == apart.tolist()


def test_unknown_times_stay_unknown():
    merged = merge_tied_times(np.array([np.nan, 0.1 + 0.2, 0.3]))
    assert np.isnan(merged[0])
    assert merged[1] == merged[2]


def test_against_r(rounded):
    expected, frame = rounded
    time, event = frame["time"].to_numpy(), frame["event"].to_numpy()
    assert len(np.unique(time)) == expected["distinct"][0]
    assert len(np.unique(as_survival(time, event)[0])) == expected["distinct"][1]
    curve = survival.kaplan_meier(time, event)
    assert curve.median.estimate == pytest.approx(expected["km"]["median"], rel=1e-12)
    assert len(curve.times) == expected["km"]["steps"]
    tested = survival.log_rank(time, event, frame["group"]).test
    assert tested.statistic == pytest.approx(expected["logrank"], rel=1e-9)
    fit = cox.fit_cox(frame[["x", "group"]], time, event)
    assert [term.beta for term in fit.terms] == pytest.approx(expected["cox"]["beta"], rel=1e-8)
    assert [term.std_error for term in fit.terms] == pytest.approx(expected["cox"]["se"], rel=1e-7)
    assert fit.log_likelihood == pytest.approx(expected["cox"]["loglik"], rel=1e-10)
    c = survival.harrell_c(time, event, frame["x"]).estimate
    assert c == pytest.approx(expected["concordance"], rel=1e-10)
    for cause, name in ((1, "progression"), (2, "death")):
        incidence = competing_risks.aalen_johansen(time, frame["status"], of=cause)
        found = competing_risks.incidence_at(incidence, [expected["incidence"]["time"]])[0]
        assert found.estimate == pytest.approx(expected["incidence"][name], rel=1e-9)


@pytest.mark.parametrize("horizon", [11, 12, 13, 36])
def test_the_censored_at_the_horizon_were_free_of_the_event(golden, registry, horizon):
    expected = golden("ties")["horizon"][f"h{horizon}"]
    censored_there = (registry["month"] == horizon) & (registry["event"] == 0)
    assert censored_there.sum() == expected["censored_there"] > 0
    month, event = registry["month"].to_numpy(float), registry["event"].to_numpy()
    brier = calibration.brier_survival(month, event, registry["risk"], horizon)
    assert brier.estimate == pytest.approx(expected["brier"], rel=1e-10)
    auc = survival.time_auc(month, event, registry["lesion"], horizon)
    assert auc.estimate == pytest.approx(expected["auc"], rel=1e-10)


@pytest.fixture
def closed():
    """Give 60 patients whose follow-up ends with the study, at 24 months; nobody is lost."""
    rng = np.random.default_rng(3)
    risk = rng.uniform(0.1, 0.8, 60)
    event = (rng.uniform(size=60) < risk).astype(int)
    return np.where(event == 1, rng.integers(1, 24, 60), 24).astype(float), event, risk


@pytest.mark.parametrize("nudge", [0.0, -4e-15, 4e-15])
def test_at_the_end_of_the_study_it_is_the_plain_score(closed, nudge):
    time, event, risk = closed
    time = np.where(event == 0, time + nudge, time)
    plain = float(np.mean((risk - event) ** 2))
    assert calibration.brier_survival(time, event, risk, 24).estimate == pytest.approx(plain)
    assert calibration.calibrate_survival(time, event, risk, 24).brier.estimate == pytest.approx(
        plain
    )
    high = risk[event == 1][:, None] > risk[event == 0]
    assert survival.time_auc(time, event, risk, 24).estimate == pytest.approx(high.mean())
    assert survival.survival_at(survival.kaplan_meier(time, event), [24])[0].n == (event == 0).sum()
    curve = calibration.decision_curve_survival(time, event, risk, 24, [0.3])
    called = risk >= 0.3
    benefit = (event[called].sum() - (1 - event[called]).sum() * 0.3 / 0.7) / 60
    assert curve.model[0] == pytest.approx(benefit)
    fit = cox.fit_cox(risk, time, event)
    assert cox.predict_cox(fit, [[0.5]], 24).risk[0] > 0
    assert survival.rmst(time, event, 24).estimate == pytest.approx(time.mean())


def test_before_and_behind_the_end_of_the_study(closed):
    time, event, risk = closed
    before = calibration.brier_survival(time, event, risk, 12).estimate
    assert before == pytest.approx(np.mean((risk - (event & (time <= 12))) ** 2))
    with pytest.raises(StatisticsError, match="beyond the longest follow-up, 24"):
        calibration.brier_survival(time, event, risk, 24.1)
    with pytest.raises(StatisticsError, match="followed to it without"):
        survival.time_auc(time, event, risk, 24.1)


def test_some_censored_at_the_horizon_and_few_followed_beyond(closed):
    time, event, risk = closed
    free = np.flatnonzero(event == 0)
    time = time.copy()
    time[free[:2]] = 36.0
    plain = float(np.mean((risk - event) ** 2))
    assert calibration.brier_survival(time, event, risk, 24).estimate == pytest.approx(plain)


@pytest.mark.parametrize("days", [365.25, 730.5, 1826.25])
def test_an_event_on_the_day_of_the_horizon_is_by_the_horizon(days):
    month = 365.25 / 12
    time = np.array([days / month, 0.5 * days / month, 2 * days / month, 2 * days / month])
    horizon = days / 365.25 * 12
    for shift in (-1, 0, 1):
        moved = np.nextafter(time, time + shift)
        found = survival.time_auc(moved, [1, 1, 0, 0], [4.0, 3.0, 2.0, 1.0], horizon)
        assert found.estimate == 1.0
        c = survival.uno_c(moved, [1, 1, 0, 0], [1.0, 3.0, 2.0, 4.0], horizon=horizon)
        assert c.estimate == pytest.approx(2 / 5)
        assert survival.survival_at(survival.kaplan_meier(moved, [1, 1, 0, 0]), [horizon])[
            0
        ].estimate == pytest.approx(0.5)
    assert horizon_among(horizon + 1e-3, time) == horizon + 1e-3
