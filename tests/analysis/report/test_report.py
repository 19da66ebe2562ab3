"""The report: complete, self-contained, and the same bytes for the same seed."""

from __future__ import annotations

import csv
import json
import re
import xml.etree.ElementTree as ET

import pytest

from dlild_analysis import analyse, write_report
from dlild_analysis.report.checklists import checklists
from dlild_analysis.report.methods import missing_values
from dlild_analysis.simulate import STUDY_TOML
from dlild_analysis.steps.attempts import NotDone
from dlild_analysis.steps.presentation.text import estimate, number, p_value, p_words

QUICK = STUDY_TOML + "bootstraps = 20\nrepeats = 1\n"


@pytest.fixture
def analysis(load):
    return analyse(
        load(toml=QUICK.replace("[outcome]", '[outcome]\ndeath = "competing"'), visits=True),
        all_rules=True,
    )


def test_twice_the_same_bytes(load, tmp_path):
    """Two runs from the file on give the same report, byte for byte."""
    for name in ("a", "b"):
        write_report(analyse(load()), tmp_path / name)
    files = sorted(
        path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*") if path.is_file()
    )
    assert files == sorted(
        path.relative_to(tmp_path / "b") for path in (tmp_path / "b").rglob("*") if path.is_file()
    )
    for name in files:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name


def test_what_is_written(analysis, tmp_path):
    written = write_report(analysis, tmp_path / "out")
    names = {path.relative_to(tmp_path / "out").as_posix() for path in written}
    for name in (
        "results.json",
        "report.html",
        "model.json",
        "checklists/tripod_ai.html",
        "checklists/claim.html",
        "tables/table1_patients.csv",
        "tables/table14_rules.html",
        "figures/figure3_survival.png",
        "figures/figure3_survival.svg",
        "figures/figure8_incidence.png",
    ):
        assert name in names
    results = json.loads((tmp_path / "out/results.json").read_text())
    assert results["research_use_only"] is True
    assert results["software"]["numpy"]
    html = (tmp_path / "out/report.html").read_text()
    assert not re.search(r'(src|href)="(?!data:|#)', html)
    assert str(tmp_path) not in html
    assert "Research use only" in html
    for path in written:
        if path.suffix == ".svg":
            ET.parse(path)
            assert "<dc:date>" not in path.read_text()
        if path.suffix == ".png":
            assert b"Software" not in path.read_bytes()[:400]
        if path.suffix == ".csv":
            rows = list(csv.reader(path.open()))
            assert len({len(row) for row in rows}) == 1
            assert len(rows) > 1


def test_checklists_are_filled_and_marked(analysis):
    tripod, claim = checklists(analysis)
    assert len(claim.items) == 44
    assert {item.number for item in tripod.items} >= {"1", "12c", "27c"}
    for item in (tripod, claim):
        assert 10 < item.known < len(item.items)
        assert all(entry.known != entry.answer.startswith("To be written") for entry in item.items)


def test_names_in_the_table_cannot_break_the_html(load, tmp_path):
    toml = QUICK.replace('title = "Simulated ILD cohort"', 'title = "<script>alert(1)</script>"')
    write_report(analyse(load(toml=toml)), tmp_path / "out")
    assert "<script>" not in (tmp_path / "out/report.html").read_text()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0004, "<\N{NO-BREAK SPACE}0.001"),
        (0.0123, "0.012"),
        (0.456, "0.46"),
        (None, "\N{EN DASH}"),
        (0.9999, ">\N{NO-BREAK SPACE}0.99"),
    ],
)
def test_p_values(value, text):
    assert p_value(value) == text


def test_numbers():
    assert number(-0.0001, 2) == "0.00"
    assert number(-1.5, 1) == "\N{MINUS SIGN}1.5"
    assert p_words(0.03).replace("\N{NO-BREAK SPACE}", " ") == "P = 0.030"
    assert estimate(NotDone("x")) == "\N{EN DASH}"


@pytest.mark.parametrize(("imputed", "words"), [(False, ""), (True, "in 20 imputed tables")])
def test_what_was_done_with_missing_values_is_said_as_it_was(load, imputed, words):
    toml = QUICK.replace("[table]", '[table]\nmissing = "multiple-imputation"')
    study = load(toml=toml if imputed else QUICK).study
    told = missing_values(study)
    assert told.startswith("Each analysis uses the patients that are complete for it")
    assert ("imputed" in told) is imputed
    assert words in told
