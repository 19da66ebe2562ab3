"""Statistics of agreement and repeatability, against independent computations and simulation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from dlild_export.evaluation.statistics import (
    FACTOR,
    agree,
    concordance,
    limits_of_agreement,
    mean,
    repeatability,
)

# Systolic pressure by two methods, first ten of the classic worked example's kind: by hand below.
DIFFERENCES = np.array([2.0, -1.0, 0.5, 3.0, -2.5, 1.0, 0.0, -0.5])


def test_limits_of_agreement_by_hand() -> None:
    n, sd = len(DIFFERENCES), DIFFERENCES.std(ddof=1)

    limits = limits_of_agreement(DIFFERENCES)

    assert limits.bias == pytest.approx(2.5 / 8)
    assert limits.upper.value == pytest.approx(limits.bias + 1.959964 * sd)
    half = (limits.upper.high - limits.upper.low) / 2
    assert half == pytest.approx(2.364624 * sd * np.sqrt(1 / n + 1.959964**2 / (2 * (n - 1))), 1e-5)


def test_limits_cover_the_true_ones_as_often_as_they_say() -> None:
    rng = np.random.default_rng(0)
    found = [limits_of_agreement(rng.normal(1, 2, 24)).upper for _ in range(2000)]

    true = 1 + 1.959964 * 2
    covered = np.mean([limit.low <= true <= limit.high for limit in found])
    assert covered == pytest.approx(0.95, abs=0.02)


def test_means_leave_out_what_has_no_value() -> None:
    found = mean([0.5, float("nan"), 0.7, 0.9])

    assert found.value == pytest.approx(0.7)
    assert found.cases == 3
    assert found.low <= 0.7 <= found.high
    assert mean([0.5, float("nan"), 0.7, 0.9]) == found


def test_too_few_cases_have_no_interval() -> None:
    assert np.isnan(mean([]).value)
    assert mean([1.0, 2.0]).value == 1.5
    assert np.isnan(mean([1.0, 2.0]).low)
    assert mean([2.0, 2.0, 2.0]).low == mean([2.0, 2.0, 2.0]).high == 2.0


@given(
    st.lists(st.floats(-50, 50, allow_nan=False, width=16), min_size=4, max_size=30),
)
def test_intervals_hold_the_values_together(values: list[float]) -> None:
    found = mean(values)

    assert min(values) - 1e-9 <= found.low <= found.high <= max(values) + 1e-9


def test_agreement_of_scores() -> None:
    true, measured = np.array([0.0, 10, 20, 40, 60]), np.array([1.0, 9, 23, 40, 58])

    found = agree(true, measured)

    assert found.mean_absolute_error.value == pytest.approx(7 / 5)
    assert found.bias.value == pytest.approx(1 / 5)
    assert found.rmse.value == pytest.approx(np.sqrt((1 + 1 + 9 + 0 + 4) / 5))
    assert found.pearson.value == pytest.approx(np.corrcoef(true, measured)[0, 1])
    assert found.pearson.low < found.pearson.value < found.pearson.high


def test_a_scan_without_lung_leaves_no_agreement() -> None:
    found = agree([1.0, 2.0, 3.0], [1.0, float("nan"), 3.0])

    assert np.isnan(found.mean_absolute_error.value)
    assert np.isnan(found.bias.value)


def test_concordance_is_lowered_by_a_bias() -> None:
    values = np.array([1.0, 2.0, 3.0, 4.0])

    assert concordance(values, values) == pytest.approx(1)
    # Variance 1.25 each, covariance 1.25, means 2 apart: 2.5 / (2.5 + 4).
    assert concordance(values, values + 2) == pytest.approx(2.5 / 6.5)


def test_within_subject_sd_is_that_of_an_analysis_of_variance() -> None:
    rng = np.random.default_rng(3)
    groups = [rng.normal(centre, 1.3, 4) for centre in (5, 20, 40, 60, 12)]

    found = repeatability(groups)

    total = np.concatenate(groups)
    between = sum(len(g) * (g.mean() - total.mean()) ** 2 for g in groups)
    f = stats.f_oneway(*groups).statistic
    residual = between / (len(groups) - 1) / f
    assert found.within_sd.value == pytest.approx(np.sqrt(residual))
    assert found.coefficient.value == pytest.approx(2.77 * np.sqrt(residual), rel=1e-3)
    assert (found.patients, found.scans) == (5, 20)


def test_pairs_differ_by_less_than_the_coefficient_95_times_in_100() -> None:
    rng = np.random.default_rng(5)
    groups = rng.normal(rng.uniform(0, 60, 4000)[:, None], 0.8, (4000, 2))

    found = repeatability(list(groups))

    within = np.abs(np.diff(groups, axis=1)) < found.coefficient.value
    assert within.mean() == pytest.approx(0.95, abs=0.01)
    assert pytest.approx(2.7718, abs=1e-4) == FACTOR


def test_the_chi_square_interval_covers() -> None:
    rng = np.random.default_rng(7)
    found = [repeatability(list(rng.normal(0, 1, (6, 3)))).within_sd for _ in range(1500)]

    assert np.mean([f.low <= 1 <= f.high for f in found]) == pytest.approx(0.95, abs=0.02)


def test_one_scan_gives_no_interval() -> None:
    assert repeatability([[1.0], [2.0, 4.0]]).patients == 1
    assert repeatability([[1.0], [2.0, 4.0]]).within_sd.value == pytest.approx(np.sqrt(2))
    assert np.isnan(repeatability([[1.0], []]).within_sd.value)
    assert np.isnan(repeatability([[1.0, float("nan")]]).within_sd.value)
