from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lifelines import KaplanMeierFitter

from dlild_analysis.stats import survival
from dlild_analysis.stats.errors import StatisticsError

follow_up = st.lists(st.tuples(st.integers(0, 30), st.booleans()), min_size=2, max_size=60)


@pytest.mark.parametrize("scale", ["log-log", "log", "plain"])
def test_kaplan_meier_of_lung_against_r(golden, table, scale):
    data = table("lung")
    expected = golden("survival")[f"km_lung_{scale.replace('-', '')}"]
    curve = survival.kaplan_meier(data["time"], data["status"] - 1, conf_type=scale)
    check_points(survival.survival_at(curve, [100, 365, 730]), expected)


def check_points(found, expected):
    keys = {"estimate": "surv", "std_error": "se", "ci_low": "low", "ci_high": "high", "n": "risk"}
    for ours, theirs in keys.items():
        assert [getattr(f, ours) for f in found] == pytest.approx(expected[theirs], rel=1e-9)


def test_kaplan_meier_with_ties_against_r(golden, table, registry):
    veteran = table("veteran")
    curve = survival.kaplan_meier(veteran["time"], veteran["status"])
    check_points(survival.survival_at(curve, [30, 90, 180]), golden("survival")["km_veteran"])
    curve = survival.kaplan_meier(registry["month"], registry["event"])
    check_points(survival.survival_at(curve, [6, 12, 24]), golden("survival")["km_registry"])


@pytest.mark.parametrize("name", ["lung", "veteran"])
def test_median_against_r(golden, table, name):
    data = table(name)
    event = data["status"] - 1 if name == "lung" else data["status"]
    median = survival.kaplan_meier(data["time"], event).median
    found = [median.estimate, median.ci_low, median.ci_high]
    assert found == golden("survival")[f"median_{name}"]


def logrank_groups(table, name):
    data = table(name)
    if name == "lung":
        return data["time"], data["status"] - 1, data["sex"]
    if name == "ovarian":
        return data["futime"], data["fustat"], data["rx"]
    if name == "veteran":
        cell = data["squamous"] + 2 * data["smallcell"] + 3 * data["adeno"]
        return data["time"], data["status"], cell
    return data["time"], data["status"] == 2, data["edema"]


@pytest.mark.parametrize("name", ["lung", "ovarian", "veteran", "pbc"])
def test_log_rank_against_r(golden, table, name):
    expected = golden("survival")[f"logrank_{name}"]
    found = survival.log_rank(*logrank_groups(table, name))
    assert found.test.statistic == pytest.approx(expected["chisq"], rel=1e-8)
    assert found.test.p_value == pytest.approx(expected["p"], rel=1e-6)
    assert found.observed == tuple(expected["obs"])
    assert found.expected == pytest.approx(expected["exp"], rel=1e-9)


def test_restricted_means_against_r(golden, table):
    expected, lung, ovarian = golden("survival")["rmst"], table("lung"), table("ovarian")
    one = survival.rmst(lung["time"], lung["status"] - 1, 365)
    assert [one.estimate, one.std_error] == pytest.approx(expected["lung"], rel=1e-9)
    two = survival.rmst_difference(ovarian["futime"], ovarian["fustat"], ovarian["rx"] - 1, 600)
    for found, key in ((two.reference, "rx1"), (two.other, "rx2")):
        assert [found.estimate, found.std_error] == pytest.approx(expected[key], rel=1e-9)
    gap = expected["rx2"][0] - expected["rx1"][0]
    assert two.difference.estimate == pytest.approx(gap, rel=1e-9)
    error = np.hypot(expected["rx1"][1], expected["rx2"][1])
    assert two.difference.std_error == pytest.approx(error, rel=1e-9)


@given(follow_up)
def test_kaplan_meier_is_that_of_lifelines(rows):
    time, event = (np.array(c) for c in zip(*rows, strict=True))
    curve = survival.kaplan_meier(time, event)
    theirs = KaplanMeierFitter().fit(time, event).survival_function_at_times(curve.times)
    assert curve.survival == pytest.approx(theirs.to_numpy())
    assert np.all(np.diff(curve.survival) <= 0)
    assert np.all(curve.at_risk >= curve.events + curve.censored)


@given(follow_up)
def test_numbers_at_risk_count_those_who_reach(rows):
    time = np.array([r[0] for r in rows])
    found = survival.numbers_at_risk(time, [0, 5, 31])
    assert found == (time.size, int((time >= 5).sum()), 0)


@given(follow_up, st.integers(1, 20))
def test_restricted_mean_without_censoring_is_the_mean(rows, horizon):
    time = np.array([r[0] for r in rows], dtype=float)
    found = survival.rmst(time, np.ones(time.size), horizon)
    assert found.estimate == pytest.approx(np.minimum(time, horizon).mean())


def test_no_events_is_a_flat_curve_with_a_warning():
    curve = survival.kaplan_meier([3, 8, 9], [0, 0, 0])
    assert curve.survival.tolist() == [1, 1, 1]
    assert "no events" in curve.warnings[0]
    assert "not reached" in curve.median.warnings[0]
    (found,) = survival.survival_at(curve, [5])
    assert (found.estimate, found.ci_low, found.ci_high) == (1, 1, 1)
    assert "no width" in found.warnings[0]
    with pytest.raises(StatisticsError, match="0 events"):
        survival.log_rank([3, 8, 9], [0, 0, 0], [0, 1, 1])
    assert survival.rmst([3, 8, 9], [0, 0, 0], 5).warnings


def test_beyond_follow_up_nothing_is_claimed():
    curve = survival.kaplan_meier([3, 8, 9], [1, 0, 0])
    (late,) = survival.survival_at(curve, [10])
    assert np.isnan(late.estimate)
    assert "beyond the longest follow-up" in late.warnings[0]
    assert late.to_dict()["estimate"] is None
    with pytest.raises(StatisticsError, match="beyond the longest"):
        survival.rmst([3, 8, 9], [1, 0, 0], 10)
    # Once everybody has had the event survival is known for good.
    dead = survival.kaplan_meier([3, 8], [1, 1])
    (gone,) = survival.survival_at(dead, [10])
    assert gone.estimate == 0
    assert "zero" in gone.warnings[0]


def test_refusals():
    with pytest.raises(StatisticsError, match="-1 at position 1; follow-up cannot be negative"):
        survival.kaplan_meier([1, -1], [0, 1])
    with pytest.raises(StatisticsError, match="log-log"):
        survival.kaplan_meier([1, 2], [0, 1], conf_type="logit")
    with pytest.raises(StatisticsError, match="two groups"):
        survival.log_rank([1, 2], [0, 1], ["a", "a"])
    with pytest.raises(StatisticsError, match="from 0 on"):
        survival.survival_at(survival.kaplan_meier([1, 2], [0, 1]), [-1])
    with pytest.raises(StatisticsError, match="positive time"):
        survival.rmst([1, 2], [0, 1], 0)


def test_influence_has_the_error_of_greenwood(registry):
    for time in (registry["time"], registry["month"]):
        curve = survival.kaplan_meier(time, registry["event"])
        for month in (6, 24):
            influence = survival.risk_influence(time, registry["event"], month)
            assert influence.mean() == pytest.approx(0, abs=1e-12)
            (alive,) = survival.survival_at(curve, [month])
            error = np.sqrt((influence**2).sum()) / len(time)
            assert error == pytest.approx(alive.std_error, rel=1e-9)
    assert not survival.risk_influence([1, 2], [1, 1], 3).any()
