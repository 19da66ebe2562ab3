"""Codes for missing values, coded events, summary rows, and times far beyond their unit."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from dlild_analysis import CohortError, StudyError, assess
from dlild_analysis.simulate import STUDY_TOML

QUICK = STUDY_TOML + "bootstraps = 20\nrepeats = 1\n"


def with_codes(codes):
    return QUICK.replace("[outcome]", f"[outcome]\ncodes = {codes}")


def swapped(frame):
    return frame.assign(event=frame["event"].map({0: 1, 1: 2, 2: 1}))


def put(column, value, rows=(4,)):
    def edit(frame):
        frame[column] = frame[column].astype(object)
        frame.loc[list(rows), column] = value
        return frame

    return edit


def test_events_coded_1_and_2_are_refused(load):
    with pytest.raises(CohortError, match=r"never 0.*outcome\.codes = \{ censored = 1"):
        load(swapped)


@pytest.mark.parametrize(
    "codes",
    ["{ progression = 2 }", "{ censored = 1, progression = 2 }", '{ progression = "2" }'],
)
def test_events_coded_1_and_2_that_the_study_explains(load, codes):
    usual = load(lambda frame: frame.assign(event=frame["event"].map({0: 0, 1: 1, 2: 0})))
    told = load(swapped, toml=with_codes(codes))
    pd.testing.assert_series_equal(told.patients["status"], usual.patients["status"])
    assert assess(told).events == assess(usual).events > 0


def test_events_in_words(load):
    edit = lambda frame: frame.assign(  # noqa: E731
        event=frame["event"].map({0: "alive", 1: "Progressed", 2: "dead"})
    )
    codes = '{ censored = "alive", progression = "progressed", death = "dead" }'
    told = load(edit, toml=with_codes(codes))
    pd.testing.assert_series_equal(told.patients["status"], load().patients["status"])
    with pytest.raises(CohortError, match="'alive' is no event code"):
        load(edit)


def test_a_value_that_the_study_does_not_explain_is_a_fault(load):
    with pytest.raises(CohortError, match="'9' is no event code") as caught:
        load(
            lambda frame: put("event", 9)(swapped(frame)),
            toml=with_codes("{ censored = 1, progression = 2 }"),
        )
    assert [fault.row for fault in caught.value.faults] == [6]


@pytest.mark.parametrize(
    ("codes", "words"),
    [
        ("{ censored = 1 }", "must say which value is the progression"),
        ("{ progression = 1, censored = 1 }", "two meanings"),
        ("{ progresion = 1 }", "did you mean 'progression'"),
        ("{ progression = [1] }", "write a number or a text"),
        ("2", "must be a table"),
    ],
)
def test_codes_that_are_wrong(load, codes, words):
    with pytest.raises(StudyError, match=words):
        load(toml=with_codes(codes))


def test_only_0_and_2_are_read_as_deaths_and_said(load):
    read = load(lambda frame: frame.assign(event=np.where(frame["event"] == 1, 2, 0)))
    assert any("2 is read as death" in str(note) for note in read.notes)


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("age", -9, "code for a missing value"),
        ("age", 999, "code for a missing value"),
        ("fvc_percent", -9, "code for a missing value"),
        ("fvc_percent", 999, "code for a missing value"),
        ("dlco_percent", -99, "code for a missing value"),
        ("dl_ild_percent", -1, "impossible"),
        ("visual_score", -9, "code for a missing value"),
        ("time_months", -9, "negative"),
        ("time_months", 999, "83 years in months"),
        ("time_months", 730, "61 years in months"),
        ("sex", "9", "code for a missing value"),
        ("sex", "-9", "code for a missing value"),
        ("sex", "99", "code for a missing value"),
        ("id", "Mean", "summary row"),
        ("id", "SD", "summary row"),
        ("id", "Mean (SD)", "summary row"),
        ("id", "mean ± sd", "summary row"),
        ("id", "Total:", "summary row"),
        ("id", "Median (IQR)", "summary row"),
    ],
)
def test_codes_and_summary_rows_are_faults(load, column, value, words):
    with pytest.raises(CohortError) as caught:
        load(put(column, value))
    assert [fault.row for fault in caught.value.faults] == [6]
    assert caught.value.faults[0].column == column
    assert words in caught.value.faults[0].problem


@pytest.mark.parametrize(
    ("column", "value"), [("age", 99), ("visual_score", 999), ("dl_ild_percent", 99)]
)
def test_codes_that_may_be_values_are_said(load, column, value):
    told = [note for note in load(put(column, value)).notes if "code for" in note.problem]
    assert [(note.row, note.value) for note in told] == [(6, f"{value}")]


@pytest.mark.parametrize(
    ("column", "value"),
    [("fvc_percent", 99), ("fvc_percent", 77), ("dlco_percent", 88), ("age", 77), ("id", "SD01")],
)
def test_values_that_look_like_codes_but_lie_among_the_others(load, column, value):
    def edit(frame):
        frame = put(column, value)(frame)
        if column in ("fvc_percent", "dlco_percent"):
            frame.loc[5, column] = value + 6
        return frame

    assert not [note for note in load(edit).notes if "code" in note.problem]


def test_a_covariate_that_can_be_999_is_let_through_where_the_study_says_so(load):
    def edit(frame):
        return frame.assign(ige=[999, *np.linspace(5, 200, len(frame) - 1).round()])

    toml = QUICK.replace("[covariates]", '[covariates]\nige = { column = "ige"%s }')
    with pytest.raises(CohortError, match="code for a missing value"):
        load(edit, toml=toml.replace("%s", ""))
    known = load(edit, toml=toml.replace("%s", ", minimum = 0, maximum = 5000"))
    assert known.patients["ige"].max() == 999


def test_numbered_centres_are_no_codes(load):
    toml = QUICK.replace(
        "[covariates]", '[covariates]\ncentre = { column = "centre", type = "category" }'
    )
    centres = np.resize(["7", "8", "9", "10"], 90)
    read = load(lambda frame: frame.assign(centre=centres), toml=toml)
    assert not [note for note in read.notes if "code" in note.problem]


@pytest.mark.parametrize(
    ("unit", "factor", "words"),
    [
        ("months", 12.0, "24 years"),
        ("years", 1.0, "24 years"),
        ("days", 1.0, "0.79 months"),
    ],
)
def test_a_column_in_another_unit_is_said(load, unit, factor, words):
    toml = QUICK.replace('time_unit = "months"', f'time_unit = "{unit}"')
    read = load(lambda frame: frame.assign(time_months=frame["time_months"] * factor), toml=toml)
    told = [str(note) for note in read.notes if "time_unit" in str(note)]
    assert len(told) == 1
    assert words in told[0]


def test_days_given_as_months_are_refused(load):
    with pytest.raises(CohortError, match="years in months"):
        load(lambda frame: frame.assign(time_months=frame["time_months"] * 30.4))


@pytest.mark.parametrize("age", [77, 88, 99])
def test_an_old_patient_among_few_is_none(load, age):
    read = load(lambda frame: frame.head(4).assign(age=[52, 55, 60, age]))
    assert read.patients["age"].tolist() == [52, 55, 60, age]
