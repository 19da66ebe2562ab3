from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from examples import examples
from hypothesis import given
from hypothesis import strategies as st
from lifelines import CoxPHFitter

from dlild_analysis.stats import cox
from dlild_analysis.stats.cox import partial_likelihood
from dlild_analysis.stats.errors import StatisticsError

NAMES = ["lung", "ovarian", "veteran", "pbc", "registry"]


def cohort(table, name):
    data = table(name)
    if name == "lung":
        return data[["age", "sex", "ph.ecog"]], data["time"], data["status"] - 1
    if name == "ovarian":
        return data[["age", "rx"]], data["futime"], data["fustat"]
    if name == "veteran":
        columns = ["trt", "karno", "squamous", "smallcell", "adeno"]
        return data[columns], data["time"], data["status"]
    if name == "pbc":
        logs = {c: np.log(data[c]) for c in ("bili", "albumin", "protime")}
        design = pd.DataFrame({"age": data["age"], "edema": data["edema"], **logs})
        return design, data["time"], data["status"] == 2
    return data[["lesion", "age"]], data["month"], data["cause"] > 0


@pytest.mark.parametrize("name", NAMES)
def test_fit_against_r(golden, table, name):
    expected = golden("survival")[f"cox_{name}"]
    fit = cox.fit_cox(*cohort(table, name))
    terms = fit.terms
    ratios = [t.hazard_ratio for t in terms]
    assert [t.beta for t in terms] == pytest.approx(expected["beta"], rel=1e-7)
    assert [t.std_error for t in terms] == pytest.approx(expected["se"], rel=1e-7)
    assert [r.estimate for r in ratios] == pytest.approx(expected["hr"], rel=1e-7)
    limits = np.array([[r.ci_low, r.ci_high] for r in ratios])
    assert limits == pytest.approx(np.array(expected["ci"]), rel=1e-7)
    assert [r.p_value for r in ratios] == pytest.approx(expected["p"], rel=1e-5)
    assert [fit.log_likelihood_null, fit.log_likelihood] == pytest.approx(expected["loglik"])
    assert fit.likelihood_ratio.statistic == pytest.approx(expected["lr"], rel=1e-7)
    assert fit.wald.statistic == pytest.approx(expected["wald"], rel=1e-6)
    assert fit.score.statistic == pytest.approx(expected["score"], rel=1e-7)
    found = [fit.concordance.estimate, fit.concordance.std_error]
    assert found == pytest.approx(expected["concordance"], rel=1e-7)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("transform", ["km", "identity", "rank", "log"])
def test_proportional_hazards_against_cox_zph(golden, table, name, transform):
    expected = np.array(golden("survival")[f"cox_{name}"]["zph"][transform])
    found = cox.proportional_hazards_test(*cohort(table, name), transform=transform)
    tests = [*found.terms.values(), found.overall]
    assert [t.statistic for t in tests] == pytest.approx(expected[:, 0], rel=1e-6)
    assert [t.df for t in tests] == list(expected[:, 1])
    assert [t.p_value for t in tests] == pytest.approx(expected[:, 2], rel=1e-5)


