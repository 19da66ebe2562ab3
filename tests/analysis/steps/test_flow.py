"""The flow of patients: who is in the table, and who is in each model."""

from __future__ import annotations

import csv
import json

import numpy as np
import pandas as pd
import pytest

from dlild_analysis import analyse, load_cohort, load_study, write_report
from dlild_analysis.report.checklists import checklists
from dlild_analysis.simulate import STUDY_TOML
from dlild_analysis.steps.cox.cox import COX
from dlild_analysis.steps.patients import flow
from dlild_analysis.steps.patients.flow import FLOW, Gap

QUICK = STUDY_TOML + "bootstraps = 20\nrepeats = 1\n"
VISITS = """
[table]
layout = "visits"
id = "id"
time_unit = "months"
time_origin = "the CT"
faults = "exclude"
[score]
column = "score"
[visits]
time = "t"
fvc_percent = "fvc"
[covariates]
age = "age"
[outcome]
rule = "relative-decline"
[analysis]
horizons_months = [6, 12]
bootstraps = 20
repeats = 1
"""


@pytest.fixture
def table(tmp_path):
    """Write 40 patients: 4 without baseline, 2 with a fault, 3 without follow-up, gaps."""
    rng = np.random.default_rng(4)
    rows = []
    for k in range(40):
        months = (9, 15) if k < 4 else (0,) if k in (6, 7, 8) else (0, 6, 12)
        for t in months:
            fall = 0.03 * t if rng.uniform() < 0.45 else 0.0
            age = 900 if k in (4, 5) else "" if k in (10, 11) else 60 + k % 9
            score = "" if k in (11, 12, 13) else 5 + 2 * (k % 10) + fall
            rows.append((f"P{k}", t, round(80 * (1 - fall), 1), age, score))
    frame = pd.DataFrame(rows, columns=["id", "t", "fvc", "age", "score"])
    frame.loc[frame["t"] > 0, "age"] = frame.loc[frame["t"] > 0, "age"].replace(900, 61)
    frame.to_csv(tmp_path / "t.csv", index=False)
    (tmp_path / "t.toml").write_text(VISITS)
    return load_cohort(tmp_path / "t.csv", load_study(tmp_path / "t.toml"))


def test_from_the_table_to_each_model(table, tmp_path):
    read = table.flow
    assert (read.patients, read.kept) == (40, 34)
    assert [(item.patients, item.reason) for item in read.left_out] == [
        (4, "no visit within 3 months of the CT"),
        (2, "rows with faults, left out as table.faults asks"),
    ]
    totals = [str(note) for note in table.notes if "of 40 patients" in str(note)]
    assert totals == [
        "'4 of 40 patients' are left out: no visit within 3 months of the CT",
        "'2 of 40 patients' are left out: rows with faults, left out as table.faults asks",
    ]
    analysis = analyse(table)
    found = analysis.of(FLOW)
    assert found.cohort == 34
    assert found.outcome.known == 31
    models = {item.label: item for item in found.models}
    joint = models["Cox: multivariable"]
    assert (joint.eligible, joint.n) == (31, 27)
    assert joint.missing == (Gap("DL-ILD", 3), Gap("Age", 2))
    fitted = analysis.of(COX).multivariable.model
    assert (joint.n, joint.events) == (fitted.n, fitted.events)
    write_report(analysis, tmp_path / "out")
    results = json.loads((tmp_path / "out/results.json").read_text())
    assert results["flow"]["table"]["patients"] == 40
    assert results["study"]["patients_in_table"] == 40
    rows = list(csv.reader(next((tmp_path / "out/tables").glob("table*_flow.csv")).open()))
    assert ["Left out: no visit within 3 months of the CT", "-4", "", ""] in rows
    assert (tmp_path / "out/figures/figure1_flow.png").stat().st_size > 10_000
    told = " ".join(analysis.flow.sentences(analysis.data))
    assert "6 were left out (4: no visit within 3 months of the CT and 2: rows" in told
    assert "so that 34 remained" in told
    html = (tmp_path / "out/report.html").read_text()
    assert 'id="flow"' in html
    for one in checklists(analysis):
        (entry,) = (item for item in one.items if item.asks.startswith("Flow of participants"))
        assert "The table had 40 patients" in entry.answer
        assert "not in the table" in entry.rest


def test_a_model_that_was_not_done_is_marked_so(load):
    analysis = analyse(load(lambda frame: frame.assign(event=0)))
    models = {item.label: item for item in analysis.of(FLOW).models}
    assert "no patient had the event" in models["Cox: multivariable"].because
    assert "with progression" in models["logistic: multivariable"].because


def test_models_are_grouped_by_their_kind():
    kinds = ("Cox", "mixed model", "saved model", "Cox, interaction", "Cox from 6 months on")
    assert [flow._heading(kind) for kind in kinds] == [
        "Cox models",
        "Mixed models",
        "Saved models",
        "Cox models, interaction",
        "Cox models from 6 months on",
    ]


def test_checklists_claim_nothing_of_the_authors(analysed):
    told = {item.asks: item for one in checklists(analysed) for item in one.items}
    for asks in ("Why this reference standard", "Dates of accrual and of the end of follow-up"):
        assert told[asks].rest.startswith("For the authors to add")
    for item in told.values():
        assert "before the analysis" not in item.answer
    assert not told["Description of the model: input, layers, output"].known
