"""The plan of `make soak`: what befalls the server, and when."""

from bench.chaos import BATCH
from bench.soak import spread_mishaps
from hypothesis import given
from hypothesis import strategies as st


@given(st.integers(500, 20_000))
def test_mishaps_come_first_one_at_a_time_and_end_with_the_served_version(scans):
    plan = spread_mishaps(scans, served=8, earlier=7)
    batches = scans // BATCH
    assert len(plan.kills) == len(plan.upgrades) >= 2
    assert plan.kills.isdisjoint(plan.upgrades)
    assert max({*plan.kills, *plan.upgrades}) <= batches // 3
    turns = [plan.upgrades[batch] for batch in sorted(plan.upgrades)]
    assert turns == [7, 8] * (len(turns) // 2)


@given(st.integers(500, 20_000))
def test_nothing_befalls_a_scan_twice(scans):
    plan = spread_mishaps(scans, served=8, earlier=7)
    befallen = [*plan.vanishing, *plan.spoilt, *plan.slow]
    assert len(befallen) == len(set(befallen))
    assert all(0 <= number < scans for number in befallen)
