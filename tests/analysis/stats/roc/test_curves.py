from __future__ import annotations

import numpy as np
import pytest
from examples import examples
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from dlild_analysis.stats import roc
from dlild_analysis.stats.errors import StatisticsError
from dlild_analysis.stats.intervals import wilson_interval

patients = st.lists(st.tuples(st.booleans(), st.integers(-20, 20)), min_size=4, max_size=60).filter(
    lambda rows: 0 < sum(r[0] for r in rows) < len(rows)
)


def split(rows):
    return np.array([r[0] for r in rows], dtype=int), np.array([r[1] for r in rows], dtype=float)


@pytest.mark.parametrize("marker", ["s100b", "ndka", "wfns"])
def test_auc_against_proc(golden, table, marker):
    expected, data = golden("roc")[marker], table("asah")
    found = roc.auc(data["outcome"], data[marker])
    assert found.estimate == pytest.approx(expected["auc"], rel=1e-10)
    assert found.std_error**2 == pytest.approx(expected["var"], rel=1e-9)
    assert [found.ci_low, found.ci_high] == pytest.approx(expected["ci"], rel=1e-9)


@pytest.mark.parametrize("marker", ["s100b", "ndka", "wfns"])
def test_logit_interval_has_delongs_variance_on_its_own_scale(golden, table, marker):
    expected, data = golden("roc")[marker], table("asah")
    found = roc.auc(data["outcome"], data[marker], interval="logit")
    odds = expected["auc"] / (1 - expected["auc"])
    factor = np.exp(1.959963984540054 * np.sqrt(expected["var"]) * (1 + odds) ** 2 / odds)
    assert found.estimate == pytest.approx(expected["auc"], rel=1e-10)
    assert found.ci_low == pytest.approx(odds / (odds + factor), rel=1e-8)
    assert found.ci_high == pytest.approx(odds * factor / (1 + odds * factor), rel=1e-8)
    assert "logit" in found.method


def test_logit_interval_where_there_is_none():
    perfect = roc.auc([0, 0, 1, 1], [1, 2, 3, 4], interval="logit")
    assert (perfect.ci_low, perfect.ci_high) == (1, 1)
    assert perfect.warnings
    with pytest.raises(StatisticsError, match="use 'delong' or 'logit'"):
        roc.auc([0, 1], [1, 2], interval="wald")


@pytest.mark.parametrize(("a", "b"), [("s100b", "wfns"), ("s100b", "ndka"), ("ndka", "wfns")])
def test_paired_delong_against_proc(golden, table, a, b):
    expected, data = golden("roc")[f"{a}_{b}"], table("asah")
    found = roc.compare_auc_paired(data["outcome"], data[a], data[b])
    assert found.z == pytest.approx(expected["z"], rel=1e-8)
    assert found.difference.p_value == pytest.approx(expected["p"], rel=1e-8)
    assert found.covariance == pytest.approx(expected["cov"], rel=1e-8)
    ci = [found.difference.ci_low, found.difference.ci_high]
    assert ci == pytest.approx(expected["ci"], rel=1e-8)


def test_unpaired_delong_against_proc(golden, table):
    expected, data = golden("roc")["unpaired"], table("asah")
    odd, even = data.iloc[::2], data.iloc[1::2]
    found = roc.compare_auc_unpaired(odd["outcome"], odd["s100b"], even["outcome"], even["ndka"])
    assert found.z == pytest.approx(expected["t"], rel=1e-8)
    assert found.difference.p_value == pytest.approx(expected["p"], rel=1e-8)
    assert f"{expected['df']:.2f}" in found.method


@pytest.mark.parametrize("marker", ["s100b", "wfns"])
def test_youden_against_proc(golden, table, marker):
    expected, data = golden("roc")[f"youden_{marker}"], table("asah")
    found = roc.youden_cutoff(data["outcome"], data[marker])
    assert found.cutoff == pytest.approx(expected["threshold"], rel=1e-9)
    assert found.point.sensitivity.estimate == pytest.approx(expected["sensitivity"], rel=1e-9)
    assert found.point.specificity.estimate == pytest.approx(expected["specificity"], rel=1e-9)
    assert found.tied_cutoffs == (found.cutoff,)


@pytest.mark.parametrize(("key", "hits", "total"), [("a", 26, 41), ("b", 0, 12), ("c", 12, 12)])
def test_wilson_against_r(golden, key, hits, total):
    found = wilson_interval(hits, total)
    expected = golden("roc")["wilson"][key]
    assert [found.ci_low, found.ci_high] == pytest.approx(expected, rel=1e-9, abs=1e-12)


@given(patients)
def test_auc_is_mann_whitney(rows):
    event, score = split(rows)
    u = stats.mannwhitneyu(score[event == 1], score[event == 0]).statistic
    pairs = event.sum() * (1 - event).sum()
    assert roc.auc(event, score).estimate == pytest.approx(u / pairs)
    assert roc.auc_value(event, score) == pytest.approx(u / pairs)


@given(patients)
def test_curve_area_and_ends(rows):
    event, score = split(rows)
    curve = roc.roc_curve(event, score)
    area = np.trapezoid(curve.true_positive_rate, curve.false_positive_rate)
    assert area == pytest.approx(roc.auc_value(event, score))
    assert (curve.false_positive_rate[0], curve.true_positive_rate[0]) == (0, 0)
    assert (curve.false_positive_rate[-1], curve.true_positive_rate[-1]) == (1, 1)
    assert np.all(np.diff(curve.thresholds) < 0)


