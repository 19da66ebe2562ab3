"""Examples that were printed: data small enough to be here, answers from the publications."""

from __future__ import annotations

import numpy as np
import pytest

from dlild_analysis.stats import agreement, cox, logistic, roc, sample_size, survival
from dlild_analysis.stats.correlation import compare_dependent

# Freireich et al., Blood 1963;21:699-716: weeks of remission on 6-MP and on placebo.
SIX_MP = [6, 6, 6, 6, 7, 9, 10, 10, 11, 13, 16, 17, 19, 20, 22, 23, 25, 32, 32, 34, 35]
RELAPSED = [1, 1, 1, 0, 1, 0, 1, 0, 0, 1, 1, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0]
PLACEBO = [1, 1, 2, 2, 3, 4, 4, 5, 5, 8, 8, 8, 8, 11, 11, 12, 12, 15, 17, 22, 23]


@pytest.fixture
def remission():
    time = np.array(SIX_MP + PLACEBO, dtype=float)
    return time, np.array(RELAPSED + [1] * 21), np.repeat([0, 1], 21)


def test_freireichs_remissions(remission):
    time, event, placebo = remission
    fit = cox.fit_cox(placebo, time, event, ["placebo"])
    assert fit.terms[0].beta == pytest.approx(1.5721, abs=5e-5)
    assert fit.terms[0].std_error == pytest.approx(0.4124, abs=5e-5)
    assert fit.likelihood_ratio.statistic == pytest.approx(16.35, abs=0.005)
    assert survival.log_rank(time, event, placebo).test.statistic == pytest.approx(16.79, abs=0.005)
    at_ten = survival.survival_at(survival.kaplan_meier(SIX_MP, RELAPSED), [10])[0]
    assert at_ten.estimate == pytest.approx(0.7529, abs=5e-5)
    assert at_ten.std_error == pytest.approx(0.0963, abs=5e-5)


def test_dalals_o_rings():
    """Dalal, Fowlkes and Hoadley, J Am Stat Assoc 1989;84:945-957."""
    degrees = "66 70 69 68 67 72 73 70 57 63 70 78 67 53 67 75 70 81 76 79 75 76 58"
    damage = "0 1 0 0 0 0 0 0 1 1 1 0 0 1 0 0 0 0 0 0 1 0 1"
    fit = logistic.fit_logistic(
        [float(v) for v in degrees.split()], [int(v) for v in damage.split()]
    )
    assert fit.intercept == pytest.approx(15.0429, abs=5e-5)
    assert fit.terms[0].beta == pytest.approx(-0.2322, abs=5e-5)
    assert fit.terms[0].std_error == pytest.approx(0.1082, abs=5e-5)


def test_bland_and_altmans_peak_flow():
    """Bland and Altman, Lancet 1986;1:307-310: Wright meter minus mini meter."""
    wright = [494, 395, 516, 434, 476, 557, 413, 442, 650, 433, 417, 656, 267, 478, 178, 423, 427]
    mini = [512, 430, 520, 428, 500, 600, 364, 380, 658, 445, 432, 626, 260, 477, 259, 350, 451]
    found = agreement.bland_altman(wright, mini)
    assert found.bias.estimate == pytest.approx(-2.1, abs=0.05)
    assert found.sd == pytest.approx(38.8, abs=0.05)
    assert [found.bias.ci_low, found.bias.ci_high] == pytest.approx([-22.0, 17.8], abs=0.06)


def test_hanley_and_mcneils_readings():
    """Hanley and McNeil, Radiology 1982;143:29-36, table I: AUC 0.893."""
    normal, abnormal = (
        np.repeat(range(5), [33, 6, 6, 11, 2]),
        np.repeat(range(5), [3, 2, 2, 11, 33]),
    )
    outcome = np.repeat([0, 1], [normal.size, abnormal.size])
    assert roc.auc(outcome, np.r_[normal, abnormal]).estimate == pytest.approx(0.893, abs=5e-4)


def test_dependent_correlations():
    """Zou, Psychol Methods 2007;12:399-413; Meng, Rosenthal and Rubin, 1992 (Psychol Bull 111)."""
    zou = compare_dependent(0.396, 0.179, 0.088, 66).difference
    assert [zou.ci_low, zou.ci_high] == pytest.approx([-0.093, 0.517], abs=5e-4)
    meng = compare_dependent(0.63, -0.03, -0.19, 15).tests["meng"]
    assert meng.statistic == pytest.approx(1.68, abs=5e-3)


def test_rileys_sample_sizes():
    """Riley et al., BMJ 2020;368:m441, and Ensor's pmsampsize, binary and time-to-event."""
    binary = sample_size.sample_size_binary(662, 115, 24, r2_cox_snell=0.288)
    assert list(binary.criteria.values()) == [623, 662, 221]
    survived = sample_size.sample_size_survival(
        5143, 692, 30, mean_follow_up=2.07, horizon=2, r2_cox_snell=0.051
    )
    assert survived.required_n == 5143
