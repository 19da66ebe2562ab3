from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
from statsmodels.regression.mixed_linear_model import MixedLM

from dlild_analysis.stats import longitudinal
from dlild_analysis.stats.errors import StatisticsError


@pytest.fixture(scope="module")
def fvc(table) -> pd.DataFrame:
    frame = table("fvc")
    years, tens, high = frame["months"] / 12, frame["score"] / 10, 1.0 * (frame["score"] >= 25)
    return frame.assign(
        years=years, tens=tens, tens_years=tens * years, high=high, high_years=high * years
    )


@pytest.mark.parametrize(
    ("key", "columns"),
    [
        ("slope", ["years"]),
        ("group", ["high", "years", "high_years"]),
        ("score", ["tens", "years", "tens_years"]),
    ],
)
def test_mixed_model_against_nlme_and_lme4(golden, fvc, key, columns):
    expected = golden("longitudinal")[key]
    found = longitudinal.fit_mixed_slopes(fvc[columns], fvc["fvc_ml"], fvc["years"], fvc["patient"])
    assert found.names == ("intercept", *columns)
    errors = np.sqrt(np.diag(found.covariance))
    # The optimisers of R's packages stop a little apart from one another.
    for name, tolerance in (("", 1e-3), ("lme4_", 2e-5)):
        np.testing.assert_allclose(found.beta, expected[f"{name}beta"], rtol=tolerance)
        np.testing.assert_allclose(errors, expected[f"{name}se"], rtol=tolerance)
    assert found.log_likelihood == pytest.approx(expected["lme4_loglik"], abs=1e-6)
    assert [found.sd_intercept, found.sd_slope] == pytest.approx(expected["sd"], rel=1e-4)
    assert found.correlation == pytest.approx(expected["correlation"], rel=1e-3)
    assert found.sd_residual == pytest.approx(expected["sigma"], rel=1e-4)


def test_pattern_mixture_against_nlme(golden, fvc):
    expected = golden("longitudinal")["mixture"]
    found = longitudinal.pattern_mixture_slope(
        fvc["fvc_ml"], fvc["years"], fvc["patient"], fvc["pattern"]
    )
    assert found.patterns == ("complete", "death", "dropout")
    assert [item.estimate for item in found.slopes] == pytest.approx(expected["slopes"], rel=1e-4)
    assert [item.std_error for item in found.slopes] == pytest.approx(expected["se"], rel=1e-4)
    assert found.mean.estimate == pytest.approx(expected["mean"], rel=1e-4)
    assert found.mean.std_error == pytest.approx(expected["mean_se"], rel=1e-4)


def test_unit_of_the_outcome_changes_nothing_but_the_unit(fvc):
    columns = fvc[["tens", "years", "tens_years"]]
    millilitres = longitudinal.fit_mixed_slopes(
        columns, fvc["fvc_ml"], fvc["years"], fvc["patient"]
    ).effect("tens_years")
    litres = longitudinal.fit_mixed_slopes(
        columns, fvc["fvc_ml"] / 1000, fvc["years"], fvc["patient"]
    ).effect("tens_years")
    assert litres.estimate * 1000 == pytest.approx(millilitres.estimate, rel=1e-6)
    assert litres.p_value == pytest.approx(millilitres.p_value, rel=1e-4)


def test_a_fit_takes_few_evaluations(fvc, monkeypatch):
    taken, at = [], longitudinal._at
    monkeypatch.setattr(longitudinal, "_at", lambda *given: taken.append(1) or at(*given))
    for value in (fvc["fvc_ml"], 2500 + 0.01 * fvc["fvc_ml"], fvc["fvc_ml"] * 1.7):
        longitudinal.fit_mixed_slopes(fvc[["years"]], value, fvc["years"], fvc["patient"])
    assert len(taken) < 3 * 2_500


@pytest.mark.parametrize("seed", range(3, 9))
def test_no_optimiser_of_statsmodels_finds_a_higher_likelihood(fvc, seed):
    flat = 2500.0 - 100 * fvc["years"] + np.random.default_rng(seed).normal(0, 50, len(fvc))
    found = longitudinal.fit_mixed_slopes(fvc[["years"]], flat, fvc["years"], fvc["patient"])
    assert found.effect("years").ci_low < -100 < found.effect("years").ci_high
    fixed = np.column_stack([np.ones(len(fvc)), fvc["years"]])
    model = MixedLM(flat, fixed, groups=fvc["patient"], exog_re=fixed)
    for method in ("lbfgs", "powell"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            other = model.fit(reml=True, method=method)
        assert other.llf <= found.log_likelihood + 1e-4


def test_slopes_without_spread_are_a_singular_fit(fvc):
    flat = 2500.0 - 100 * fvc["years"] + np.random.default_rng(3).normal(0, 50, len(fvc))
    found = longitudinal.fit_mixed_slopes(fvc[["years"]], flat, fvc["years"], fvc["patient"])
    assert "singular" in found.warnings[0]


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda f: f[f["patient"] < 3], "at least 3 such patients"),
        (lambda f: f.groupby("patient").tail(1), "0 with two measurements"),
        (lambda f: f.assign(fvc_ml=2000.0), "there is no change"),
        (lambda f: f.assign(years=f.groupby("patient")["years"].transform("max")), "have one time"),
        (lambda f: f.assign(fvc_ml=np.nan), "missing or infinite"),
        (lambda f: f.assign(fvc_ml=f["patient"] * (10 - f["years"])), "lie on a line"),
    ],
)
def test_what_gives_no_slope_is_refused(fvc, edit, words):
    frame = edit(fvc)
    with pytest.raises(StatisticsError, match=words):
        longitudinal.fit_mixed_slopes(
            frame[["years"]], frame["fvc_ml"], frame["years"], frame["patient"]
        )
    with pytest.raises(StatisticsError, match="two patterns"):
        longitudinal.pattern_mixture_slope(
            fvc["fvc_ml"], fvc["years"], fvc["patient"], fvc["high"] * 0
        )


def test_intervals_count_patients_not_measurements(fvc):
    found = longitudinal.fit_mixed_slopes(
        fvc[["years"]], fvc["fvc_ml"], fvc["years"], fvc["patient"]
    )
    slope = found.effect("years")
    assert found.df == 58
    half = (slope.ci_high - slope.ci_low) / 2
    assert half / slope.std_error == pytest.approx(2.0017, abs=1e-4)  # t of 58 degrees, 97.5 %
