from __future__ import annotations

import numpy as np
import pytest
from examples import examples
from hypothesis import assume, given
from hypothesis import strategies as st

from dlild_analysis.stats import survival
from dlild_analysis.stats.errors import StatisticsError
from dlild_analysis.stats.survival.concordance import count_pairs

rows = st.lists(
    st.tuples(st.integers(0, 8), st.booleans(), st.integers(-4, 4)), min_size=2, max_size=40
)


def columns(values):
    time, event, score = (np.array(c) for c in zip(*values, strict=True))
    return time.astype(float), event, score.astype(float)


def by_hand(time, event, score):
    """Return concordant (ties one half) and comparable pairs, pair by pair."""
    right = pairs = 0.0
    for i in np.flatnonzero(event):
        later = (time > time[i]) | ((time == time[i]) & ~event)
        pairs += later.sum()
        right += (score[later] < score[i]).sum() + (score[later] == score[i]).sum() / 2
    return right, pairs


CASES = {
    "harrell_lung": ("lung", "age", {}),
    "harrell_veteran": ("veteran", "karno", {}),
    "harrell_registry": ("registry", "lesion", {}),
    "harrell_registry_visual": ("registry", "visual", {}),
    "uno_lung": ("lung", "age", {"horizon": None}),
    "uno_registry": ("exact", "lesion", {"horizon": None}),
    "uno_registry_tied": ("registry", "visual", {"horizon": None}),
    "uno_registry_24": ("exact", "lesion", {"horizon": 24}),
}


@pytest.mark.parametrize("key", CASES)
def test_concordance_against_r(golden, table, registry, key):
    name, column, options = CASES[key]
    if name in ("registry", "exact"):
        data, time = registry, registry["month" if name == "registry" else "time"]
        event = data["event"]
    else:
        data = table(name)
        time, event = data["time"], data["status"] - (name == "lung")
    score = -data[column] if column == "karno" else data[column]
    compute = survival.uno_c if options else survival.harrell_c
    found, expected = compute(time, event, score, **options), golden("concordance")[key]
    assert found.estimate == pytest.approx(expected["c"], rel=1e-9)
    assert found.std_error == pytest.approx(expected["se"], rel=1e-8)


@pytest.mark.parametrize(("weight", "time"), [("harrell", "month"), ("uno", "time")])
def test_comparison_against_r(golden, registry, weight, time):
    expected = golden("concordance")[f"compare_{weight}"]
    found = survival.compare_concordance(
        registry[time], registry["event"], registry["lesion"], registry["visual"], weight=weight
    )
    assert found.difference.estimate == pytest.approx(expected["difference"], rel=1e-7)
    assert found.difference.std_error == pytest.approx(expected["se"], rel=1e-7)
    assert found.a.estimate - found.b.estimate == pytest.approx(found.difference.estimate)


@given(rows)
def test_fast_count_is_the_slow_one(values):
    time, event, score = columns(values)
    right, pairs = by_hand(time, event, score)
    if pairs == 0:
        with pytest.raises(StatisticsError, match="no two patients"):
            survival.harrell_c(time, event, score)
        return
    assert survival.harrell_c(time, event, score).estimate == pytest.approx(right / pairs)
    assert survival.concordance_value(time, event, score) == pytest.approx(right / pairs)


@given(rows)
def test_weighted_counts_pair_by_pair(values):
    time, event, score = columns(values)
    weight = np.where(event, 1.0 + np.arange(time.size), 0.0)
    found = count_pairs(time, score, weight)
    for k in range(time.size):
        earlier = event & ((time < time[k]) | ((time == time[k]) & ~event[k]))
        earlier[k] = False
        assert found.before[k] == pytest.approx(weight[earlier].sum())
        higher = earlier & (score > score[k])
        assert found.higher_before[k] == pytest.approx(weight[higher].sum())
        tied = earlier & (score == score[k])
        assert found.tied_before[k] == pytest.approx(weight[tied].sum())


@given(rows)
@examples(50)
def test_transforms_and_turning_round(values):
    time, event, score = columns(values)
    assume(by_hand(time, event, score)[1] > 0)
    plain = survival.harrell_c(time, event, score)
    bent = survival.harrell_c(time**2, event, np.exp(score))
    turned = survival.harrell_c(time, event, -score)
    assert bent.estimate == pytest.approx(plain.estimate)
    assert turned.estimate == pytest.approx(1 - plain.estimate)
    assert turned.std_error == pytest.approx(plain.std_error, abs=1e-12)


def test_without_censoring_both_are_one(registry):
    everyone = np.ones(160)
    harrell = survival.harrell_c(registry["time"], everyone, registry["lesion"])
    uno = survival.uno_c(registry["time"], everyone, registry["lesion"])
    assert uno.estimate == pytest.approx(harrell.estimate)
    assert uno.std_error == pytest.approx(harrell.std_error)


def test_degenerate_scores(registry):
    flat = survival.harrell_c(registry["time"], registry["event"], np.full(160, 3.0))
    assert (flat.estimate, flat.p_value) == (0.5, 1.0)
    assert "all values are 3" in flat.warnings[0]
    same = survival.compare_concordance(
        registry["time"], registry["event"], registry["lesion"], registry["lesion"]
    )
    assert same.difference.p_value == 1
    assert same.warnings
    with pytest.raises(StatisticsError, match="no two patients"):
        survival.harrell_c(registry["time"], np.zeros(160), registry["lesion"])
    with pytest.raises(StatisticsError, match="'harrell' or 'uno'"):
        survival.compare_concordance([1, 2], [1, 0], [1, 2], [2, 1], weight="gonen")
