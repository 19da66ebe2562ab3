from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from dlild_analysis.stats import cox, incremental, logistic
from dlild_analysis.stats.errors import StatisticsError


def test_likelihood_ratio_of_cox_and_logistic(registry):
    time, event, y = registry["month"], registry["event"], registry["outcome"]
    for fit in (
        lambda columns: cox.fit_cox(registry[columns], time, event),
        lambda columns: logistic.fit_logistic(registry[columns], y),
    ):
        small, large = fit(["age"]), fit(["lesion", "age", "fvc"])
        found = incremental.likelihood_ratio_test(small, large)
        statistic = 2 * (large.log_likelihood - small.log_likelihood)
        assert found.statistic == pytest.approx(statistic)
        assert found.df == 2
        assert found.p_value == pytest.approx(stats.chi2.sf(statistic, 2))
        assert "adding lesion, fvc" in found.method


def test_models_that_cannot_be_compared(registry):
    y = registry["outcome"]
    age = logistic.fit_logistic(registry[["age"]], y)
    both = logistic.fit_logistic(registry[["age", "lesion"]], y)
    with pytest.raises(StatisticsError, match="not nested"):
        incremental.likelihood_ratio_test(logistic.fit_logistic(registry[["fvc"]], y), both)
    with pytest.raises(StatisticsError, match="nothing was added"):
        incremental.likelihood_ratio_test(age, age)
    fewer = logistic.fit_logistic(registry[["age"]][:150], y[:150])
    with pytest.raises(StatisticsError, match="different patients"):
        incremental.likelihood_ratio_test(fewer, both)
    firth = logistic.fit_logistic(registry[["age"]], y, penalty="firth")
    with pytest.raises(StatisticsError, match="penalised"):
        incremental.likelihood_ratio_test(firth, both)
    other = cox.fit_cox(registry[["age", "lesion"]], registry["time"], registry["event"])
    with pytest.raises(StatisticsError, match="one logistic and one Cox"):
        incremental.likelihood_ratio_test(age, other)


def test_reclassification_counted_by_hand():
    outcome = [1, 1, 1, 0, 0, 0, 0]
    old = np.array([0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5])
    new = np.array([0.7, 0.6, 0.4, 0.3, 0.4, 0.5, 0.6])
    found = incremental.reclassification(outcome, old, new)
    # Events: two up, one down. Others: one up, two down, one stays.
    assert found.nri_events == pytest.approx(1 / 3)
    assert found.nri_non_events == pytest.approx(1 / 4)
    assert found.nri.estimate == pytest.approx(1 / 3 + 1 / 4)
    assert found.idi.estimate == pytest.approx(0.2 / 3 + 0.2 / 4)
    assert "useless marker" in found.caveat
    assert found.to_dict()["caveat"] == found.caveat


def test_reclassification_refusals():
    with pytest.raises(StatisticsError, match="risk_new: found 3; risks lie"):
        incremental.reclassification([0, 1], [0.1, 0.2], [0.1, 3])
    same = incremental.reclassification([0, 0, 1, 1], [0.1] * 4, [0.1] * 4)
    assert same.nri.estimate == 0
    assert "no test is possible" in same.nri.warnings[0]
