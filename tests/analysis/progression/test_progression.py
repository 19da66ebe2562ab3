"""Progression rules, by hand-made patients."""

from __future__ import annotations

import numpy as np
import pytest

from dlild_analysis import NotDoneError, UsageError, all_rules, assess, find_rule, register
from dlild_analysis.progression import Visits
from dlild_analysis.progression.rules import RelativeDecline
from dlild_analysis.simulate import STUDY_TOML

QUICK = STUDY_TOML + "bootstraps = 20\nrepeats = 1\n"


def visits(months, fvc=None, dlco=None, symptoms=None, radiology=None, litres=None):
    size = len(months)
    columns = [
        np.array(c if c is not None else [np.nan] * size, dtype=float)
        for c in (fvc, litres, dlco, symptoms, radiology)
    ]
    return Visits(np.array(months, dtype=float), *columns, window=3.0)


def when(rule, patient):
    found = find_rule(rule).assess(patient)
    return None if found is None else found.time


@pytest.mark.parametrize(
    ("patient", "month"),
    [
        (visits([0, 6, 12], fvc=[80, 73, 72]), 12),
        (visits([0, 6, 12], fvc=[80, 72.1, 72.1]), None),
        (visits([0, 6], dlco=[60, 51]), 6),
        (visits([0, 25], fvc=[80, 40]), None),
        (visits([6, 12], fvc=[80, 40]), None),
        (visits([0, 6], fvc=[80, 60], litres=[3.0, 2.9]), None),
        (visits([-2, 0, 6], fvc=[90, 80, 73]), None),
    ],
)
def test_relative_decline(patient, month):
    assert when("relative-decline", patient) == month


@pytest.mark.parametrize(
    ("patient", "month"),
    [
        (visits([0, 6], fvc=[80, 75]), None),
        (visits([0, 6], fvc=[80, 75], symptoms=[0, 1]), 6),
        (visits([0, 6, 9], fvc=[80, 75, 75], radiology=[0, 0, 1]), 9),
        (visits([0, 6], fvc=[80, 80], symptoms=[0, 1], radiology=[0, 1]), 6),
        (visits([0, 6], fvc=[80, 70]), 6),
    ],
)
def test_pf_ild(patient, month):
    assert when("pf-ild", patient) == month


@pytest.mark.parametrize(
    ("patient", "month"),
    [
        (visits([0, 12], fvc=[80, 74]), None),
        (visits([0, 12], fvc=[80, 74], symptoms=[0, 1]), 12),
        (visits([0, 18], fvc=[80, 74], symptoms=[0, 1]), None),
        (visits([0, 6, 18], fvc=[80, 79, 74], symptoms=[0, 0, 1]), 18),
        (visits([0, 6], dlco=[50, 40], radiology=[0, 1]), 6),
        (visits([0, 6], symptoms=[0, 1], radiology=[0, 1]), 6),
    ],
)
def test_ppf_2022(patient, month):
    assert when("ppf-2022", patient) == month


def test_registry():
    assert [rule.name for rule in all_rules()][:3] == ["relative-decline", "pf-ild", "ppf-2022"]
    with pytest.raises(UsageError, match="there are: recorded"):
        find_rule("gut-feeling")
    with pytest.raises(UsageError, match="no progression rule"):
        find_rule("relative-decline@9")
    with pytest.raises(UsageError, match="needs a new version"):
        register(RelativeDecline())
    assert all(rule.source and rule.statement for rule in all_rules())


def test_death_as_event_competing_or_ignored(load):
    cohort = load()
    deaths = int((cohort.patients["status"] == 2).sum())
    assert deaths > 0
    counted = {policy: assess(cohort, death=policy) for policy in ("event", "competing", "ignore")}
    assert counted["event"].events == counted["competing"].events + deaths
    assert counted["competing"].competing == deaths
    assert counted["ignore"].competing == 0
    assert "Death and lung transplant counted as progression" in counted["event"].statement


def test_rules_read_deaths_from_the_table(load):
    def edit(frame):
        return frame.assign(died=np.where(frame["event"] == 2, frame["time_months"], np.nan))

    toml = QUICK.replace("[outcome]", '[outcome]\ndeath_time = "died"\ndeath = "competing"')
    outcome = assess(load(edit, toml=toml, visits=True), "relative-decline")
    assert outcome.competing > 0
    assert outcome.rule == "relative-decline@1"


def test_rules_say_what_they_lack(load):
    with pytest.raises(NotDoneError, match="needs serial visits"):
        assess(load(), "pf-ild")


@pytest.mark.parametrize(
    ("patient", "month"),
    [
        (visits([0, 6], litres=[3.0, 2.7]), 6),
        (visits([0, 6], litres=[3000 * 0.001, 2700 * 0.001]), 6),
        (visits([0, 6], litres=[np.float32(3.0), np.float32(2.7)]), 6),
        (visits([0, 6], fvc=[70.0, 63.0]), 6),
        (visits([0, 6], fvc=[0.7 * 100, 0.63 * 100]), 6),
        (visits([0, 6], litres=[4.1, 3.69]), 6),
        (visits([0, 6], dlco=[60.2, 51.17]), 6),
        (visits([0, 6], litres=[3.0, 2.701]), None),
        (visits([0, 730.5 / (365.25 / 12) + 4e-15], fvc=[80, 40]), 24 + 4e-15),
        (visits([0, 24.01], fvc=[80, 40]), None),
        (visits([-3 - 1e-15, 12], fvc=[80, 40]), 12),
    ],
)
def test_a_threshold_is_reached_whatever_the_unit(patient, month):
    assert when("relative-decline", patient) == (None if month is None else pytest.approx(month))


@pytest.mark.parametrize("whole", [k / 100 for k in range(150, 500, 7)])
def test_every_tenth_less_is_ten_percent(whole):
    for unit in (1.0, 0.001, 1000.0):
        litres = [whole * unit, round(0.9 * whole, 4) * unit]
        assert when("relative-decline", visits([0, 6], litres=litres)) == 6
    less = visits([0, 6], fvc=[whole * 20, whole * 20 - 5], symptoms=[0, 1])
    assert when("ppf-2022", less) == 6
    five = visits([0, 6], litres=[whole, round(0.95 * whole, 4)], symptoms=[0, 1])
    assert when("pf-ild", five) == 6
