"""The report: complete, self-contained, and the same bytes for the same seed."""

from __future__ import annotations

import csv
import json
import re
import warnings
import xml.etree.ElementTree as ET
from dataclasses import replace

import docx
import numpy as np
import pytest
from markupsafe import escape as html_escape

from dlild_analysis import analyse, draw_visits, load_cohort, load_study, write_report
from dlild_analysis.report.checklists import checklists
from dlild_analysis.report.methods import missing_values
from dlild_analysis.report.results import move_largest
from dlild_analysis.report.summary import summary
from dlild_analysis.report.write import font_note
from dlild_analysis.simulate import STUDY_TOML, VISITS_TOML
from dlild_analysis.steps.attempts import NotDone
from dlild_analysis.steps.cutoff import cutoff_words
from dlild_analysis.steps.presentation import style
from dlild_analysis.steps.presentation.table import Table, without_empty_columns
from dlild_analysis.steps.presentation.text import DASH, estimate, number, p_value, p_words
from dlild_analysis.steps.sensitivity.cutoffs import CUTOFFS

QUICK = STUDY_TOML + "bootstraps = 20\nrepeats = 1\n"


@pytest.fixture(scope="module")
def analysis(drawn, tmp_path_factory):
    """Analyse one cohort for all tests of this file."""
    folder = tmp_path_factory.mktemp("cohort")
    drawn.to_csv(folder / "cohort.csv", index=False)
    draw_visits(drawn, np.random.default_rng(8)).to_csv(folder / "visits.csv", index=False)
    toml = QUICK.replace("[outcome]", '[outcome]\ndeath = "competing"')
    (folder / "study.toml").write_text(toml + VISITS_TOML.format(file="visits.csv"))
    return analyse(
        load_cohort(folder / "cohort.csv", load_study(folder / "study.toml")), all_rules=True
    )


@pytest.fixture(scope="module")
def out(analysis, tmp_path_factory):
    """Write its report."""
    folder = tmp_path_factory.mktemp("report")
    (folder / "tables").mkdir()
    (folder / "tables/table99_old.csv").write_text("x")
    write_report(analysis, folder)
    return folder


def test_twice_the_same_bytes(analysed, load, tmp_path):
    """Two runs from the file on give the same report, byte for byte."""
    for name, analysis in (("a", analysed), ("b", analyse(load()))):
        write_report(analysis, tmp_path / name)
    files = sorted(
        path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*") if path.is_file()
    )
    assert files == sorted(
        path.relative_to(tmp_path / "b") for path in (tmp_path / "b").rglob("*") if path.is_file()
    )
    for name in files:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name


def test_what_is_written(out):
    written = [path for path in out.rglob("*") if path.is_file()]
    names = {path.relative_to(out).as_posix() for path in written}
    for name in (
        "results.json",
        "report.html",
        "model.json",
        "checklists/tripod_ai.html",
        "checklists/claim.html",
        "report.docx",
        "results_values.json",
        "tables/table1_patients.csv",
        "figures/figure1_flow.svg",
        "figures/figure1_flow.png",
    ):
        assert name in names
    for stem in ("rules.html", "flow.csv", "survival.svg", "incidence.png"):
        assert any(re.search(rf"/(table|figure)\d+_{re.escape(stem)}$", name) for name in names)
    results = json.loads((out / "results.json").read_text())
    assert results["research_use_only"] is True
    assert results["software"]["numpy"]
    html = (out / "report.html").read_text()
    assert not re.search(r'(src|href)="(?!data:|#)', html)
    assert str(out) not in html
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


def test_numbers_in_the_report_are_those_of_the_files(out):
    written = [path for path in out.rglob("*") if path.is_file()]
    html = (out / "report.html").read_text()
    for kind, suffix in (("Table", ".csv"), ("Figure", ".svg")):
        files = [path.name for path in written if path.suffix == suffix]
        numbers = sorted(int(re.match(r"[a-z]+(\d+)_", name)[1]) for name in files)
        assert numbers == list(range(1, len(files) + 1))
        shown = [
            int(number) for number in re.findall(rf"(?:<caption[^>]*|<b)>{kind} (\d+)\.", html)
        ]
        assert sorted(shown) == numbers
    assert not (out / "tables/table99_old.csv").exists()


