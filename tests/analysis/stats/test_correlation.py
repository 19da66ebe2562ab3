from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dlild_analysis.stats import correlation
from dlild_analysis.stats.errors import StatisticsError


def test_pearson_and_spearman_against_r(golden, registry):
    expected = golden("correlation")
    for name in ("pearson", "spearman"):
        found = getattr(correlation, name)(registry["lesion"], registry["fvc"])
        assert found.estimate == pytest.approx(expected[name]["estimate"], rel=1e-9)
        assert [found.ci_low, found.ci_high] == pytest.approx(expected[name]["ci"], rel=1e-9)
        assert found.p_value == pytest.approx(expected[name]["p"], rel=1e-6)


@pytest.mark.parametrize(
    ("key", "arguments"),
    [("overlap", (-0.762, -0.571, 0.7, 112)), ("overlap_positive", (0.5, 0.3, 0.4, 103))],
)
def test_dependent_comparison_against_r(golden, key, arguments):
    expected, found = golden("correlation")[key], correlation.compare_dependent(*arguments)
    tests = found.tests
    # psych reports Williams' t without its sign.
    assert abs(tests["williams"].statistic) == pytest.approx(abs(expected["williams"]), rel=1e-9)
    assert tests["williams"].p_value == pytest.approx(expected["williams_p"], rel=1e-6)
    for name in ("steiger", "meng", "hotelling"):
        assert tests[name].statistic == pytest.approx(expected[name], rel=1e-9)
    assert tests["steiger"].p_value == pytest.approx(expected["steiger_p"], rel=1e-6)
    assert tests["hotelling"].p_value == pytest.approx(expected["hotelling_p"], rel=1e-6)
    ci = [found.difference.ci_low, found.difference.ci_high]
    assert ci == pytest.approx(expected["zou"], rel=1e-9)


COCOR = {
    "pearson_filon": "pearson1898",
    "hotelling": "hotelling1940",
    "williams": "williams1959",
    "olkin": "olkin1967",
    "dunn_clark": "dunn1969",
    "hendrickson": "hendrickson1970",
    "steiger": "steiger1980",
    "meng": "meng1992",
    "hittner": "hittner2003",
    "raghunathan": "raghunathan1996",
    "silver": "silver2004",
    "fisher": "fisher1925",
}


def check_against_cocor(tests, difference, expected):
    for name, test in tests.items():
        if name != "fisher_independent":
            theirs = expected[COCOR[name]]
            assert test.statistic == pytest.approx(theirs["statistic"], rel=1e-9), name
            assert test.p_value == pytest.approx(theirs["p.value"], rel=1e-6), name
    ci = [difference.ci_low, difference.ci_high]
    assert ci == pytest.approx(expected["zou2007"]["conf.int"], rel=1e-9)


@pytest.mark.parametrize(
    ("key", "arguments"),
    [("overlap", (-0.762, -0.571, 0.7, 112)), ("overlap_positive", (0.5, 0.3, 0.4, 103))],
)
def test_overlapping_correlations_against_cocor(golden, key, arguments):
    expected, found = golden("cocor")[key], correlation.compare_dependent(*arguments)
    assert len(found.tests) == 10
    check_against_cocor(found.tests, found.difference, expected)
    ci = [found.z_difference.ci_low, found.z_difference.ci_high]
    assert ci == pytest.approx(expected["meng1992"]["conf.int"], rel=1e-9)


def test_nonoverlapping_and_independent_correlations_against_cocor(golden):
    expected = golden("cocor")
    matrix = expected["apart"]["correlations"]
    found = correlation.compare_nonoverlapping(matrix, 112)
    assert len(found.tests) == 5
    check_against_cocor(found.tests, found.difference, expected["apart"]["result"])
    two = correlation.compare_samples(-0.762, 112, -0.571, 90)
    check_against_cocor(two.tests, two.difference, expected["independent"])


def test_equal_correlations_have_an_interval():
    found = correlation.compare_dependent(0.4, 0.4, 0.5, 60)
    assert found.z_difference.estimate == 0
    assert found.z_difference.ci_low == pytest.approx(-found.z_difference.ci_high)
    assert found.z_difference.ci_high > 0


@pytest.mark.parametrize(
    ("matrix", "n", "words"),
    [
        (np.eye(3), 50, "shape"),
        (np.eye(4), 3, "more than 3"),
        (np.ones((4, 4)), 50, "strictly between"),
        (
            0.9 * np.array([[0, 1, 1, -1], [1, 0, -1, 1], [1, -1, 0, 1], [-1, 1, 1, 0]])
            + np.eye(4),
            50,
            "no data",
        ),
    ],
)
def test_matrices_that_cannot_be(matrix, n, words):
    with pytest.raises(StatisticsError, match=words):
        correlation.compare_nonoverlapping(matrix, n)