@given(patients)
def test_monotone_transforms_and_turning_round(rows):
    event, score = split(rows)
    plain = roc.auc(event, score)
    bent = roc.auc(event, np.exp(score / 7) + 3)
    turned, swapped = roc.auc(event, -score), roc.auc(1 - event, score)
    assert bent.estimate == plain.estimate
    assert bent.std_error == pytest.approx(plain.std_error)
    assert turned.estimate == pytest.approx(1 - plain.estimate)
    assert swapped.estimate == pytest.approx(1 - plain.estimate)
    assert turned.std_error == pytest.approx(plain.std_error)


@given(patients, st.integers(0, 10**6))
def test_paired_test_of_a_score_against_itself_and_swapped(rows, seed):
    event, score = split(rows)
    same = roc.compare_auc_paired(event, score, score)
    assert (same.difference.estimate, same.difference.p_value) == (0, 1)
    other = np.random.default_rng(seed).normal(size=score.size)
    one = roc.compare_auc_paired(event, score, other)
    two = roc.compare_auc_paired(event, other, score)
    assert one.difference.estimate == pytest.approx(-two.difference.estimate)
    assert one.difference.std_error == pytest.approx(two.difference.std_error)


@given(patients)
@examples(50)
def test_youden_is_the_best_of_all_cutoffs(rows):
    event, score = split(rows)
    assume(np.ptp(score) > 0)
    found = roc.youden_cutoff(event, score)
    every = [roc.operating_point(event, score, c).youden for c in np.unique(score)[1:]]
    assert found.point.youden == pytest.approx(max(every))
    for cutoff in found.tied_cutoffs:
        assert roc.operating_point(event, score, cutoff).youden == pytest.approx(max(every))


def test_delong_variance_agrees_with_a_bootstrap(table):
    data = table("asah")
    event, score = data["outcome"].to_numpy(), data["s100b"].to_numpy()
    rng = np.random.default_rng(11)
    cases, others = np.flatnonzero(event == 1), np.flatnonzero(event == 0)
    draws = [
        roc.auc_value(event[i], score[i])
        for i in (
            np.r_[rng.choice(cases, cases.size), rng.choice(others, others.size)]
            for _ in range(2000)
        )
    ]
    # 2000 samples know a standard deviation to about 1.6 %; five times that is allowed.
    assert np.std(draws) == pytest.approx(roc.auc(event, score).std_error, rel=0.08)


def test_scores_that_differ_by_rounding_are_tied():
    event = [0, 1, 0, 1]
    assert roc.auc_value(event, [0.3, 0.1 + 0.2, 0.1, 0.5]) == roc.auc_value(
        event, [0.3, 0.3, 0.1, 0.5]
    )


def test_counts_at_a_cutoff():
    point = roc.operating_point([1, 1, 0, 0, 0], [5, 3, 3, 2, 1], 3)
    counts = point.true_positive, point.false_positive, point.true_negative, point.false_negative
    assert counts == (2, 1, 2, 0)
    assert point.ppv.estimate == pytest.approx(2 / 3)
    assert point.to_dict()["sensitivity"]["estimate"] == 1


@pytest.mark.parametrize("event", [[0, 0, 0], [1, 1, 1]])
def test_one_class_is_an_error(event):
    with pytest.raises(StatisticsError, match="both events and non-events"):
        roc.auc(event, [1, 2, 3])


def test_degenerate_scores_are_reported():
    constant = roc.auc([0, 1, 0, 1], [2, 2, 2, 2])
    assert constant.estimate == 0.5
    assert constant.p_value == 1
    assert constant.warnings
    perfect = roc.auc([0, 0, 1, 1], [1, 2, 3, 4])
    assert (perfect.estimate, perfect.ci_low, perfect.ci_high) == (1, 1, 1)
    assert "separates" in perfect.warnings[0]
    one = roc.auc([0, 0, 1], [1, 3, 2])
    assert "one patient" in one.warnings[0]
    with pytest.raises(StatisticsError, match="no cut-off divides"):
        roc.youden_cutoff([0, 1, 0, 1], [2, 2, 2, 2])
    with pytest.raises(StatisticsError, match="only 0 and 1"):
        roc.auc([0, 2, 1], [1, 2, 3])


def test_one_sided_delong_against_proc(golden, table):
    frame, expected = table("asah"), golden("roc")["one_sided"]
    odd = frame.index % 2 == 0
    for alternative in ("greater", "less"):
        paired = roc.compare_auc_paired(
            frame["outcome"], frame["s100b"], frame["wfns"], alternative=alternative
        )
        assert paired.difference.p_value == pytest.approx(expected[alternative], rel=1e-6)
        assert f"one-sided ({alternative})" in paired.method
        unpaired = roc.compare_auc_unpaired(
            frame["outcome"][odd],
            frame["s100b"][odd],
            frame["outcome"][~odd],
            frame["ndka"][~odd],
            alternative=alternative,
        )
        assert unpaired.difference.p_value == pytest.approx(
            expected[f"unpaired_{alternative}"], rel=1e-6
        )
    with pytest.raises(StatisticsError, match="alternative"):
        roc.compare_auc_paired(frame["outcome"], frame["s100b"], frame["wfns"], alternative="up")
