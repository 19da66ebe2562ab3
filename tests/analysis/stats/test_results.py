from __future__ import annotations

import json
from dataclasses import FrozenInstanceError

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dlild_analysis.stats import cox, roc, survival
from dlild_analysis.stats.arrays import merge_near_ties, normal_quantile
from dlild_analysis.stats.errors import StatisticsError


def test_results_are_frozen_and_become_json(registry):
    fit = cox.fit_cox(registry[["lesion", "age"]], registry["month"], registry["event"])
    curve = roc.roc_curve(registry["outcome"], registry["lesion"])
    km = survival.kaplan_meier(registry["month"], registry["event"])
    for result in (fit, curve, km):
        text = json.dumps(result.to_dict(), allow_nan=False)
        assert json.loads(text)["n"] == 160
    with pytest.raises(FrozenInstanceError):
        fit.n = 3
    # The first threshold of a ROC curve is infinite, which JSON cannot hold.
    assert curve.to_dict()["thresholds"][0] is None


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30))
def test_near_ties_are_merged_and_nothing_else_moves(values):
    scores = np.array(values)
    merged = merge_near_ties(scores)
    assert merged == pytest.approx(scores, rel=1e-10, abs=1e-300)
    order = np.argsort(scores, kind="stable")
    assert np.all(np.diff(merged[order]) >= 0)


def test_quantile_of_a_coverage():
    assert normal_quantile(0.95) == pytest.approx(1.959963984540054)
    with pytest.raises(StatisticsError, match="between 0 and 1"):
        normal_quantile(95)
