"""Cohort tables: every fault by row and column, nothing averaged in silence."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from dlild_analysis import CohortError, InputRejectedError, load_cohort, load_study
from dlild_analysis.simulate import STUDY_TOML

QUICK = STUDY_TOML + "bootstraps = 20\nrepeats = 1\n"


def set_cell(row, column, value):
    def edit(frame):
        frame[column] = frame[column].astype(object)
        frame.loc[row, column] = value
        return frame

    return edit


def test_clean_table(load):
    cohort = load()
    assert len(cohort.patients) == 90
    assert cohort.has("score", "visual", "fvc_percent", "dlco_percent", "time", "status")
    assert not [note for note in cohort.notes if note.rejects]


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("fvc_percent", 900, "impossible"),
        ("fvc_percent", 0.71, "mixed units"),
        ("dlco_percent", -4, "impossible"),
        ("dl_ild_percent", 104, "impossible"),
        ("time_months", -3, "negative"),
        ("time_months", "12,5", "write the decimal point"),
        ("time_months", "14 mo", "the number alone"),
        ("fvc_percent", "<50", "is not a number"),
        ("age", 190, "impossible"),
        ("event", 3, "no event code"),
        ("visual_score", "inf", "infinite"),
        ("id", "", "id is empty"),
    ],
)
def test_faults_name_row_and_column(load, column, value, words):
    with pytest.raises(CohortError) as caught:
        load(set_cell(4, column, value))
    fault = caught.value.faults[0]
    assert fault.row == 6
    assert fault.column == column
    assert words in fault.problem
    assert len(caught.value.faults) == 1


def test_every_fault_is_listed(load):
    def edit(frame):
        frame.loc[1, "fvc_percent"] = 300
        frame.loc[5, "time_months"] = -1
        frame.loc[7, "age"] = 500
        return frame

    with pytest.raises(CohortError) as caught:
        load(edit)
    assert [fault.row for fault in caught.value.faults] == [3, 7, 9]


def test_duplicated_ids_are_named_never_averaged(load):
    def edit(frame):
        return pd.concat([frame, frame.head(2).assign(fvc_percent=50.0)], ignore_index=True)

    with pytest.raises(CohortError, match="2 faults") as caught:
        load(edit)
    assert [fault.row for fault in caught.value.faults] == [92, 93]
    assert "repeats row 2" in caught.value.faults[0].problem
    kept = load(edit, toml=QUICK.replace("[table]", '[table]\nduplicates = "last"'))
    assert len(kept.patients) == 90
    assert kept.patients.set_index("id").loc["S01", "fvc_percent"] == 50.0
    assert [note.row for note in kept.notes] == [2, 3]


def test_excluded_rows_are_named(load):
    toml = QUICK.replace("[table]", '[table]\nfaults = "exclude"')
    cohort = load(set_cell(4, "fvc_percent", 900), toml=toml)
    assert len(cohort.patients) == 89
    assert "the row is left out" in cohort.notes[0].problem


def test_events_after_censoring(load):
    def edit(frame):
        frame["seen"] = frame["time_months"]
        sick = frame.index[frame["event"] == 1][0]
        frame.loc[sick, "seen"] -= 1
        return frame

    toml = QUICK.replace("[outcome]", '[outcome]\nlast_seen = "seen"')
    with pytest.raises(CohortError, match="an event after censoring"):
        load(edit, toml=toml)


def test_fractions_become_percent_and_are_hinted_at(load):
    def edit(frame):
        return frame.assign(dl_ild_percent=frame["dl_ild_percent"] / 100)

    toml = QUICK.replace('dl_ild_percent"\n', 'dl_ild_percent"\nunit = "fraction"\n')
    assert load(edit, toml=toml).patients["score"].max() > 20
    assert any("looks like fractions" in note.problem for note in load(edit).notes)


def test_missing_values_are_counted_not_faults(load):
    cohort = load(set_cell(4, "dlco_percent", "NA"))
    assert cohort.patients["dlco_percent"].isna().sum() == 1


def test_missing_columns_are_named_with_the_nearest(load):
    with pytest.raises(InputRejectedError, match="did you mean 'fvc_percent'"):
        load(toml=QUICK.replace('fvc_percent = "fvc_percent"', 'fvc_percent = "fvc_percnt"'))


def test_categories(load):
    with pytest.raises(CohortError, match="the levels are F, M"):
        load(toml=QUICK.replace('reference = "F"', 'reference = "female"'))
    cohort = load(lambda frame: frame.assign(sex="M"))
    assert any("only level" in note.problem for note in cohort.notes)


def test_parquet_gives_the_same(files):
    table, study = files()
    pd.read_csv(table).to_parquet(table.with_suffix(".parquet"))
    a = load_cohort(table, load_study(study)).patients
    b = load_cohort(table.with_suffix(".parquet"), load_study(study)).patients
    pd.testing.assert_frame_equal(a, b)


@pytest.mark.parametrize(
    ("content", "words"), [("", "not a CSV"), ("a,b\n", "no rows"), ("a,a\n1,2\n", "there twice")]
)
def test_unreadable_tables(tmp_path, files, content, words):
    _, study = files()
    path = tmp_path / "bad.csv"
    path.write_text(content)
    with pytest.raises(InputRejectedError, match=words):
        load_cohort(path, load_study(study))


def test_results_of_the_client_are_joined_by_id(tmp_path, files, drawn):
    table, study = files(lambda frame: frame.drop(columns="dl_ild_percent"))
    for row in drawn.itertuples():
        folder = tmp_path / "results" / row.id
        folder.mkdir(parents=True)
        result = {
            "schema_version": 1,
            "dl_ild_percent": row.dl_ild_percent,
            "lung_volume_ml": 3000.0,
            "lesion_volume_ml": 30 * row.dl_ild_percent,
            "flags": ["lungs cut off"] if row.id == "S03" else [],
            "classes": {"ground_glass": {"volume_ml": 1.0, "percent_of_lung": 0.1}},
        }
        (folder / "result.json").write_text(json.dumps(result))
    cohort = load_cohort(table, load_study(study), tmp_path / "results")
    np.testing.assert_allclose(cohort.patients["score"], drawn["dl_ild_percent"])
    assert any(note.identifier == "S03" and "flag" in note.problem for note in cohort.notes)
    (tmp_path / "results" / "S01" / "result.json").write_text("{}")
    with pytest.raises(CohortError, match="not a result of the client"):
        load_cohort(table, load_study(study), tmp_path / "results")


def test_a_score_that_may_be_a_fraction_is_noted(load):
    def mix(frame):
        score = np.where(np.arange(len(frame)) < 3, 0.2, frame["dl_ild_percent"])
        return frame.assign(dl_ild_percent=score)

    told = [str(note) for note in load(mix).notes if "mixes units" in str(note)]
    assert [words.split(",")[0] for words in told] == ["row 2", "row 3", "row 4"]
    shares = load(lambda frame: frame.assign(dl_ild_percent=frame["dl_ild_percent"] / 100))
    assert "are these fractions?" in " ".join(map(str, shares.notes))
    assert not any("fraction" in str(note) for note in load().notes)
