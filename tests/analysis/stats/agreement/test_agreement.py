from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dlild_analysis.stats import agreement
from dlild_analysis.stats.errors import StatisticsError

VOLUMES = Path(__file__).parents[5] / "shared" / "data" / "aipfr-fibrosis-volumes"
FORMS = ["icc_1_1", "icc_2_1", "icc_3_1", "icc_1_k", "icc_2_k", "icc_3_k"]


def check_icc(ratings, expected, *, digits=1e-8):
    found = agreement.intraclass_correlation(ratings)
    for form in FORMS:
        ours, theirs = getattr(found, form), expected[form]
        numbers = [ours.estimate, ours.ci_low, ours.ci_high]
        wanted = [theirs["estimate"], theirs["low"], theirs["high"]]
        assert numbers == pytest.approx(wanted, rel=digits)
        assert ours.p_value == pytest.approx(theirs["p"], rel=1e-4, abs=1e-300)


def check_bland_altman(a, b, expected):
    found = agreement.bland_altman(a, b)
    assert found.bias.estimate == pytest.approx(expected["bias"], rel=1e-9)
    bias = [found.bias.ci_low, found.bias.ci_high]
    assert bias == pytest.approx(expected["bias_ci"], rel=1e-9)
    assert found.sd == pytest.approx(expected["sd"], rel=1e-9)
    upper, lower = found.upper_limit, found.lower_limit
    assert upper.estimate == pytest.approx(expected["upper"], rel=1e-9)
    assert [upper.ci_low, upper.ci_high] == pytest.approx(expected["upper_ci"], rel=1e-9)
    assert lower.estimate == pytest.approx(expected["lower"], rel=1e-9)
    assert found.proportional_bias.statistic == pytest.approx(expected["slope_t"], rel=1e-7)
    exact = agreement.bland_altman(a, b, interval="exact").upper_limit
    assert [exact.ci_low, exact.ci_high] == pytest.approx(expected["exact_upper"], rel=1e-6)


def test_shrout_and_fleiss(golden, table):
    ratings = table("shrout_fleiss")
    check_icc(ratings, golden("agreement")["shrout_fleiss"])
    found = agreement.intraclass_correlation(ratings)
    # Shrout and Fleiss 1979, table 4.
    printed = [0.17, 0.29, 0.71, 0.44, 0.62, 0.91]
    assert [getattr(found, form).estimate for form in FORMS] == pytest.approx(printed, abs=0.005)


def test_icc_of_two_scores_against_psych(golden, registry):
    check_icc(registry[["lesion", "visual"]], golden("agreement")["pair"])


def test_bland_altman_against_r(golden, registry):
    check_bland_altman(registry["lesion"], registry["visual"], golden("agreement")["bland_altman"])


def test_within_subject_sd_against_r(golden, table):
    expected, ratings = golden("agreement")["within"], table("shrout_fleiss").to_numpy()
    found = agreement.repeatability(np.repeat(np.arange(6), 4), ratings.ravel())
    sd = found.within_subject_sd
    assert sd.estimate == pytest.approx(expected["sd"], rel=1e-9)
    assert [sd.ci_low, sd.ci_high] == pytest.approx(expected["ci"], rel=1e-9)
    assert found.coefficient.estimate == pytest.approx(expected["sd"] * 2.771808, rel=1e-6)


def fibrosis_share(model):
    data = pd.read_csv(VOLUMES / f"{model}.csv").sort_values("case")
    return (100 * data["volume_fibrosis"] / data["volume_lung"]).to_numpy()


@pytest.mark.skipif(not VOLUMES.is_dir(), reason=f"no registry volumes at {VOLUMES}")
def test_three_models_on_the_ipf_registry(golden):
    expected = golden("agreement")["fibrosis"]
    shares = [fibrosis_share(m) for m in ("full_supervised_unet", "wsss_coin", "wsss_unet")]
    assert len(shares[0]) == expected["n"] == 227
    check_icc(np.column_stack(shares), expected["icc"])
    check_icc(np.column_stack([shares[0], shares[2]]), expected["icc_pair"])
    check_bland_altman(shares[0], shares[2], expected["bland_altman"])
    check_bland_altman(shares[0], shares[1], expected["bland_altman_coin"])


tables = st.lists(
    st.lists(st.integers(-50, 50), min_size=3, max_size=3), min_size=3, max_size=20
).filter(lambda rows: len({value for row in rows for value in row}) > 1)


