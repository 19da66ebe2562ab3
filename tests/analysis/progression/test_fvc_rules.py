"""Decline of FVC as trials define it, and how long patients are followed."""

from __future__ import annotations

import numpy as np
import pytest

from dlild_analysis import assess, find_rule, load_cohort, load_study
from dlild_analysis.progression import Visits


def patient(months, percent=None, litres=None):
    absent = np.full(len(months), np.nan)
    return Visits(
        time=np.array(months, dtype=float),
        fvc_percent=absent if percent is None else np.array(percent, dtype=float),
        fvc_litres=absent if litres is None else np.array(litres, dtype=float),
        dlco_percent=absent,
        symptoms=absent,
        radiology=absent,
        window=3.0,
    )


@pytest.mark.parametrize(
    ("rule", "seen", "month"),
    [
        ("fvc-relative-10", patient([0, 6, 12], [80, 72, 75]), 6),
        ("fvc-relative-10", patient([0, 6], litres=[3.0, 2.7]), 6),
        ("fvc-relative-10-confirmed", patient([0, 6, 12], [80, 72, 75]), None),
        ("fvc-relative-10-confirmed", patient([0, 6, 9, 12], [80, 72, np.nan, 71]), 6),
        ("fvc-relative-10-confirmed", patient([0, 6, 12], [80, 79, 70]), None),
        ("fvc-relative-10-confirmed", patient([0, 23, 26], [80, 70, 69]), 23),
        ("fvc-absolute-10", patient([0, 6, 12], [80, 72, 70]), 12),
        ("fvc-absolute-10", patient([0, 6], litres=[3.0, 2.0]), None),
        ("fvc-absolute-10-confirmed", patient([0, 6, 12, 18], [80, 70, 71, 69]), None),
        ("fvc-absolute-10-confirmed", patient([0, 6, 12, 18], [80, 70, 70, 79]), 6),
        ("fvc-absolute-10", patient([0, 25], [80, 40]), None),
    ],
)
def test_rules(rule, seen, month):
    found = find_rule(rule).assess(seen)
    assert (None if found is None else found.time) == month


def test_names_and_needs():
    rule = find_rule("fvc-absolute-10-confirmed@1")
    assert "confirmed" in rule.title
    assert rule.lacking(frozenset({"fvc_litres"})) == "serial FVC in percent predicted"
    assert find_rule("fvc-relative-10").lacking(frozenset({"fvc_litres"})) == ""


TOML = """
schema_version = 1
[table]
id = "id"
[score]
column = "score"
[outcome]
rule = "fvc-relative-10"
death = "{death}"
death_time = "died"
{seen}
[visits]
file = "visits.csv"
id = "id"
time = "months"
fvc_percent = "fvc"
"""
# a progresses at 9; b dies at 20, last visit at 9; c lives, last visit at 9, last seen at 22.
PATIENTS = "id,score,died,seen\na,30,,22\nb,20,20,20\nc,10,,22\n"
VISITS = "id,months,fvc\n" + "".join(
    f"{who},{month},{80 if who != 'a' or month < 9 else 70}\n"
    for who in "abc"
    for month in (0, 6, 9)
)


@pytest.fixture
def followed(tmp_path):
    def read(death="event", seen='last_seen = "seen"'):
        (tmp_path / "cohort.csv").write_text(PATIENTS)
        (tmp_path / "visits.csv").write_text(VISITS)
        (tmp_path / "study.toml").write_text(TOML.format(death=death, seen=seen))
        return load_cohort(tmp_path / "cohort.csv", load_study(tmp_path / "study.toml"))

    return read


@pytest.mark.parametrize(
    ("death", "seen", "time", "status"),
    [
        ("event", 'last_seen = "seen"', [9, 20, 22], [1, 1, 0]),
        ("competing", 'last_seen = "seen"', [9, 20, 22], [1, 2, 0]),
        ("ignore", 'last_seen = "seen"', [9, 20, 22], [1, 0, 0]),
        ("event", "", [9, 20, 9], [1, 1, 0]),
        ("ignore", "", [9, 9, 9], [1, 0, 0]),
    ],
)
def test_the_living_are_followed_as_the_dead_are(followed, death, seen, time, status):
    outcome = assess(followed(death, seen))
    assert outcome.time.tolist() == time
    assert outcome.status.tolist() == status
    assert outcome.free_until.tolist() == [6, *time[1:]]
    assert ("last seen" in outcome.statement) == bool(seen)


def test_late_deaths_are_noted_where_nobody_says_how_long_the_living_were_followed(followed):
    (note,) = assess(followed("event", "")).notes
    assert "holds 1 that lie more than 6 months after" in str(note)
    assert "outcome.last_seen" in str(note)
    assert assess(followed()).notes == ()
