"""Deaths: on any row of the patient, on the patient's clock, and never before a visit."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from dlild_analysis import CohortError, assess, load_cohort, load_study

TOML = """
[table]
layout = "visits"
id = "id"
time_unit = "{unit}"
{table}
[visits]
time = "t"
fvc_percent = "fvc"
{visits}
[outcome]
rule = "relative-decline"
death_time = "died"
transplant_time = "transplanted"
last_seen = "seen"
{outcome}
"""
EMPTY = ""


def patient(name, times, *, died=(), transplanted=(), seen=(), fvc=80):
    """Write the rows of one patient; `died` and so on map a row's place to a value."""
    return [
        {
            "id": name,
            "t": t,
            "fvc": fvc,
            "died": dict(died).get(i, EMPTY),
            "transplanted": dict(transplanted).get(i, EMPTY),
            "seen": dict(seen).get(i, EMPTY),
        }
        for i, t in enumerate(times)
    ]


@pytest.fixture
def cohort(tmp_path):
    def read(*patients, unit="months", table="", visits="", outcome=""):
        rows = [row for rows in patients for row in rows]
        pd.DataFrame(rows).to_csv(tmp_path / "t.csv", index=False)
        (tmp_path / "t.toml").write_text(
            TOML.format(unit=unit, table=table, visits=visits, outcome=outcome)
        )
        return load_cohort(tmp_path / "t.csv", load_study(tmp_path / "t.toml"))

    return read


@pytest.mark.parametrize("row", [0, 1, 2])
@pytest.mark.parametrize("column", ["died", "transplanted"])
def test_a_death_on_any_row_is_an_event(cohort, row, column):
    read = cohort(patient("a", [0, 6, 12], **{column: [(row, 15)]}), patient("b", [0, 6, 12]))
    outcome = assess(read)
    assert outcome.time.tolist() == [15, 12]
    assert outcome.status.tolist() == [1, 0]
    told = [str(note) for note in read.notes if "stands in this row" in str(note)]
    assert len(told) == (row > 0)


def test_the_same_death_on_all_rows_is_one_death(cohort):
    rows = patient("a", [0, 6], died=[(0, "15"), (1, "15.0")])
    assert assess(cohort(rows, patient("b", [0, 6]))).time.tolist() == [15, 6]


def test_two_deaths_of_one_patient_are_a_fault(cohort):
    rows = patient("a", [0, 6, 12], died=[(0, 15), (2, 20)])
    with pytest.raises(CohortError, match=r"15 in row 2, 20 in row 4"):
        cohort(rows, patient("b", [0, 6]))
    kept = cohort(rows, patient("b", [0, 6]), table='faults = "exclude"')
    assert kept.patients["id"].tolist() == ["b"]
    assert kept.flow.patients == 2


def test_of_several_last_contacts_the_latest_counts(cohort):
    read = cohort(patient("a", [0, 6, 12], seen=[(0, 0), (1, 6), (2, 13)]))
    assert read.patients["last_seen"].tolist() == [13]


@pytest.mark.parametrize(
    ("unit", "start", "died"), [("months", 5, 20), ("weeks", -12, 60), ("days", 400, 900)]
)
def test_a_death_moves_with_the_clock_of_the_first_visit(cohort, unit, start, died):
    step = {"months": 6, "weeks": 26, "days": 182}[unit]
    per = {"months": 1, "weeks": 7 * 12 / 365.25, "days": 12 / 365.25}[unit]
    read = cohort(
        patient("a", [start, start + step], died=[(1, died)]),
        patient("b", [start + 1, start + step]),
        unit=unit,
        visits='baseline = "first"',
    )
    assert read.patients["death"][0] == pytest.approx((died - start) * per)
    outcome = assess(read)
    assert outcome.time[0] == pytest.approx((died - start) * per)
    assert outcome.status.tolist() == [1, 0]


def test_a_death_before_the_first_visit_is_a_fault(cohort):
    with pytest.raises(CohortError, match="before the patient's first visit"):
        cohort(patient("a", [5, 11], died=[(0, 3)]), visits='baseline = "first"')


