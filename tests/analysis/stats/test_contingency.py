from __future__ import annotations

import numpy as np
import pytest
from scipy import stats as scipy_stats

from dlild_analysis.stats.contingency import fisher_exact
from dlild_analysis.stats.errors import StatisticsError


@pytest.mark.parametrize("key", ["two", "three", "sparse", "five"])
def test_against_r(golden, key):
    expected = golden("contingency")[key]
    assert fisher_exact(expected["counts"]).p_value == pytest.approx(expected["p"], rel=1e-9)


def test_two_by_two_is_scipys():
    for counts in ([[3, 9], [8, 2]], [[0, 5], [5, 5]], [[40, 2], [38, 9]]):
        expected = scipy_stats.fisher_exact(counts).pvalue
        assert fisher_exact(counts).p_value == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
    ("counts", "words"),
    [
        ([[1, 2, 3]], "rows of two counts"),
        ([[1, -2], [3, 4]], "whole numbers"),
        ([[1, 0], [3, 0]], "two columns"),
        ([[1, 2], [0, 0]], "two rows"),
        (np.full((4, 2), 1000), "too large"),
    ],
)
def test_what_is_no_table_is_refused(counts, words):
    with pytest.raises(StatisticsError, match=words):
        fisher_exact(counts)
