from __future__ import annotations

import numpy as np
import pytest
from examples import examples
from hypothesis import given
from hypothesis import strategies as st

from dlild_analysis.stats import logistic
from dlild_analysis.stats.errors import StatisticsError

COVARIATES = ["age", "lesion", "fvc"]


def limits(fit):
    terms = [term.odds_ratio for term in fit.terms]
    return np.log([[t.ci_low for t in terms], [t.ci_high for t in terms]])


def test_multivariable_against_glm(golden, registry):
    expected = golden("logistic")["multi"]
    fit = logistic.fit_logistic(registry[COVARIATES], registry["outcome"])
    betas = [fit.intercept, *(term.beta for term in fit.terms)]
    assert betas == pytest.approx(expected["beta"], rel=1e-8)
    assert np.sqrt(np.diag(fit.covariance)) == pytest.approx(expected["se"], rel=1e-6)
    assert [t.odds_ratio.p_value for t in fit.terms] == pytest.approx(expected["p"][1:], rel=1e-7)
    assert fit.log_likelihood == pytest.approx(expected["loglik"], rel=1e-10)
    assert fit.log_likelihood_null == pytest.approx(expected["null"], rel=1e-10)
    assert {t.name: t.vif for t in fit.terms} == pytest.approx(expected["vif"], rel=1e-8)
    assert fit.penalty == "none"


def test_profile_intervals_against_r(golden, registry):
    expected = np.array(golden("logistic")["multi"]["profile"])
    fit = logistic.fit_logistic(registry[COVARIATES], registry["outcome"], interval="profile")
    assert limits(fit) == pytest.approx(expected.T, rel=1e-6)


def test_per_sd_is_per_unit_to_the_sd(registry):
    fit = logistic.fit_logistic(registry[COVARIATES], registry["outcome"])
    for term in fit.terms:
        assert term.sd == pytest.approx(registry[term.name].std())
        unit, whole = term.odds_ratio, term.odds_ratio_per_sd
        assert whole.estimate == pytest.approx(unit.estimate**term.sd)
        assert whole.ci_high == pytest.approx(unit.ci_high**term.sd)
        assert whole.p_value == unit.p_value


def test_univariable_against_glm(golden, table):
    expected, data = golden("logistic")["s100b"], table("asah")
    fit = logistic.fit_logistic(data[["s100b"]], data["outcome"])
    assert [fit.intercept, fit.terms[0].beta] == pytest.approx(expected["beta"], rel=1e-8)
    # glm takes its standard errors from the last step but one.
    assert fit.terms[0].std_error == pytest.approx(expected["se"][1], rel=1e-6)
    assert fit.terms[0].vif == 1


def test_prediction_against_glm(golden, registry):
    expected = golden("logistic")["prediction"]
    fit = logistic.fit_logistic(registry[COVARIATES], registry["outcome"])
    found = logistic.predict_logistic(fit, registry[COVARIATES][:3])
    link = np.log(found.risk / (1 - found.risk))
    upper = np.log(found.ci_high / (1 - found.ci_high))
    assert link == pytest.approx(expected["link"], rel=1e-8)
    assert (upper - link) / 1.959963984540054 == pytest.approx(expected["se"], rel=1e-7)
    assert found.warnings == ()
    outside = logistic.predict_logistic(fit, [[200.0, 30.0, 80.0]])
    assert "1 of 1 rows lie outside" in outside.warnings[0]


def test_firth_against_a_general_optimiser(golden, table):
    expected, data = golden("logistic")["firth_s100b"], table("asah")
    fit = logistic.fit_logistic(data[["s100b", "wfns"]], data["outcome"], penalty="firth")
    betas = [fit.intercept, *(term.beta for term in fit.terms)]
    assert betas == pytest.approx(expected["beta"], rel=1e-6)
    assert fit.log_likelihood == pytest.approx(expected["loglik"], rel=1e-9)
    assert limits(fit) == pytest.approx(np.array([expected["low"], expected["high"]]), rel=1e-5)
    assert [t.odds_ratio.p_value for t in fit.terms] == pytest.approx(expected["p"], rel=1e-4)


def test_separated_classes_fall_back_to_firth(golden):
    data = golden("logistic")["separated"]
    design, y = np.column_stack([data["x"], data["w"]]), data["y"]
    fit = logistic.fit_logistic(design, y, ["x", "w"])
    assert fit.penalty == "firth"
    assert any("complete separation by x:" in warning for warning in fit.warnings)
    betas = [fit.intercept, *(term.beta for term in fit.terms)]
    assert betas == pytest.approx(data["beta"], rel=1e-5)
    assert limits(fit) == pytest.approx(np.array([data["low"], data["high"]]), rel=1e-4)
    assert [t.odds_ratio.p_value for t in fit.terms] == pytest.approx(data["p"], rel=1e-4)
    with pytest.raises(StatisticsError, match="penalty='firth'"):
        logistic.fit_logistic(design, y, ["x", "w"], penalty="none")