@pytest.mark.parametrize("visits", ["", 'baseline = "first"'])
def test_a_visit_after_death_is_a_fault(cohort, visits):
    rows = patient("a", [0, 6, 12], died=[(0, 9)])
    with pytest.raises(CohortError, match="after the patient's death") as caught:
        cohort(rows, patient("b", [0, 6]), visits=visits)
    assert [fault.row for fault in caught.value.faults] == [4]
    kept = cohort(rows, patient("b", [0, 6]), visits=visits, table='faults = "exclude"')
    assert assess(kept).time.tolist() == [9, 6]


def test_a_visit_on_the_day_of_death_is_none(cohort):
    day = 365.25 / 12
    rows = patient("a", [0, 12 * day], died=[(0, 365.25)])
    assert assess(cohort(rows, unit="days")).time.tolist() == pytest.approx([12])


def test_a_row_without_measurement_is_no_visit(cohort):
    rows = patient("a", [0, 6, 12], died=[(0, 9)])
    rows[2]["fvc"] = EMPTY
    assert assess(cohort(rows, patient("b", [0, 6]))).time.tolist() == [9, 6]


def test_a_fault_of_another_table_leaves_the_patients_row_alone(tmp_path, files):
    table, study = files(visits=True)
    visits = pd.read_csv(tmp_path / "visits.csv")
    visits["fvc_percent"] = visits["fvc_percent"].astype(object)
    visits.loc[3, "fvc_percent"] = 900
    visits.to_csv(tmp_path / "visits.csv", index=False)
    with pytest.raises(CohortError, match=r"visits\.csv row 5"):
        load_cohort(table, load_study(study))
    study.write_text(study.read_text().replace("[table]", '[table]\nfaults = "exclude"'))
    kept = load_cohort(table, load_study(study))
    assert len(kept.patients) == 90
    assert len(kept.visits) == len(visits) - 1


def recorded(frame):
    frame = frame.assign(died="", event=(frame["event"] == 1).astype(int))
    censored = frame.index[frame["event"] == 0][0]
    frame.loc[censored, ["time_months", "died"]] = [10.0, 14.0]
    return frame


@pytest.mark.parametrize(
    ("policy", "code", "time"), [("event", 1, 14), ("competing", 2, 14), ("ignore", 0, 10)]
)
def test_a_death_that_the_recorded_outcome_lacks(load, files, policy, code, time):
    _, study = files()
    toml = study.read_text().replace(
        "[outcome]", f'[outcome]\ndeath_time = "died"\ndeath = "{policy}"'
    )
    read = load(recorded, toml=toml)
    index = int(np.flatnonzero(read.patients["death"].notna())[0])
    outcome = assess(read)
    assert outcome.time[index] == time
    assert outcome.status[index] == code


def test_a_death_on_a_repeated_row_that_was_dropped(load, files):
    def edit(frame):
        frame = recorded(frame)
        dead = frame[frame["died"] != ""]
        frame.loc[dead.index, "died"] = ""
        return pd.concat([frame, dead], ignore_index=True)

    _, study = files()
    toml = study.read_text().replace("[outcome]", '[outcome]\ndeath_time = "died"')
    read = load(edit, toml=toml.replace("[table]", '[table]\nduplicates = "first"'))
    assert read.patients["death"].dropna().tolist() == [14.0]


def test_a_death_without_any_visit_has_no_clock_of_a_first_visit(tmp_path):
    (tmp_path / "p.csv").write_text("id,died\na,20\nb,\nc,9\n")
    (tmp_path / "v.csv").write_text("id,t,fvc\na,5,80\na,9,79\nb,6,80\nb,12,79\n")
    (tmp_path / "s.toml").write_text(
        '[visits]\nfile = "v.csv"\ntime = "t"\nfvc_percent = "fvc"\nbaseline = "first"\n'
        '[outcome]\nrule = "relative-decline"\ndeath_time = "died"\n'
    )
    read = load_cohort(tmp_path / "p.csv", load_study(tmp_path / "s.toml"))
    np.testing.assert_array_equal(assess(read).time, [15, 6, np.nan])
    assert any("has no visit, from which times count" in str(note) for note in read.notes)
