from __future__ import annotations

import numpy as np
import pytest

from dlild_analysis.stats import calibration
from dlild_analysis.stats.errors import StatisticsError


def test_net_benefit_counted_by_hand():
    outcome, risk = [1, 0, 1, 0, 0], [0.9, 0.6, 0.4, 0.2, 0.1]
    found = calibration.decision_curve(outcome, risk, [0.2, 0.5])
    # At 0.2: 2 true, 2 false positives of 5, odds 1/4; at 0.5: 1 and 1, odds 1.
    assert found.model == pytest.approx([2 / 5 - 2 / 5 / 4, 0.0])
    assert found.treat_all == pytest.approx([2 / 5 - 3 / 5 / 4, 2 / 5 - 3 / 5])
    assert found.treat_none.tolist() == [0, 0]
    avoided = 100 * (found.model - found.treat_all) / np.array([0.25, 1])
    assert found.interventions_avoided == pytest.approx(avoided)


def test_extremes_meet_treating_all_and_none(registry):
    found = calibration.decision_curve(registry["outcome"], registry["risk"], [1e-6, 1 - 1e-6])
    assert found.model[0] == pytest.approx(found.treat_all[0])
    assert found.model[1] == 0


def test_survival_without_censoring_is_binary(registry):
    time, at = registry["time"], [0.1, 0.3, 0.5]
    one = calibration.decision_curve_survival(time, np.ones(160), registry["risk"], 12, at)
    two = calibration.decision_curve(time <= 12, registry["risk"], at)
    assert one.model == pytest.approx(two.model)
    assert one.treat_all == pytest.approx(two.treat_all)


def test_survival_by_kaplan_meier_in_the_positives():
    time, event = [2, 4, 6, 9, 9], [1, 0, 1, 0, 0]
    found = calibration.decision_curve_survival(time, event, [0.9, 0.8, 0.7, 0.6, 0.1], 8, [0.5])
    # Four positives: survival 3/4 x 1/2 = 3/8, so 5/8 of them are true.
    assert found.model == pytest.approx([0.8 * (5 / 8 - 3 / 8)])


def test_a_threshold_nobody_can_be_followed_at_is_reported():
    found = calibration.decision_curve_survival(
        [2, 3, 9, 9], [1, 0, 0, 0], [0.9, 0.9, 0.1, 0.1], 8, [0.05, 0.5, 0.95]
    )
    assert np.isnan(found.model).tolist() == [False, True, False]
    assert "1 thresholds, from 0.5 on" in found.warnings[0]


def test_refusals():
    with pytest.raises(StatisticsError, match="strictly between 0 and 1"):
        calibration.decision_curve([0, 1], [0.1, 0.2], [0.0, 0.5])
    with pytest.raises(StatisticsError, match="risks lie between"):
        calibration.decision_curve([0, 1], [0.1, 2], [0.5])
    with pytest.raises(StatisticsError, match="longest follow-up"):
        calibration.decision_curve_survival([1, 2], [1, 0], [0.1, 0.2], 5, [0.5])
    assert calibration.decision_curve([0, 0], [0.1, 0.2], [0.5]).warnings


def test_given_prevalence_and_survival_against_r(golden, registry):
    expected = golden("decision")
    at = expected["thresholds"]
    found = calibration.decision_curve(
        registry["outcome"], registry["risk"], at, prevalence=expected["prevalence"]
    )
    np.testing.assert_allclose(found.model, expected["given"], rtol=1e-9)
    np.testing.assert_allclose(found.treat_all, expected["given_all"], rtol=1e-9)
    assert "prevalence of 0.15" in found.method
    survival = calibration.decision_curve_survival(
        registry["time"], registry["event"], registry["risk"], 24.0, at
    )
    np.testing.assert_allclose(survival.model, expected["survival"], rtol=1e-9)
    np.testing.assert_allclose(survival.treat_all, expected["survival_all"], rtol=1e-9)


def test_the_own_prevalence_changes_nothing(registry):
    own = float(registry["outcome"].mean())
    plain = calibration.decision_curve(registry["outcome"], registry["risk"], [0.2, 0.4])
    given = calibration.decision_curve(
        registry["outcome"], registry["risk"], [0.2, 0.4], prevalence=own
    )
    np.testing.assert_allclose(given.model, plain.model)
    with pytest.raises(StatisticsError, match="prevalence"):
        calibration.decision_curve(registry["outcome"], registry["risk"], [0.2], prevalence=1.0)
