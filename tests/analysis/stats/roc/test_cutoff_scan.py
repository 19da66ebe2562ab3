from __future__ import annotations

import numpy as np
import pytest

from dlild_analysis.stats import roc
from dlild_analysis.stats.errors import StatisticsError


def scan(registry, kind, rng, **options):
    if kind == "lesion":
        return roc.scan_cutoffs_survival(
            registry["time"], registry["event"], registry["lesion"], rng=rng, **options
        )
    return roc.scan_cutoffs_binary(registry["outcome"], registry["lesion"], rng=rng, **options)


@pytest.mark.parametrize("kind", ["lesion", "binary"])
def test_maximum_against_maxstat(golden, registry, kind):
    expected = golden("cutoff")[kind]
    found = scan(registry, kind, np.random.default_rng(1))
    assert found.best_statistic == pytest.approx(expected["statistic"], rel=1e-9)
    # maxstat names the last value of the low group.
    low = registry["lesion"][registry["lesion"] < found.best_cutoff].max()
    assert low == pytest.approx(expected["cutpoint"])
    assert found.approximate_p == pytest.approx(expected["p"], rel=1e-6)


def test_corrected_p_is_the_share_of_all_orders(golden):
    expected = golden("validation")["cutoff"]
    found = roc.scan_cutoffs_survival(
        expected["time"],
        expected["event"],
        expected["score"],
        rng=np.random.default_rng(2),
        permutations=20_000,
        smallest_group=expected["smallest_group"],
        used=expected["used"],
    )
    assert list(found.statistic) == pytest.approx(expected["statistic"])
    for p, right in ((found.corrected_p, expected["best_p"]), (found.used_p, expected["used_p"])):
        assert p == pytest.approx(right, abs=4 * (right * (1 - right) / 20_000) ** 0.5)


def test_choosing_has_its_price(registry):
    rng = np.random.default_rng(4)
    noise = rng.normal(size=160)
    found = roc.scan_cutoffs_survival(registry["time"], registry["event"], noise, rng=rng)
    assert found.corrected_p > 2 * found.best_naive_p
    assert found.best_naive_p == found.naive_p.min()
    assert np.all(found.high >= 16)
    assert np.all(160 - found.high >= 16)


def test_corrected_p_is_uniform_under_the_null():
    rng = np.random.default_rng(12)
    p = []
    for _ in range(150):
        found = roc.scan_cutoffs_binary(
            rng.random(40) < 0.5, rng.normal(size=40), rng=rng, permutations=100
        )
        p.append(found.corrected_p)
    # 150 trials at 10 %: 15 expected, standard deviation 3.7; naive p would give about 45.
    assert 3 <= np.sum(np.array(p) <= 0.1) <= 28


def test_a_perfect_score_reaches_the_smallest_p_there_is():
    outcome = np.arange(60) >= 30
    found = roc.scan_cutoffs_binary(
        outcome, np.arange(60.0), rng=np.random.default_rng(3), permutations=100
    )
    assert found.corrected_p == pytest.approx(1 / 101)
    assert found.best_cutoff == 29.5


def test_same_seed_same_p_and_progress(registry):
    calls = []
    one = scan(registry, "lesion", np.random.default_rng(5), permutations=100)
    two = scan(
        registry,
        "lesion",
        np.random.default_rng(5),
        permutations=100,
        progress=lambda done, total: calls.append((done, total)),
    )
    assert one.corrected_p == two.corrected_p
    assert calls[-1] == (100, 100)


def test_refusals(registry):
    rng = np.random.default_rng(1)
    with pytest.raises(StatisticsError, match="all values are 1"):
        roc.scan_cutoffs_binary([0, 1, 0], [1, 1, 1], rng=rng)
    with pytest.raises(StatisticsError, match="0 events"):
        roc.scan_cutoffs_survival([1, 2, 3], [0, 0, 0], [1, 2, 3], rng=rng)
    with pytest.raises(StatisticsError, match="at least 100"):
        scan(registry, "lesion", rng, permutations=10)
    lopsided = np.r_[np.zeros(38), 1.0, 1.0]
    with pytest.raises(StatisticsError, match="no cut-off leaves"):
        roc.scan_cutoffs_binary(np.arange(40) % 2, lopsided, rng=rng)