def test_few_events_choose_firth_and_say_so(registry):
    few = registry.iloc[:20]
    fit = logistic.fit_logistic(few[COVARIATES], few["outcome"])
    assert fit.events_per_parameter < 5
    assert fit.penalty == "firth"
    assert "Firth's penalised likelihood was used" in fit.warnings


def test_linearity_against_r(golden, registry):
    expected = golden("logistic")["linearity"]
    found = logistic.linearity_test(
        registry["lesion"], registry["outcome"], registry[["age"]], name="lesion"
    )
    assert found.test.statistic == pytest.approx(expected["chi2"], rel=1e-7)
    assert found.test.p_value == pytest.approx(expected["p"], rel=1e-6)


def test_linearity_with_few_values_uses_fewer_knots(registry):
    coarse = np.digitize(registry["lesion"], [20, 40])
    found = logistic.linearity_test(coarse, registry["outcome"], n_knots=5)
    assert len(found.knots) < 5
    assert "want of distinct values" in found.warnings[0]
    with pytest.raises(StatisticsError, match="2 distinct values carry no spline"):
        logistic.linearity_test(registry["lesion"] > 25, registry["outcome"])


@pytest.mark.parametrize(
    ("x", "kind"),
    [
        ([1, 2, 3, 4, 5, 6], "complete"),
        ([1, 2, 3, 3, 4, 5], "quasi"),
        ([1, 4, 2, 3, 6, 5], "none"),
        ([6, 5, 4, 3, 2, 1], "complete"),
    ],
)
def test_separation_kinds(x, kind):
    found = logistic.detect_separation(np.array(x)[:, None], [0, 0, 0, 1, 1, 1], ["x"])
    assert found.kind == kind
    assert found.columns == (() if kind == "none" else ("x",))


def test_separation_by_two_covariates_together():
    rng = np.random.default_rng(3)
    x = rng.normal(size=(60, 2))
    y = (x[:, 0] + x[:, 1] > 0).astype(int)
    found = logistic.detect_separation(x, y, ["a", "b"])
    assert (found.kind, found.columns) == ("complete", ("a", "b"))


def test_variance_inflation_sees_a_determined_column():
    x = np.array([1.0, 2, 3, 4, 7])
    factors = logistic.variance_inflation(np.column_stack([x, 2 * x, [1, 0, 3, 1, 2]]))
    assert factors["x1"] == factors["x2"] == np.inf
    assert 1 <= factors["x3"] < np.inf


@given(st.floats(0.01, 100), st.floats(-1e3, 1e3))
@examples(20)
def test_units_do_not_matter(factor, shift):
    rng = np.random.default_rng(5)
    x = rng.normal(size=80)
    y = rng.random(80) < 1 / (1 + np.exp(-x))
    plain = logistic.fit_logistic(x, y).terms[0]
    moved = logistic.fit_logistic(factor * x + shift, y).terms[0]
    assert moved.odds_ratio_per_sd.estimate == pytest.approx(
        plain.odds_ratio_per_sd.estimate, rel=1e-6
    )
    assert moved.odds_ratio.p_value == pytest.approx(plain.odds_ratio.p_value, rel=1e-6)
    assert moved.beta * factor == pytest.approx(plain.beta, rel=1e-6)


def test_bad_designs_are_named(registry):
    y = registry["outcome"]
    with pytest.raises(StatisticsError, match="flat: the same value in all 160"):
        logistic.fit_logistic(registry.assign(flat=1.0)[["age", "flat"]], y)
    with pytest.raises(StatisticsError, match="twice: determined by the other"):
        logistic.fit_logistic(registry.assign(twice=2 * registry["age"])[["age", "twice"]], y)
    with pytest.raises(StatisticsError, match="0 events in 160"):
        logistic.fit_logistic(registry[["age"]], 0 * y)
    with pytest.raises(StatisticsError, match="3 covariates for 3 patients"):
        logistic.fit_logistic(registry[COVARIATES][:3], [0, 1, 0])
    with pytest.raises(StatisticsError, match="1 columns; the model has 3: age, lesion, fvc"):
        logistic.predict_logistic(logistic.fit_logistic(registry[COVARIATES], y), [[1.0]])
    with pytest.raises(StatisticsError, match="use 'auto'"):
        logistic.fit_logistic(registry[["age"]], y, penalty="lasso")
