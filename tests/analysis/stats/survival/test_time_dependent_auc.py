from __future__ import annotations

import numpy as np
import pytest

from dlild_analysis.stats import calibration, roc, survival
from dlild_analysis.stats.errors import StatisticsError


def weighted_km(time, gone, at_risk, weight):
    """Return what is left just after each time, patients counting by weight."""
    left, curve = 1.0, {}
    for t in np.unique(time):
        lost = weight[(time == t) & gone].sum()
        if lost:
            left *= 1 - lost / weight[at_risk(t)].sum()
        curve[t] = left
    return curve


def weighted_statistics(time, event, score, risk, horizon, weight):
    """AUC and Brier score by IPCW, written out for weighted patients."""
    curve = weighted_km(time, ~event, lambda t: (time > t) | ((time == t) & ~event), weight)
    times = np.array(sorted(curve))
    after = np.array([curve[t] for t in times])
    before = np.concatenate([[1.0], after])[np.searchsorted(times, time)]
    case, control = event & (time <= horizon), time > horizon
    share = np.where(case, weight / before, 0.0)
    order = (score[:, None] > score) + 0.5 * (score[:, None] == score)
    held = np.where(control, weight, 0.0)
    auc = share @ order @ held / (share.sum() * held.sum())
    at_horizon = after[times <= horizon][-1]
    squares = share * (1 - risk) ** 2 + held / at_horizon * risk**2
    return np.array([auc, squares.sum() / weight.sum()])


def jackknife(*arguments):
    """Standard errors from derivatives by the patients' weights."""
    n, slopes = arguments[0].size, []
    for k in range(n):
        up, down = np.ones(n), np.ones(n)
        up[k], down[k] = 1 + 1e-5, 1 - 1e-5
        slopes.append(
            (weighted_statistics(*arguments, up) - weighted_statistics(*arguments, down)) / 2e-5
        )
    return np.sqrt((np.array(slopes) ** 2).sum(axis=0) * n / (n - 1))


@pytest.mark.parametrize("horizon", [12, 24])
@pytest.mark.parametrize("model", ["lesion", "visual", "risk"])
def test_auc_against_riskregression(golden, registry, horizon, model):
    rows = golden("timeauc")["exact"]["auc"]
    (expected,) = [r for r in rows if r["model"] == model and r["times"] == horizon]
    found = survival.time_auc(registry["time"], registry["event"], registry[model], horizon)
    assert found.estimate == pytest.approx(expected["AUC"], rel=1e-9)
    assert found.std_error == pytest.approx(expected["se"], rel=1e-7)
    assert [found.ci_low, found.ci_high] == pytest.approx(
        [expected["lower"], expected["upper"]], rel=1e-7
    )


@pytest.mark.parametrize("horizon", [12, 24])
def test_comparison_against_riskregression(golden, registry, horizon):
    rows = golden("timeauc")["exact"]["contrast"]
    (expected,) = [r for r in rows if r["times"] == horizon]
    found = survival.compare_time_auc(
        registry["time"], registry["event"], registry["visual"], registry["lesion"], horizon
    )
    assert found.difference.estimate == pytest.approx(expected["delta.AUC"], rel=1e-8)
    assert found.difference.std_error == pytest.approx(expected["se"], rel=1e-7)
    assert found.difference.p_value == pytest.approx(expected["p"], rel=1e-6)


@pytest.mark.parametrize("horizon", [12, 24])
def test_brier_against_riskregression(golden, registry, horizon):
    rows = golden("timeauc")["exact"]["brier"]
    (expected,) = [r for r in rows if r["model"] == "risk" and r["times"] == horizon]
    found = calibration.brier_survival(
        registry["time"], registry["event"], registry["risk"], horizon
    )
    assert found.estimate == pytest.approx(expected["Brier"], rel=1e-9)
    assert found.std_error == pytest.approx(expected["se"], rel=1e-7)