@given(tables, st.integers(-100, 100))
def test_consistency_ignores_a_raters_offset(rows, offset):
    ratings = np.array(rows, dtype=float)
    moved = ratings + np.array([0, offset, 0])
    if np.ptp(ratings - ratings[0]) == 0:
        with pytest.raises(StatisticsError, match="nothing varies between subjects"):
            agreement.intraclass_correlation(ratings)
        return
    plain = agreement.intraclass_correlation(ratings)
    other = agreement.intraclass_correlation(moved)
    assert other.icc_3_1.estimate == pytest.approx(plain.icc_3_1.estimate, abs=1e-6)
    assert other.ms_subjects == pytest.approx(plain.ms_subjects, abs=1e-9)


@given(tables)
def test_swapping_readings_turns_the_limits(rows):
    a, b, _ = np.array(rows, dtype=float).T
    one, two = agreement.bland_altman(a, b), agreement.bland_altman(b, a)
    assert one.bias.estimate == pytest.approx(-two.bias.estimate)
    assert one.upper_limit.estimate == pytest.approx(-two.lower_limit.estimate)
    assert one.upper_limit.ci_high == pytest.approx(-two.lower_limit.ci_low)


def test_degenerate():
    with pytest.raises(StatisticsError, match="all are 4"):
        agreement.intraclass_correlation([[4, 4], [4, 4]])
    with pytest.raises(StatisticsError, match="at least 2 subjects"):
        agreement.intraclass_correlation([[1, 2]])
    with pytest.raises(StatisticsError, match="missing or infinite"):
        agreement.intraclass_correlation([[1, 2], [np.nan, 3]])
    same = agreement.intraclass_correlation([[1, 1], [2, 2], [5, 5]])
    assert same.icc_2_1.estimate == same.icc_3_1.estimate == 1
    assert same.warnings
    equal = agreement.bland_altman([1, 2, 3], [1, 2, 3])
    assert (equal.sd, equal.upper_limit.estimate) == (0, 0)
    assert "limits coincide" in equal.warnings[0]
    with pytest.raises(StatisticsError, match="no subject has two readings"):
        agreement.repeatability(["a", "b"], [1, 2])
    assert (
        "1 subjects have one reading only"
        in agreement.repeatability(["a", "a", "b"], [1, 2, 3]).warnings[0]
    )


@pytest.mark.parametrize("weights", ["none", "linear", "quadratic"])
@pytest.mark.parametrize("name", ["quartiles", "halves"])
def test_kappa_against_vcd_and_psych(golden, name, weights):
    numbers = golden("kappa")
    a, b = np.array(numbers["four"]), np.array(numbers["other"])
    if name == "halves":
        a, b = (a > 1).astype(int), (b > 1).astype(int)
    expected = numbers[name][weights]
    found = agreement.cohen_kappa(a, b, weights=weights)
    assert found.kappa.estimate == pytest.approx(expected["kappa"], rel=1e-9)
    assert found.kappa.std_error == pytest.approx(expected["se"], rel=1e-9)
    assert found.kappa.p_value == pytest.approx(expected["p"], rel=1e-6)
    limits = [found.kappa.ci_low, found.kappa.ci_high]
    assert limits == pytest.approx([expected["low"], expected["high"]], rel=1e-9)
    assert found.table.sum() == len(a)


def test_kappa_of_the_ends():
    assert agreement.cohen_kappa([0, 1, 2, 0], [0, 1, 2, 0]).kappa.estimate == pytest.approx(1)
    with pytest.raises(StatisticsError, match="same category"):
        agreement.cohen_kappa([1, 1, 1], [1, 1, 1])
    with pytest.raises(StatisticsError, match="written 0, 1, 2"):
        agreement.cohen_kappa([0.5, 1], [1, 1])
    wide = agreement.cohen_kappa([0, 1, 1], [0, 1, 0], categories=5)
    assert wide.table.shape == (5, 5)
    assert "few" in wide.warnings[0]


def test_important_difference_against_r(golden):
    numbers = golden("kappa")["anchor"]
    found = agreement.important_difference(numbers["change"], numbers["fvc"])
    assert found.correlation.estimate == pytest.approx(numbers["rho"], rel=1e-9)
    part = found.group_difference
    assert part.estimate == pytest.approx(numbers["difference"], rel=1e-9)
    assert [part.ci_low, part.ci_high] == pytest.approx(numbers["difference_ci"], rel=1e-7)
    line = found.regression
    limits = [line.estimate, line.ci_low, line.ci_high]
    assert limits == pytest.approx(numbers["at_threshold"], rel=1e-9)


def test_a_weak_anchor_is_said():
    rng = np.random.default_rng(3)
    found = agreement.important_difference(rng.normal(size=80), rng.normal(-5, 6, size=80))
    assert any("no minimal important difference" in text for text in found.warnings)