def test_independent_comparison_against_r(golden):
    expected = golden("correlation")["independent"]
    found = correlation.compare_independent(-0.762, 112, -0.571, 90)
    assert found.statistic == pytest.approx(-expected["z"], rel=1e-9)
    assert found.p_value == pytest.approx(expected["p"], rel=1e-6)


def test_scores_are_compared_through_their_correlations(golden, registry):
    expected = golden("correlation")["scores"]
    found = correlation.compare_dependent_scores(
        registry["lesion"], registry["visual"], registry["fvc"]
    )
    assert found.r_a == pytest.approx(expected["a"], rel=1e-9)
    assert found.r_b == pytest.approx(expected["b"], rel=1e-9)
    assert found.r_ab == pytest.approx(expected["ab"], rel=1e-9)
    assert found.tests["steiger"].statistic == pytest.approx(
        expected["result"]["steiger"], rel=1e-9
    )


def test_published_examples():
    # Meng, Rosenthal and Rubin 1992, page 173: Z = 1.68.
    assert correlation.compare_dependent(0.63, -0.03, -0.19, 15).tests[
        "meng"
    ].statistic == pytest.approx(1.68, abs=0.005)
    # Zou 2007, overlapping example: -0.093 to 0.517.
    zou = correlation.compare_dependent(0.396, 0.179, 0.088, 66).difference
    assert (zou.ci_low, zou.ci_high) == pytest.approx((-0.093, 0.517), abs=0.0005)


@given(st.floats(-0.8, 0.8), st.floats(-0.8, 0.8), st.floats(0.0, 0.6), st.integers(10, 500))
def test_swapping_scores_turns_every_sign(r_a, r_b, r_ab, n):
    determinant = 1 - r_a**2 - r_b**2 - r_ab**2 + 2 * r_a * r_b * r_ab
    if determinant <= 1e-6:
        with pytest.raises(StatisticsError):
            correlation.compare_dependent(r_a, r_b, r_ab, n if determinant <= 0 else 3)
        return
    one = correlation.compare_dependent(r_a, r_b, r_ab, n)
    other = correlation.compare_dependent(r_b, r_a, r_ab, n)
    for name, test in one.tests.items():
        assert test.statistic == pytest.approx(-other.tests[name].statistic, abs=1e-9)
        assert test.p_value == pytest.approx(other.tests[name].p_value, abs=1e-9)
    assert one.difference.ci_low == pytest.approx(-other.difference.ci_high, abs=1e-9)


def test_spearman_ignores_monotone_transforms(registry):
    plain = correlation.spearman(registry["lesion"], registry["fvc"])
    bent = correlation.spearman(np.exp(registry["lesion"] / 20), registry["fvc"] ** 3)
    assert plain.estimate == pytest.approx(bent.estimate, rel=1e-12)


def test_opposite_signs_are_warned_of():
    assert "opposite signs" in correlation.compare_dependent(0.5, -0.4, 0.1, 50).warnings[0]


@pytest.mark.parametrize(
    ("x", "y", "words"),
    [
        ([1, 2], [1, 2], "at least 3"),
        ([1, 1, 1], [1, 2, 3], "constant correlates"),
        ([1, 2, np.nan], [1, 2, 3], "position 2"),
        ([1, 2, 3, 4], [1, 2, 3], "lengths differ"),
        (["a", "b", "c"], [1, 2, 3], "not numeric"),
        ([1e200, 2e200, 3e200], [1, 2, 3], "change the unit"),
    ],
)
def test_bad_input_is_named(x, y, words):
    with pytest.raises(StatisticsError, match=words):
        correlation.pearson(x, y)


def test_degenerate_but_defined():
    line = correlation.pearson([1, 2, 3, 4], [2, 4, 6, 8])
    assert (line.estimate, line.p_value) == (1.0, 0.0)
    assert "no width" in line.warnings[0]
    three = correlation.pearson([1, 2, 3], [1, 3, 2])
    assert (three.ci_low, three.ci_high) == (-1, 1)
    assert three.warnings


def test_impossible_correlations_are_refused():
    with pytest.raises(StatisticsError, match="cannot occur together"):
        correlation.compare_dependent(0.9, -0.9, 0.9, 50)
    with pytest.raises(StatisticsError, match="strictly between"):
        correlation.compare_dependent(1.0, 0.5, 0.5, 50)
    with pytest.raises(StatisticsError, match="more than 3"):
        correlation.compare_independent(0.1, 3, 0.2, 10)