@pytest.mark.parametrize(("horizon", "r_horizon"), [(12.5, 12), (24, 24), (24.5, 24)])
def test_ties_estimates_against_r_and_errors_against_a_jackknife(
    golden, registry, horizon, r_horizon
):
    # riskRegression takes tied times one after the other in its variance, which then depends on
    # the order of the rows; the derivative by weights does not. It leaves out patients censored
    # exactly at the horizon, two at 12 months here, as we do just behind it; see test_ties.py.
    columns = [registry[c].to_numpy(dtype=float) for c in ("month", "lesion", "risk")]
    event = registry["event"].to_numpy() == 1
    auc = survival.time_auc(columns[0], event, columns[1], horizon)
    brier = calibration.brier_survival(columns[0], event, columns[2], horizon)
    tied = golden("timeauc")["tied"]
    for found, key, name, model in (
        (auc, "auc", "AUC", "lesion"),
        (brier, "brier", "Brier", "risk"),
    ):
        (row,) = [r for r in tied[key] if r["model"] == model and r["times"] == r_horizon]
        assert found.estimate == pytest.approx(row[name], rel=1e-9)
    errors = jackknife(columns[0], event, columns[1], columns[2], horizon)
    assert [auc.std_error, brier.std_error] == pytest.approx(errors, rel=2e-3)


def test_without_censoring_it_is_the_plain_auc(registry):
    time, score = registry["time"], registry["lesion"]
    found = survival.time_auc(time, np.ones(160), score, 12)
    assert found.estimate == pytest.approx(roc.auc_value(time <= 12, score))
    assert found.std_error == pytest.approx(roc.auc(time <= 12, score).std_error, rel=0.02)


def test_curve_keeps_going_where_a_horizon_fails(registry):
    found = survival.time_auc_curve(
        registry["time"], registry["event"], registry["lesion"], [12, 500]
    )
    assert found[0].warnings == ()
    assert np.isnan(found[1].estimate)
    assert "horizon: 500 leaves" in found[1].warnings[0]


def test_degenerate(registry):
    with pytest.raises(StatisticsError, match="both are needed"):
        survival.time_auc(registry["time"], np.zeros(160), registry["lesion"], 12)
    flat = survival.time_auc(registry["time"], registry["event"], np.ones(160), 12)
    assert flat.estimate == pytest.approx(0.5)
    assert flat.warnings
    same = survival.compare_time_auc(
        registry["time"], registry["event"], registry["lesion"], registry["lesion"], 12
    )
    assert same.difference.p_value == 1
    assert same.warnings


def test_integrated_auc_with_a_training_set_against_r(golden, registry):
    expected = golden("integrated")
    train, test = registry.iloc[::2], registry.iloc[1::2]
    found = survival.integrated_time_auc(
        test["time"],
        test["event"],
        test["lesion"],
        expected["horizons"],
        training=(train["time"], train["event"]),
    )
    np.testing.assert_allclose(found.auc, expected["auc"], rtol=1e-9)
    np.testing.assert_allclose(found.weights, expected["weights"], rtol=1e-9)
    assert found.mean.estimate == pytest.approx(expected["mean"], rel=1e-9)
    assert found.mean.ci_low < found.mean.estimate < found.mean.ci_high


def test_integrated_auc_without_training_is_the_mean_of_the_curve(registry):
    columns = (registry["time"], registry["event"], registry["lesion"])
    found = survival.integrated_time_auc(*columns, [6.0, 12.0, 24.0])
    curve = [item.estimate for item in survival.time_auc_curve(*columns, [6.0, 12.0, 24.0])]
    assert found.mean.estimate == pytest.approx(found.weights @ curve, rel=1e-12)
    single = survival.integrated_time_auc(*columns, [12.0]).mean
    alone = survival.time_auc(*columns, 12.0)
    assert (single.estimate, single.std_error) == pytest.approx((alone.estimate, alone.std_error))
    with pytest.raises(StatisticsError, match="must rise"):
        survival.integrated_time_auc(*columns, [12.0, 6.0])
    early = ([1.0, 2.0, 3.0], [1, 0, 0])
    with pytest.raises(StatisticsError, match="every patient was censored before"):
        survival.integrated_time_auc(*columns, [24.0], training=early)