def test_word_document_holds_the_report(out):
    document = docx.Document(out / "report.docx")
    tables = list((out / "tables").glob("*.csv"))
    assert len(document.tables) == len(tables) + len(list((out / "checklists").glob("*.html")))
    assert len(document.inline_shapes) == len(list((out / "figures").glob("*.png")))
    text = "\n".join(paragraph.text for paragraph in document.paragraphs)
    assert "Main result. With every 10 percentage points of lung more DL-ILD" in text
    assert "Table 1. Patients" in text
    assert "Progression was taken as recorded in the table." in text
    assert "the criterion behind it is not known" in text
    assert "Notes on the table" in text
    assert document.tables[-1].rows[0].cells[1].text == "Asks for"
    assert next(cell.text for cell in document.tables[0].rows[1].cells) == "DL-ILD (%)"


def test_results_are_small_and_whole(out):
    path = out / "results.json"
    assert path.stat().st_size < 100_000
    results = json.loads(path.read_text())
    values = json.loads((out / "results_values.json").read_text())

    def pointers(part):
        if isinstance(part, dict):
            return [found for item in part.values() for found in pointers(item)]
        if isinstance(part, list):
            return [found for item in part for found in pointers(item)]
        return [part] if isinstance(part, str) and part.startswith("results_values.json#") else []

    found = {pointer.partition("#")[2] for pointer in pointers([results, values])}
    assert found == set(values)
    assert any("optimism_values" in name for name in values)
    assert all(isinstance(method, str) for method in results["methods"])


def test_many_covariates_keep_the_results_small():
    step = {"values": {f"x{index}": {"estimate": index / 7} for index in range(4_000)}}
    results, values = {"steps": {"a": step, "b": {"values": {"y": 1}}}}, {}
    assert move_largest(results, values)
    assert results["steps"]["a"]["values"] == "results_values.json#steps.a.values"
    assert values["steps.a.values"]["x7"] == {"estimate": 1.0}


def test_chosen_cutoff_comes_with_its_corrected_p(analysis, out):
    corrected = analysis.cutoff.corrected_p
    scan = analysis.of(CUTOFFS).time_to_event
    assert corrected == scan.used_p
    assert corrected >= scan.corrected_p
    html = (out / "report.html").read_text()
    words = html_escape(analysis.cutoff_words)
    assert "was chosen in these patients (Youden index); corrected for the choice, P" in words
    for step in ("kaplan_meier", "cox", "competing_risks"):
        section = html.partition(f'<section id="{step}">')[2].partition("</section>")[0]
        assert section.count(words) >= 3, step
    given = replace(analysis.cutoff, origin="given by the study")
    assert cutoff_words(given, " %").endswith("%: given by the study.")


def test_units_and_reference_levels_stand_in_the_tables(out):
    cox = next((out / "tables").glob("table*_cox.csv")).read_text()
    assert "Age (years)" in cox
    assert "Sex: M (vs F)" in cox
    assert "DL-ILD (%)" in cox


def test_chinese_in_figures_is_drawn_or_said(monkeypatch):
    assert font_note([], ["\u5e74\u9f84"]) == "" or style.chinese_font() is None
    monkeypatch.setattr(style, "chinese_font", lambda: None)
    assert "No font with Chinese characters" in font_note([], ["\u5e74\u9f84"])
    assert font_note([], ["Age"]) == ""
    monkeypatch.undo()
    if style.chinese_font() is None:
        pytest.skip("no font with Chinese characters on this machine")
    with warnings.catch_warnings(), style.journal():
        warnings.filterwarnings("error", message="Glyph")
        made, grid = style.figure()
        grid[0][0].set_xlabel("\u5e74\u9f84")
        assert style.png(made)


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
    assert number(1 - 0.3975000000000001, 3) == number(0.6025, 3) == "0.603"
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


def test_a_column_without_a_value_is_named_instead_of_shown():
    table = Table("t", "T", ("", "HR", "P"), [("a", "1.2", DASH), ("b", DASH, "")], "Note.")
    made = without_empty_columns(table)
    assert made.columns == ("", "HR")
    assert made.rows == [("a", "1.2"), ("b", DASH)]
    assert made.footnote == "Note. Not in this cohort, and left out: P."
    assert without_empty_columns(made) is made


def test_page_one_says_why_there_is_no_main_result(load):
    one = analyse(load(lambda frame: frame.assign(dl_ild_percent=12.0), toml=QUICK))
    found = dict(summary(one))
    assert found["Main result"] == (
        "DL-ILD and progression could not be related: it is the same in all patients."
    )
    assert "progressed or died, in" in found["Patients"]
