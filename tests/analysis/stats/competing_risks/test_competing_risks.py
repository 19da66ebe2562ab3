from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dlild_analysis.stats import competing_risks, cox, survival
from dlild_analysis.stats.errors import StatisticsError

cohorts = st.lists(st.tuples(st.integers(0, 12), st.integers(0, 2)), min_size=2, max_size=40)


@pytest.mark.parametrize(
    ("key", "time", "of"),
    [("aj_exact", "time", 1), ("aj_tied", "month", 1), ("aj_other", "month", 2)],
)
def test_incidence_against_multistate_survfit(golden, registry, key, time, of):
    expected = golden("competing")[key]
    curve = competing_risks.aalen_johansen(registry[time], registry["cause"], of=of)
    found = competing_risks.incidence_at(curve, [6, 12, 24])
    names = {"estimate": "p", "std_error": "se", "ci_low": "low", "ci_high": "high"}
    for ours, theirs in names.items():
        assert [getattr(f, ours) for f in found] == pytest.approx(expected[theirs], rel=1e-8)


def test_cause_specific_cox_against_r(golden, registry):
    expected = golden("competing")["cause_specific"]
    fit = competing_risks.fit_cause_specific(
        registry[["lesion", "age"]], registry["month"], registry["cause"]
    )
    assert [t.beta for t in fit.terms] == pytest.approx(expected["beta"], rel=1e-7)
    assert [t.std_error for t in fit.terms] == pytest.approx(expected["se"], rel=1e-7)


@pytest.mark.parametrize(
    ("key", "time", "columns", "of"),
    [
        ("fg_exact", "time", ["lesion", "age"], 1),
        ("fg_tied", "month", ["lesion", "age"], 1),
        ("fg_other", "time", ["age"], 2),
    ],
)
def test_fine_gray_against_cmprsk(golden, registry, key, time, columns, of):
    expected = golden("competing")[key]
    fit = competing_risks.fit_fine_gray(registry[columns], registry[time], registry["cause"], of=of)
    betas, errors = np.atleast_1d(expected["beta"]), np.atleast_1d(expected["se"])
    assert [t.beta for t in fit.terms] == pytest.approx(betas, rel=1e-7)
    assert [t.std_error for t in fit.terms] == pytest.approx(errors, rel=1e-6)
    assert fit.log_likelihood == pytest.approx(expected["loglik"], rel=1e-9)
    assert fit.log_likelihood_null == pytest.approx(expected["null"], rel=1e-9)


def test_fine_gray_of_pbc_against_cmprsk(golden, table):
    expected, data = golden("competing")["fg_pbc"], table("pbc")
    design = np.column_stack([data["age"], np.log(data["bili"])])
    fit = competing_risks.fit_fine_gray(design, data["time"], data["status"], ["age", "bili"], of=2)
    assert [t.beta for t in fit.terms] == pytest.approx(expected["beta"], rel=1e-7)
    assert [t.std_error for t in fit.terms] == pytest.approx(expected["se"], rel=1e-6)
    assert fit.names == ("age", "bili")


@given(cohorts)
def test_incidences_and_survival_add_up(rows):
    time, cause = (np.array(c) for c in zip(*rows, strict=True))
    if not cause.any():
        cause[0] = 1
    one, two = (competing_risks.aalen_johansen(time, cause, of=k) for k in (1, 2))
    free = survival.survival_at(survival.kaplan_meier(time, cause > 0), one.times)
    whole = one.incidence + two.incidence + [f.estimate for f in free]
    assert whole == pytest.approx(1)


def test_one_cause_alone_is_kaplan_meier(registry):
    time, event = registry["month"], registry["event"]
    curve = competing_risks.aalen_johansen(time, event)
    (found,) = competing_risks.incidence_at(curve, [24])
    (free,) = survival.survival_at(survival.kaplan_meier(time, event), [24])
    assert found.estimate == pytest.approx(1 - free.estimate)
    # The jackknife's variance and Greenwood's differ by terms of order 1 / n.
    assert found.std_error == pytest.approx(free.std_error, rel=0.02)


def test_fine_gray_without_competing_events_is_cox(registry):
    design, event = registry[["lesion", "age"]], registry["event"]
    fit = competing_risks.fit_fine_gray(design, registry["time"], event)
    plain = cox.fit_cox(design, registry["time"], event)
    assert [t.beta for t in fit.terms] == pytest.approx([t.beta for t in plain.terms], rel=1e-6)
    assert any("no competing event" in w for w in fit.warnings)


def test_degenerate(registry):
    time, cause = registry["time"], registry["cause"]
    with pytest.raises(StatisticsError, match=r"found 1.5; use 0"):
        competing_risks.aalen_johansen([1, 2], [1.5, 0])
    nothing = competing_risks.aalen_johansen(time, np.zeros(160))
    assert len(nothing.warnings) == 2
    (found,) = competing_risks.incidence_at(nothing, [12])
    assert (found.estimate, found.ci_high) == (0, 0)
    assert found.warnings
    (late,) = competing_risks.incidence_at(competing_risks.aalen_johansen(time, cause), [400])
    assert np.isnan(late.estimate)
    assert "beyond the longest" in late.warnings[0]
    for fit in (competing_risks.fit_cause_specific, competing_risks.fit_fine_gray):
        with pytest.raises(StatisticsError, match="no event of cause 7"):
            fit(registry[["age"]], time, cause, of=7)
    rank = np.arange(20.0)
    with pytest.raises(StatisticsError, match="no convergence"):
        competing_risks.fit_fine_gray(rank, 20 - rank, np.ones(20))
