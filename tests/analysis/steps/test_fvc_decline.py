"""Decline of FVC: what counts, what is found, what is said of dropout."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from dlild_analysis.progression import assess
from dlild_analysis.steps.attempts import NotDone
from dlild_analysis.steps.cutoff import choose_cutoff
from dlild_analysis.steps.data import Data
from dlild_analysis.steps.longitudinal import fvc_decline as step


@pytest.fixture
def data(load) -> Data:
    cohort = load(visits=True)
    return Data(cohort, assess(cohort))


def test_decline_by_group_score_and_pattern(data):
    result = step.fvc_decline(data, choose_cutoff(data))
    (found,) = result.measures
    assert (found.measure, found.unit) == ("FVC % predicted", "points")
    assert found.patients == found.slope.n == 90
    assert found.slope.ci_high < 0
    groups = found.by_group
    assert groups.difference.estimate == pytest.approx(
        groups.high.estimate - groups.low.estimate, abs=1e-6
    )
    assert groups.lines[1].mean[0] > groups.lines[1].mean[-1]
    assert found.effects[0].label == "DL-ILD, per 10 points"
    assert found.effects[0].adjusted.n == 90
    assert set(found.patterns.patterns) == {step.DEAD, step.LOST, step.COMPLETE}
    assert sum(found.patterns.patients) == 90
    written = " ".join(step.sentences(result, data))
    assert "missing at random" in written
    assert [item.n for item in step.populations(result, data)] == [90, 90, 90]


def test_measurements_after_death_and_the_horizon_do_not_count(data):
    visits, dead = data.cohort.visits, data.cohort.patients["status"].to_numpy() == 2
    assert len(step.measurements(data, "fvc_percent")) == len(visits)
    late = np.where(dead[visits["patient"]], 200.0, 0.0)  # a visit may not follow death by so much
    cohort = replace(data.cohort, visits=visits.assign(time=visits["time"] + late))
    left = step.measurements(Data(cohort, data.outcome), "fvc_percent")
    assert set(left["patient"]) == set(np.flatnonzero(~dead))
    cohort = replace(data.cohort, visits=visits.assign(time=visits["time"] + 12.5))
    assert step.measurements(Data(cohort, data.outcome), "fvc_percent")["years"].max() <= 2


def test_a_large_cohort_is_drawn_from_and_said(data, monkeypatch):
    monkeypatch.setattr(step, "LARGE_COHORT", 40)
    result = step.fvc_decline(data, NotDone("none"))
    (found,) = result.measures
    assert found.patients == 40
    assert "40 patients drawn at random of 90" in found.warnings[0]
    assert isinstance(found.by_group, NotDone)
    assert any(gap.label == "not drawn" for gap in step.populations(result, data)[0].missing)
