from __future__ import annotations

import pytest

from dlild_analysis.stats import sample_size
from dlild_analysis.stats.errors import StatisticsError


def test_published_binary_example():
    # Riley et al. BMJ 2020;368:m441, and Ensor's pmsampsize: prevalence 0.174, R2 0.288,
    # 24 parameters: 623, 662 and 221 patients.
    found = sample_size.sample_size_binary(1000, 174, 24, r2_cox_snell=0.288)
    assert list(found.criteria.values()) == [623, 662, 221]
    assert found.required_n == 662
    assert found.sufficient


def test_published_survival_example():
    # Riley et al. Stat Med 2019;38:1276-1296, section 6: rate 0.065, mean follow-up 2.07 years,
    # horizon 2 years, R2 0.051, 30 parameters: 5143 patients.
    found = sample_size.sample_size_survival(
        200_000, 26_910, 30, mean_follow_up=2.07, horizon=2, r2_cox_snell=0.051
    )
    assert list(found.criteria.values()) == [5143, 1039, 5143]
    assert found.required_events == pytest.approx(692, abs=1)


def test_the_papers_study_falls_short():
    found = sample_size.sample_size_binary(112, 42, 3)
    assert found.events_per_parameter == 14
    assert not found.sufficient
    assert found.required_n > 112
    assert f"the {found.required_n} patients" in found.statement
    assert found.warnings
    assert 0 < found.expected_shrinkage < 0.9


def test_refusals():
    with pytest.raises(StatisticsError, match="cannot be so"):
        sample_size.sample_size_binary(10, 20, 2)
    with pytest.raises(StatisticsError, match="both events and non-events"):
        sample_size.sample_size_binary(10, 0, 2)
    with pytest.raises(StatisticsError, match=r"must lie between 0 and 0\.7"):
        sample_size.sample_size_binary(100, 40, 2, r2_cox_snell=0.9)
    with pytest.raises(StatisticsError, match="must be positive"):
        sample_size.sample_size_survival(100, 40, 2, mean_follow_up=0, horizon=1)
