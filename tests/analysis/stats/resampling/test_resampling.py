from __future__ import annotations

import numpy as np
import pytest

from dlild_analysis.stats import logistic, resampling, roc
from dlild_analysis.stats.cox.partial_likelihood import maximise
from dlild_analysis.stats.errors import StatisticsError
from dlild_analysis.stats.survival import concordance_value


def model(x, y):
    """Return a fit and a metric of a logistic model for the resamplers."""

    def fit(train):
        model = logistic.fit_logistic(x[train], y[train], penalty="none")
        return lambda rows: logistic.predict_logistic(model, x[rows]).risk

    return fit, lambda rows, score: roc.auc_value(y[rows], score)


@pytest.fixture
def noise():
    rng = np.random.default_rng(2)
    return rng.normal(size=(120, 8)), rng.integers(0, 2, 120)


def test_strata_keep_their_sizes():
    strata = np.repeat(["a", "b"], [7, 33])
    sizes = set()

    def fit(train):
        sizes.add(int((strata[train] == "a").sum()))
        return lambda rows: rows * 1.0

    resampling.optimism_bootstrap(
        fit,
        lambda rows, score: float(score.mean()),
        40,
        rng=np.random.default_rng(1),
        bootstraps=30,
        strata=strata,
    )
    assert sizes == {7}


def test_optimism_of_noise_is_found(noise):
    fit, metric = model(*noise)
    found = resampling.optimism_bootstrap(
        fit, metric, 120, rng=np.random.default_rng(6), bootstraps=100
    )
    assert found.apparent > 0.6
    assert found.optimism > 0.05
    assert found.corrected.estimate == pytest.approx(found.apparent - found.optimism)
    assert abs(found.corrected.estimate - 0.5) < 0.1
    assert found.corrected.ci_low < found.corrected.estimate < found.corrected.ci_high


def test_a_metric_fixed_by_the_fit_has_no_shifted_interval(noise):
    fit, metric = model(*noise)
    found = resampling.optimism_bootstrap(
        fit,
        metric,
        len(noise[1]),
        rng=np.random.default_rng(6),
        bootstraps=20,
        shifted_interval=False,
    )
    assert np.isnan(found.corrected.ci_low)
    assert "gives no interval" in found.corrected.warnings[-1]


def test_cross_validation_of_noise_is_chance(noise):
    fit, metric = model(*noise)
    found = resampling.cross_validate(
        fit, metric, noise[1], rng=np.random.default_rng(6), repeats=10
    )
    assert abs(found.performance.estimate - 0.5) < 0.1
    assert found.performance.ci_low < 0.5 < found.performance.ci_high
    assert found.fold_values.shape == (10, 5)
    assert np.isfinite(found.predictions).all()


def test_nothing_of_the_test_fold_reaches_the_fit():
    seen = []

    def fit(train):
        seen.append(set(train.tolist()))
        return lambda rows: rows.astype(float)

    def metric(rows, score):
        assert not seen[-1] & set(rows.tolist())
        assert seen[-1] | set(rows.tolist()) == set(range(53))
        return 0.5

    strata = np.arange(53) % 3
    resampling.cross_validate(fit, metric, strata, rng=np.random.default_rng(1), repeats=3)
    assert len(seen) == 15


def test_folds_are_stratified_and_balanced():
    strata = np.repeat([0, 1], [41, 12])
    shares, sizes = [], []

    def metric(rows, score):
        shares.append(int(strata[rows].sum()))
        sizes.append(rows.size)
        return 0.5

    resampling.cross_validate(
        lambda train: lambda rows: rows * 0.0, metric, strata, rng=np.random.default_rng(1)
    )
    assert set(shares) == {2, 3}
    assert set(sizes) == {10, 11}


def test_same_seed_same_numbers_and_progress(noise):
    fit, metric = model(*noise)
    calls = []
    runs = [
        resampling.cross_validate(
            fit,
            metric,
            noise[1],
            rng=np.random.default_rng(9),
            repeats=2,
            progress=lambda done, total: calls.append((done, total)),
        )
        for _ in range(2)
    ]
    assert np.array_equal(runs[0].fold_values, runs[1].fold_values)
    assert calls == [(k, 10) for k in range(1, 11)] * 2


def test_failing_samples_are_counted_not_hidden():
    event = np.r_[np.ones(3), np.zeros(40)]
    score = np.arange(43.0)
    found = resampling.optimism_bootstrap(
        lambda train: lambda rows: score[rows],
        lambda rows, values: roc.auc_value(event[rows], values),
        43,
        rng=np.random.default_rng(1),
    )
    # A sample without any of three events happens in about 5 % of draws.
    assert "bootstrap samples failed and were left out" in found.warnings[0]

    def hopeless(train):
        raise StatisticsError("no")

    with pytest.raises(StatisticsError, match="25 of 25 folds failed"):
        resampling.cross_validate(
            hopeless,
            lambda i, s: 0.5,
            event[3:] + np.arange(40) % 2,
            rng=np.random.default_rng(1),
            repeats=5,
        )


def test_refusals():
    rng = np.random.default_rng(1)

    def same(train):
        return lambda rows: rows * 1.0

    with pytest.raises(StatisticsError, match="stratum of one patient"):
        resampling.cross_validate(None, None, [0, 0, 0, 1], rng=rng)
    with pytest.raises(StatisticsError, match="at least 20"):
        resampling.optimism_bootstrap(same, lambda i, s: 1.0, 10, rng=rng, bootstraps=5)
    with pytest.raises(StatisticsError, match="not finite in the data"):
        resampling.optimism_bootstrap(same, lambda i, s: float("nan"), 10, rng=rng)
    few = resampling.cross_validate(same, lambda i, s: 0.6, [0, 0, 0, 1, 1, 1], rng=rng)
    assert few.folds == 3
    assert "3 folds instead of 5" in few.warnings[0]


@pytest.mark.slow
def test_fifty_thousand_patients_with_200_bootstraps():
    rng = np.random.default_rng(20)
    n = 50_000
    x = rng.normal(size=(n, 4))
    time = rng.exponential(24 * np.exp(-0.5 * x[:, 0]))
    censored = rng.uniform(6, 36, n)
    seen, event = np.minimum(time, censored).round(1) + 0.1, time <= censored

    def fit(train):
        beta = maximise(x[train], seen[train], event[train]).beta
        return lambda rows: x[rows] @ beta

    found = resampling.optimism_bootstrap(
        fit,
        lambda rows, score: concordance_value(seen[rows], event[rows], score),
        n,
        rng=rng,
        bootstraps=200,
    )
    assert found.failures == 0
    assert abs(found.optimism) < 0.001
