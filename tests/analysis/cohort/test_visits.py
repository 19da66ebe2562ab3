"""Serial tables: long and wide, weeks and litres, repeats by name."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from dlild_analysis import CohortError, analyse, assess, load_cohort, load_study

REGISTRY = """
[table]
layout = "visits"
id = "Patient"
time_unit = "weeks"
time_origin = "the baseline CT"
{duplicates}
[score]
column = "fibrosis_fraction"
unit = "fraction"
[visits]
time = "Weeks"
fvc_volume = "FVC"
fvc_unit = "mL"
fvc_percent = "Percent"
[covariates]
age = "Age"
[outcome]
rule = "relative-decline"
"""


@pytest.fixture
def registry(tmp_path):
    rng = np.random.default_rng(3)
    rows = []
    for index in range(40):
        for week in (-2, 10, 24, 50):
            fall = 1 - 0.004 * week * (index % 3)
            rows.append(
                (
                    f"P{index:02d}",
                    week,
                    round(2800 * fall),
                    70 * fall,
                    60 + index % 7,
                    0.01 * (index + 1),
                )
            )
    frame = pd.DataFrame(
        rows, columns=["Patient", "Weeks", "FVC", "Percent", "Age", "fibrosis_fraction"]
    )
    repeats = frame.iloc[rng.choice(len(frame), 7, replace=False)].assign(
        FVC=lambda part: part["FVC"] + 40
    )
    table = pd.concat([frame, repeats], ignore_index=True)
    path = tmp_path / "registry.csv"
    table.to_csv(path, index=False)

    def write(duplicates: str = "") -> tuple:
        study = tmp_path / "registry.toml"
        study.write_text(REGISTRY.format(duplicates=duplicates))
        return path, load_study(study)

    return write


def test_seven_repeated_rows_are_named(registry):
    with pytest.raises(CohortError) as caught:
        load_cohort(*registry())
    assert [fault.row for fault in caught.value.faults] == list(range(162, 169))
    assert all("table.duplicates" in fault.problem for fault in caught.value.faults)


def test_a_registry_becomes_one_row_a_patient(registry):
    cohort = load_cohort(*registry('duplicates = "first"'))
    assert len(cohort.patients) == 40
    assert sum("repeats row" in note.problem for note in cohort.notes) == 7
    assert cohort.patients["fvc_litres"].between(2.5, 3.1).all()
    assert cohort.patients["score"].max() == pytest.approx(40)
    outcome = assess(cohort)
    assert outcome.events == 26
    assert np.nanmin(outcome.time[outcome.status == 1]) == pytest.approx(24 * 7 * 12 / 365.25)


def test_patients_without_baseline_are_named(registry):
    path, study = registry('duplicates = "first"')
    frame = pd.read_csv(path)
    frame.loc[frame["Patient"] == "P05", "Weeks"] += 60
    frame.to_csv(path, index=False)
    cohort = load_cohort(path, study)
    assert len(cohort.patients) == 39
    assert any(note.identifier == "P05" and "no baseline" in note.problem for note in cohort.notes)


def test_mixed_litres_and_millilitres(registry):
    path, study = registry('duplicates = "first"')
    frame = pd.read_csv(path)
    frame["FVC"] = frame["FVC"].astype(float)
    frame.loc[3, "FVC"] = 2.7
    frame.to_csv(path, index=False)
    with pytest.raises(CohortError, match="litres in a column of millilitres: mixed units"):
        load_cohort(path, study)


def test_wide_visits(tmp_path):
    frame = pd.DataFrame(
        {"id": ["a", "b", "c"], "f0": [80, 80, 80], "f12": [60, 79, ""], "f24": [50, "", 78]}
    )
    frame.to_csv(tmp_path / "w.csv", index=False)
    (tmp_path / "w.toml").write_text(
        '[visits]\nwide = [{ time = 0, fvc_percent = "f0" }, { time = 12, fvc_percent = "f12" }, '
        '{ time = 24, fvc_percent = "f24" }]\n[outcome]\nrule = "relative-decline@1"\n'
    )
    outcome = assess(load_cohort(tmp_path / "w.csv", load_study(tmp_path / "w.toml")))
    np.testing.assert_array_equal(outcome.time, [12, 12, 24])
    np.testing.assert_array_equal(outcome.status, [1, 0, 0])


def test_a_patient_without_baseline_is_named_once(registry):
    table, study = registry('duplicates = "first"')
    frame = pd.read_csv(table)
    frame.loc[frame["Patient"] == "P03", "Weeks"] += 40
    frame.to_csv(table, index=False)
    told = [str(note) for note in load_cohort(table, study).notes if "P03" in str(note)]
    assert len([words for words in told if "repeats row" not in words]) == 1
    assert any("no baseline, the patient is left out" in words for words in told)


def test_a_horizon_beyond_all_follow_up_says_where_follow_up_ends(registry):
    table, study = registry('duplicates = "first"')
    quick = replace(study, plan=replace(study.plan, bootstraps=20, repeats=1))
    analysis = analyse(load_cohort(table, quick))
    assert not analysis.steps["roc"].done
    because = analysis.steps["roc"].because
    assert "follow-up ends at 11.5 months: set analysis.horizons_months" in because
