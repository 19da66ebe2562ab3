from __future__ import annotations

import numpy as np
import pytest
from lifelines.statistics import multivariate_logrank_test

from dlild_analysis.stats import survival
from dlild_analysis.stats.errors import StatisticsError

TESTS = {
    "log_rank": {},
    "gehan": {"weight": "gehan"},
    "tarone_ware": {"weight": "tarone-ware"},
    "peto": {"weight": "fleming-harrington", "rho": 1.0},
    "late": {"weight": "fleming-harrington", "gamma": 1.0},
    "middle": {"weight": "fleming-harrington", "rho": 0.5, "gamma": 0.5},
}


@pytest.fixture
def lung(table):
    frame = table("lung")
    layer = frame["ph.ecog"].clip(upper=2)
    return frame["time"], frame["status"] - 1, frame["sex"], layer


@pytest.mark.parametrize("name", TESTS)
def test_weights_and_strata_against_r(golden, lung, table, name):
    expected, options = golden("logrank"), TESTS[name]
    time, event, sex, layer = lung
    veteran = table("veteran")
    cell = veteran["squamous"] + 2 * veteran["smallcell"] + 3 * veteran["adeno"]
    found = {
        "lung": survival.weighted_log_rank(time, event, sex, **options),
        "lung_strata": survival.weighted_log_rank(time, event, sex, strata=layer, **options),
        "veteran_strata": survival.weighted_log_rank(
            veteran["time"], veteran["status"], cell, strata=veteran["trt"], **options
        ),
    }
    for key, result in found.items():
        assert result.test.statistic == pytest.approx(expected[key][name]["chisq"], rel=1e-9)
        assert result.test.p_value == pytest.approx(expected[key][name]["p"], rel=1e-6)


def test_survdiff_has_the_same(golden, lung):
    expected = golden("logrank")
    time, event, sex, layer = lung
    found = survival.weighted_log_rank(time, event, sex, strata=layer)
    assert found.test.statistic == pytest.approx(expected["survdiff_strata"]["chisq"], rel=1e-9)
    assert list(found.observed) == expected["survdiff_strata"]["obs"]
    assert list(found.expected) == pytest.approx(expected["survdiff_strata"]["exp"], rel=1e-9)
    assert "stratified by 3 strata" in found.test.method


@pytest.mark.parametrize(("ours", "theirs"), [("gehan", "wilcoxon"), ("tarone-ware",) * 2])
def test_lifelines_has_the_same(lung, ours, theirs):
    time, event, sex, _ = lung
    found = survival.weighted_log_rank(time, event, sex, weight=ours)
    expected = multivariate_logrank_test(time, sex, event, weightings=theirs)
    assert found.test.statistic == pytest.approx(expected.test_statistic, rel=1e-9)


def test_plain_is_log_rank(lung):
    time, event, sex, _ = lung
    plain = survival.log_rank(time, event, sex)
    found = survival.weighted_log_rank(time, event, sex)
    assert found.test.statistic == pytest.approx(plain.test.statistic, rel=1e-9)
    assert found.expected == pytest.approx(plain.expected)


def test_a_group_to_itself_in_every_stratum_gives_no_test(lung):
    time, event, sex, _ = lung
    found = survival.weighted_log_rank(time, event, sex, strata=sex)
    assert np.isnan(found.test.p_value)
    assert "no test is possible" in found.warnings[0]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"weight": "wilcoxon"}, "use one of"),
        ({"rho": -1.0}, "0 or more"),
        ({"strata": [1, 2]}, "lengths differ"),
    ],
)
def test_bad_arguments(lung, options, words):
    time, event, sex, _ = lung
    with pytest.raises(StatisticsError, match=words):
        survival.weighted_log_rank(time, event, sex, **options)
    with pytest.raises(StatisticsError, match="two groups"):
        survival.weighted_log_rank(time, event, sex * 0)
    with pytest.raises(StatisticsError, match="0 events"):
        survival.weighted_log_rank(time, event * 0, sex)
