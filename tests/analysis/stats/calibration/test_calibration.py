from __future__ import annotations

import numpy as np
import pytest

from dlild_analysis.stats import calibration
from dlild_analysis.stats.errors import StatisticsError


def test_binary_against_r(golden, registry):
    expected = golden("calibration")
    found = calibration.calibrate_binary(registry["outcome"], registry["risk"])
    assert found.slope.estimate == pytest.approx(expected["slope"]["beta"], rel=1e-7)
    assert found.slope.estimate == pytest.approx(expected["val_prob"]["Slope"], rel=1e-5)
    assert found.slope.std_error == pytest.approx(expected["slope"]["se"], rel=1e-6)
    assert found.intercept.estimate == pytest.approx(expected["large"]["beta"], rel=1e-7)
    assert found.intercept.std_error == pytest.approx(expected["large"]["se"], rel=1e-6)
    assert found.brier.estimate == pytest.approx(expected["val_prob"]["Brier"], rel=1e-9)


def test_lowess_distances_against_r(golden, registry):
    expected = golden("calibration")["lowess"]
    found = calibration.calibrate_binary(registry["outcome"], registry["risk"])
    distances = [found.ici, found.e50, found.e90, found.e_max]
    assert distances == pytest.approx([expected[k] for k in ("ici", "e50", "e90", "emax")])


def test_survival_against_r(golden, registry):
    expected = golden("calibration")["cox"]
    found = calibration.calibrate_survival(
        registry["month"], registry["event"], registry["risk"], 24
    )
    assert found.slope.estimate == pytest.approx(expected["slope"], rel=1e-7)
    assert found.slope.std_error == pytest.approx(expected["se"], rel=1e-7)
    assert found.ici == pytest.approx(expected["ici"], rel=1e-6)
    assert found.e_max == pytest.approx(expected["emax"], rel=1e-6)
    assert found.observed == pytest.approx(expected["observed"], rel=1e-9)


def test_risks_that_generated_the_data_are_calibrated():
    rng = np.random.default_rng(8)
    risk = rng.beta(2, 3, 20_000)
    found = calibration.calibrate_binary(rng.random(20_000) < risk, risk)
    assert found.slope.ci_low < 1 < found.slope.ci_high
    assert abs(found.intercept.estimate) < 0.06
    assert found.ici < 0.012
    assert found.brier.estimate == pytest.approx(np.mean(risk * (1 - risk)), abs=0.004)


def test_survival_risks_that_generated_the_data_are_calibrated():
    rng = np.random.default_rng(9)
    rate = 0.03 * np.exp(rng.normal(0, 0.8, 20_000))
    time, censored = rng.exponential(1 / rate), rng.uniform(0, 60, 20_000)
    seen = np.minimum(time, censored)
    found = calibration.calibrate_survival(seen, time <= censored, 1 - np.exp(-24 * rate), 24)
    assert found.slope.estimate == pytest.approx(1, abs=0.05)
    assert found.intercept.estimate == pytest.approx(0, abs=0.05)
    assert found.ici < 0.015


def test_halved_risks_show_as_such(registry):
    risk = np.clip(registry["risk"], 0.02, 0.9)
    whole = calibration.calibrate_binary(registry["outcome"], risk)
    half = calibration.calibrate_binary(registry["outcome"], risk / 2)
    assert half.intercept.estimate > whole.intercept.estimate + 0.5
    assert half.ici > whole.ici


def test_degenerate_risks(registry):
    outcome = registry["outcome"]
    flat = calibration.calibrate_binary(outcome, np.full(160, 0.3))
    assert np.isnan(flat.slope.estimate)
    assert "all risks are equal" in flat.warnings[-1]
    assert flat.ici == pytest.approx(abs(outcome.mean() - 0.3))
    sure = calibration.calibrate_binary(outcome, outcome.astype(float))
    assert sure.brier.estimate == 0
    assert "moved inwards" in sure.warnings[0]
    flat = calibration.calibrate_survival(
        registry["time"], registry["event"], np.full(160, 0.3), 24
    )
    assert "single point" in flat.warnings[-1]
    assert flat.brier_scaled < 0.1


def test_refusals(registry):
    with pytest.raises(StatisticsError, match=r"found 1.2; risks lie"):
        calibration.calibrate_binary([0, 1], [0.2, 1.2])
    with pytest.raises(StatisticsError, match="3 values for 2 patients"):
        calibration.calibrate_binary([0, 1], [0.2, 0.3, 0.4])
    with pytest.raises(StatisticsError, match="no event by"):
        calibration.brier_survival([5, 6], [1, 0], [0.2, 0.3], 2)
    with pytest.raises(StatisticsError, match="longest follow-up, 6"):
        calibration.calibrate_survival([5, 6], [1, 0], [0.2, 0.3], 9)