@pytest.mark.parametrize(("name", "horizon"), [("lung", 365), ("registry", 24)])
def test_predicted_risks_against_survfit(golden, table, name, horizon):
    expected = golden("survival")[f"predict_{name}"]
    design, time, event = cohort(table, name)
    found = cox.predict_cox(cox.fit_cox(design, time, event), design[:4], horizon)
    assert found.risk == pytest.approx(expected["risk"], rel=1e-7)
    assert found.ci_low == pytest.approx(expected["low"], rel=1e-6)
    assert found.ci_high == pytest.approx(expected["high"], rel=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_fit_agrees_with_lifelines(table, name):
    design, time, event = cohort(table, name)
    frame = design.assign(when=time.to_numpy(), what=np.asarray(event))
    theirs = CoxPHFitter().fit(frame, "when", "what")
    ours = cox.fit_cox(design, time, event)
    assert [t.beta for t in ours.terms] == pytest.approx(theirs.params_.to_list(), rel=1e-3)
    assert ours.log_likelihood >= theirs.log_likelihood_ - 1e-9


@given(st.floats(0.01, 100), st.floats(-1000, 1000), st.integers(0, 2**20))
@examples(20)
def test_units_of_covariates_and_order_of_time_do_not_matter(factor, shift, seed):
    rng = np.random.default_rng(seed)
    x, time, event = rng.normal(size=50), rng.integers(1, 20, 50), rng.random(50) < 0.6
    if not event.any():
        event[0] = True
    try:
        plain = cox.fit_cox(x, time, event).terms[0]
    except StatisticsError:
        pytest.fail("a random cohort of 50 has a Cox model")
    moved = cox.fit_cox(factor * x + shift, np.log1p(time), event).terms[0]
    ratios = plain.hazard_ratio_per_sd, moved.hazard_ratio_per_sd
    assert ratios[1].estimate == pytest.approx(ratios[0].estimate, rel=1e-6)
    assert ratios[1].ci_low == pytest.approx(ratios[0].ci_low, rel=1e-6)


def test_a_covariate_that_ranks_all_events_has_no_finite_ratio():
    x = np.arange(20.0)
    fit = cox.fit_cox(x, 20 - x, np.ones(20), ["score"])
    ratio = fit.terms[0].hazard_ratio
    assert ratio.estimate == np.inf
    assert np.isnan(ratio.ci_low)
    assert "score: the likelihood rises without end" in fit.warnings[0]
    assert ratio.p_value < 1e-6
    assert fit.wald.warnings
    with pytest.raises(StatisticsError, match="predicts no risk"):
        cox.predict_cox(fit, x[:2], 5)
    with pytest.raises(StatisticsError, match="infinite"):
        cox.proportional_hazards_test(x, 20 - x, np.ones(20))


def test_degenerate_cohorts(registry):
    x, time = registry["lesion"], registry["time"]
    with pytest.raises(StatisticsError, match="0 events"):
        cox.fit_cox(x, time, np.zeros(160))
    with pytest.raises(StatisticsError, match="same value in all 160"):
        cox.fit_cox(np.ones(160), time, registry["event"])
    one = np.zeros(160)
    one[int(np.argmin(time))] = 1
    assert "events per parameter" in cox.fit_cox(x, time, one).warnings[-1]
    flat = cox.proportional_hazards_test(x, np.full(160, 12.0), registry["event"])
    assert flat.overall.p_value == 1
    assert flat.warnings


def test_prediction_refusals(registry):
    fit = cox.fit_cox(registry[["lesion"]], registry["month"], registry["event"])
    with pytest.raises(StatisticsError, match="beyond the longest follow-up, 36"):
        cox.predict_cox(fit, [[20.0]], 60)
    with pytest.raises(StatisticsError, match="2 columns; the model has 1: lesion"):
        cox.predict_cox(fit, [[20.0, 3.0]], 12)
    assert "outside the range" in cox.predict_cox(fit, [[500.0]], 12).warnings[0]
    with pytest.raises(StatisticsError, match="transform"):
        cox.proportional_hazards_test(
            registry[["lesion"]], registry["month"], registry["event"], transform="sqrt"
        )


def test_rounding_below_zero_makes_no_negative_variance(monkeypatch):
    """An information of zero that rounding turned negative has told nothing, not less."""
    x = np.random.default_rng(1).normal(size=(20, 2))
    time, event = np.repeat([6.0, 12.0], 10), np.ones(20, dtype=bool)
    whole = partial_likelihood.moments_at

    def rounded(sets, beta):
        moments = whole(sets, beta)
        information = moments.information.copy()
        if len(information) > 1:
            information[1], information[:, 1] = [0, -1e-17], [0, -1e-17]
        return replace(moments, information=information)

    monkeypatch.setattr(partial_likelihood, "moments_at", rounded)
    fit = cox.fit_cox(x, time, event)
    assert [np.isfinite(term.std_error) for term in fit.terms] == [True, False]
    assert "likelihood rises without end" in fit.warnings[0]
    assert (np.diag(fit.covariance) >= 0).all()
