from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from dlild_analysis.stats.errors import StatisticsError
from dlild_analysis.stats.pooling import pool_estimates


def test_rubins_rules_by_hand():
    estimates, errors = np.array([1.0, 1.2, 1.4]), np.array([0.5, 0.4, 0.6])
    found = pool_estimates(estimates, errors, 100, parameters=4)
    within, between = np.mean(errors**2), 0.04
    total = within + 4 / 3 * between
    share = 4 / 3 * between / total
    observed = 97 / 99 * 96 * (1 - share)
    df = 1 / (share**2 / 2 + 1 / observed)
    assert found.estimate == pytest.approx(1.2)
    assert found.std_error == pytest.approx(np.sqrt(total))
    half = stats.t.ppf(0.975, df) * np.sqrt(total)
    assert [found.ci_low, found.ci_high] == pytest.approx([1.2 - half, 1.2 + half])


def test_without_missing_data_it_is_one_table():
    found = pool_estimates([0.7, 0.7], [0.2, 0.2], 1_000_000)
    assert found.std_error == pytest.approx(0.2)
    assert found.ci_high == pytest.approx(0.7 + 1.959964 * 0.2, rel=1e-5)


def test_refusals():
    with pytest.raises(StatisticsError, match="at least 2"):
        pool_estimates([0.7], [0.2], 100)
    with pytest.raises(StatisticsError, match="must be positive"):
        pool_estimates([0.7, 0.8], [0.2, 0.0], 100)
