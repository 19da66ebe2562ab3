"""Subgroups, sites, and the risk table of the saved model."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dlild_analysis import build_model, load_cohort, load_study
from dlild_analysis.cohort import Cohort
from dlild_analysis.errors import NotDoneError, StudyError
from dlild_analysis.prediction import risk
from dlild_analysis.progression import assess
from dlild_analysis.simulate import STUDY_TOML
from dlild_analysis.steps.attempts import NotDone
from dlild_analysis.steps.cutoff import choose_cutoff
from dlild_analysis.steps.data import Data
from dlild_analysis.steps.risk_table import (
    CHARACTER,
    RISK_TABLE,
    figure,
    label_lines,
    nice_values,
    risk_table,
)
from dlild_analysis.steps.subgroups import interaction, sites


@pytest.fixture
def registered(golden, registry, tmp_path) -> tuple[dict, Data]:
    """Write the golden registry as a cohort: the expected numbers are R's."""
    site = (np.arange(1, len(registry) + 1) * 7) % 12
    frame = pd.DataFrame(
        {
            "id": np.arange(len(registry)),
            "dl_ild_percent": registry["lesion"],
            "age": registry["age"],
            "old": np.where(registry["age"] >= 66, "yes", "no"),
            "centre": [f"S{value}" for value in site],
            "months": registry["time"],
            "event": registry["event"],
        }
    )
    frame.to_csv(tmp_path / "r.csv", index=False)
    (tmp_path / "r.toml").write_text(
        """schema_version = 1
[table]
id = "id"
[score]
column = "dl_ild_percent"
[covariates]
age = { column = "age", unit = "years" }
old = { column = "old", type = "category", reference = "no" }
centre = { column = "centre", type = "category" }
[outcome]
time = "months"
event = "event"
[analysis]
site = "centre"
"""
    )
    cohort = load_cohort(tmp_path / "r.csv", load_study(tmp_path / "r.toml"))
    return golden("sites"), Data(cohort, assess(cohort))


def test_interaction_against_r(registered):
    expected, data = registered
    found = {item.name: item for item in interaction.subgroups(data).covariates}
    assert found["old"].interaction.p_value == pytest.approx(expected["interaction_p"], rel=1e-6)
    for group, theirs in zip(found["old"].groups, expected["subgroups"], strict=True):
        assert np.log(group.ratio.estimate) == pytest.approx(theirs["beta"], rel=1e-8)
    assert [group.label for group in found["age"].groups] == [
        "Age below 66 years",
        "Age 66 years and more",
    ]
    assert sum(group.patients for group in found["age"].groups) == 160


def test_sites_are_strata_and_clusters(registered):
    _, data = registered
    assert "centre" not in data.study.plan.predictors
    found = sites.by_site(data, choose_cutoff(data))
    assert len(found.sites) == 12
    assert sum(site.events for site in found.sites) == found.events
    assert found.clustered.estimate == pytest.approx(found.pooled.estimate, rel=1e-5)
    assert found.stratified.estimate != pytest.approx(found.pooled.estimate, rel=1e-3)
    assert "12 strata" in found.log_rank.test.method
    assert "12 clusters are few" in found.warnings[0]
    small = [site for site in found.sites if site.events < sites.LEAST_EVENTS]
    assert all(isinstance(site.ratio, NotDone) for site in small)


def test_a_site_must_be_a_covariate(load):
    with pytest.raises(StudyError, match="no covariate"):
        load(toml=STUDY_TOML + 'site = "centre"\n')
    cohort: Cohort = load()
    with pytest.raises(NotDoneError, match="names no covariate"):
        sites.by_site(Data(cohort, assess(cohort)), NotDone(""))


def test_risk_table_and_nomogram_are_the_model(analysed):
    model = build_model(analysed)
    found = analysed.of(RISK_TABLE)
    assert found == risk_table(model)
    held = {item["name"]: item.get("mean", item.get("levels", [0])[0]) for item in model["inputs"]}
    row = found.rows[3]
    expected = risk.risks(model, {**held, "score": row.value})[1]
    assert row.risks["24"] == (expected["risk"], expected["low"], expected["high"])
    # Points of a patient, read off the axes, give the risk on the scale of total points.
    age, sex, score = 60.0, "M", found.rows[4].value
    points = 0.0
    for axis, value in zip(found.axes, (score, age, sex), strict=True):
        if isinstance(value, str):
            points += dict(axis.ticks)[value]
            continue
        known = sorted((float(text), place) for text, place in axis.ticks)
        points += np.interp(value, *zip(*known, strict=True))
    scale = sorted((place, float(text) / 100) for text, place in found.scales[1].ticks)
    places, risks = zip(*scale, strict=True)
    read = 1 - np.exp(-np.exp(np.interp(points, places, np.log(-np.log1p(-np.array(risks))))))
    truth = risk.risks(model, {"score": score, "age": age, "sex": sex})[1]["risk"]
    assert read == pytest.approx(truth, abs=0.01)
    assert figure(found, analysed) is not None


@pytest.mark.parametrize(("low", "high"), [(0, 70), (3.2, 58.9), (0.001, 0.004), (5, 5), (-3, 900)])
def test_values_are_round_and_within(low, high):
    values = nice_values(low, high, 9)
    assert 1 <= len(values) <= 9
    assert low <= values[0] <= values[-1] <= high


@given(st.lists(st.tuples(st.text("a0男", min_size=1, max_size=9), st.floats(0, 1)), max_size=12))
def test_no_label_of_the_nomogram_covers_another(labels):
    texts, places = [text for text, _ in labels], [place for _, place in labels]
    lines = label_lines(texts, places)
    assert len(lines) == len(labels)
    assert all(line == 0 for line in lines[:1])
    for i in range(len(labels)):
        for j in range(i):
            if lines[i] == lines[j]:
                wide = 0.5 * CHARACTER * (len(texts[i]) + len(texts[j]))
                assert abs(places[i] - places[j]) >= wide
