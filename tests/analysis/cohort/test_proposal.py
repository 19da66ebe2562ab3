"""The study proposed from its tables: what is found, what is asked, what `fit` then reads."""

from __future__ import annotations

import datetime as dt
import tomllib

import numpy as np
import pandas as pd
import pytest

from dlild_analysis import InputRejectedError, assess, load_cohort, load_study
from dlild_analysis.cli import main
from dlild_analysis.cohort.gap import gap_points
from dlild_analysis.cohort.proposal import Column, propose


def proposed(table, **options):
    proposal = propose(table, **options)
    path = table.parent / "study.toml"
    path.write_text(proposal.text, encoding="utf-8")
    return proposal, tomllib.loads(proposal.text), path


@pytest.fixture
def registry(tmp_path):
    """Write a workbook like a registry's: FVC by weeks on one sheet, CT fractions on another."""
    rng = np.random.default_rng(4)
    visits, scans = [], []
    for index in range(60):
        name, fvc, slope = f"ID{index:05d}", rng.normal(2800, 500), rng.normal(-4.0, 3.0)
        start = int(rng.integers(-4, 30))
        for week in (start, start + 6, start + 12, start + 26, start + 52, start + 52):
            value = round(fvc + slope * (week - start) + rng.normal(0, 40))
            visits.append((name, week, value, round(value / 35, 4), 60 + index % 20))
        scans.append((name, rng.uniform(0.05, 0.5), rng.uniform(0, 0.3)))
    frame = pd.DataFrame(visits, columns=["Patient", "Weeks", "FVC", "Percent", "Age"])
    frame["Sex"] = np.where(frame["Age"] % 2, "Male", "Female")
    frame["SmokingStatus"] = np.where(frame["Age"] % 3, "Ex-smoker", "Never smoked")
    scans = pd.DataFrame(scans, columns=["patient", "fibrosis|overall", "emphysema|overall"])
    path = tmp_path / "registry.xlsx"
    with pd.ExcelWriter(path) as writer:
        scans.iloc[2:].to_excel(writer, sheet_name="CT", index=False)
        frame.to_excel(writer, sheet_name="FVC", index=False)
    return path


def test_registry_of_two_sheets_needs_no_edit(registry, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["init", str(registry)]) == 0
    told = capsys.readouterr().out
    assert "questions stand in it as comments" in told
    assert "of 60)" in told
    assert "patients," in told
    data = tomllib.loads((tmp_path / "study.toml").read_text())
    assert data["table"] == {
        "sheet": "FVC",
        "layout": "visits",
        "id": "Patient",
        "time_unit": "weeks",
        "time_origin": "the HRCT",
        "duplicates": "first",
    }
    assert data["join"] == [{"sheet": "CT", "id": "patient"}]
    assert data["score"]["column"] == "fibrosis|overall"
    assert data["score"]["unit"] == "fraction"
    assert data["visits"]["fvc_volume"] == "FVC"
    assert data["visits"]["fvc_unit"] == "mL"
    assert data["visits"]["fvc_percent"] == "Percent"
    assert data["covariates"]["smoking"]["reference"] == "Ex-smoker"
    assert data["outcome"]["rule"] == "relative-decline"
    assert data["analysis"]["horizons_months"] == [6, 12]
    cohort = load_cohort(registry, load_study(tmp_path / "study.toml"))
    assert cohort.flow.patients == 60
    assert cohort.patients["score"].notna().sum() >= len(cohort.patients) - 2
    assert assess(cohort).events > 0
    assert main(["init", str(registry)]) == 2
    assert "is there already" in capsys.readouterr().err


def test_recorded_outcome_with_dates_and_decimal_commas(drawn, tmp_path):
    start = dt.date(2018, 1, 15)
    days = np.round(drawn["time_months"] * 30.4375)
    frame = pd.DataFrame(
        {
            "Patient ID": drawn["id"],
            "HRCT date": [f"{start:%d.%m.%Y}" for _ in days],
            "Follow-up date": [f"{start + dt.timedelta(int(day)):%d.%m.%Y}" for day in days],
            "Progression": drawn["event"],
            "DL-ILD (%)": drawn["dl_ild_percent"].map(lambda v: str(v).replace(".", ",")),
            "FVC % pred": drawn["fvc_percent"].map(lambda v: str(v).replace(".", ",")),
            "Alter": drawn["age"],
            "Geschlecht": drawn["sex"].map({"M": "männlich", "F": "weiblich"}),
            "Bemerkung": [f"Text {index}" for index in range(len(drawn))],
        }
    ).astype({"FVC % pred": object})
    frame.loc[3, "FVC % pred"] = "unbekannt"
    table = tmp_path / "klinik.csv"
    frame.to_csv(table, index=False, sep=";", encoding="cp1252")
    proposal, data, path = proposed(table)
    assert data["table"]["decimal"] == ","
    assert data["table"]["origin_date"] == "HRCT date"
    assert data["table"]["missing_codes"] == {"FVC % pred": ["unbekannt"]}
    assert data["outcome"]["event"] == "Progression"
    assert not proposal.to_fill
    cohort = load_cohort(table, load_study(path))
    assert cohort.study.score.label == "DL-ILD"
    np.testing.assert_allclose(cohort.patients["score"], drawn["dl_ild_percent"])
    np.testing.assert_allclose(cohort.patients["time"] * 30.4375, days, atol=1e-6)
    assert set(cohort.patients["sex"]) == {"männlich", "weiblich"}


def test_chinese_headers_and_title_row(drawn, tmp_path):
    frame = drawn.rename(
        columns={"id": "住院号", "age": "年龄", "sex": "性别", "fvc_percent": "FVC占预计值%"}
    ).rename(columns={"time_months": "随访时间(月)", "event": "结局", "dl_ild_percent": "DL-ILD"})
    table = tmp_path / "队列.xlsx"
    with pd.ExcelWriter(table) as writer:
        frame.to_excel(writer, index=False, startrow=2)
    _, data, path = proposed(table)
    assert data["table"]["header"] == 3
    assert data["table"]["time_unit"] == "months"
    assert data["covariates"]["age"]["column"] == "年龄"
    cohort = load_cohort(table, load_study(path))
    assert cohort.has("score", "fvc_percent", "age", "sex", "time", "status")


def test_what_is_not_there_is_asked(drawn, tmp_path):
    table = tmp_path / "c.csv"
    drawn[["id", "dl_ild_percent", "age"]].to_csv(table, index=False)
    proposal, data, _ = proposed(table)
    assert proposal.to_fill == ["outcome.time", "outcome.event"]
    assert data["outcome"]["time"] == "TO FILL"
    drawn.assign(event=drawn["event"].map({0: "A", 1: "B", 2: "C"})).to_csv(table, index=False)
    proposal, data, _ = proposed(table)
    assert proposal.to_fill == ["outcome.codes"]
    drawn[["dl_ild_percent", "age"]].to_csv(table, index=False)
    with pytest.raises(InputRejectedError, match="no column looks like the ids"):
        propose(table)


def test_columns_that_may_be_the_outcome_are_named(drawn, tmp_path):
    table = tmp_path / "c.csv"
    dates = pd.Timestamp("2019-05-14") + pd.to_timedelta(drawn["time_months"] * 30, "D")
    frame = drawn[["id", "dl_ild_percent", "sex"]].assign(Ende=dates.dt.strftime("%d.%m.%Y"))
    frame.assign(Fortschritt=drawn["event"].map({0: "nein", 1: "ja", 2: "tot"})).to_csv(table)
    proposal, _, path = proposed(table)
    assert {"outcome.time", "outcome.event"} <= set(proposal.to_fill)
    assert 'Dates are in "Ende"; table.origin_date names' in path.read_text()
    assert '"Fortschritt" have two or three values' in path.read_text()


def test_visits_and_readers_in_other_files(drawn, tmp_path):
    clinic, visits, readers = (tmp_path / f"{name}.csv" for name in ("c", "v", "r"))
    drawn[["id", "age", "sex", "dl_ild_percent"]].to_csv(clinic, index=False)
    pd.DataFrame(
        [
            (name, month, 80 - month / 2, 3.0 - month / 40)
            for name in drawn["id"]
            for month in (0, 6, 12)
        ],
        columns=["id", "months", "fvc_percent", "fvc_l"],
    ).to_csv(visits, index=False)
    rng = np.random.default_rng(1)
    scores = rng.integers(0, 10, len(drawn)) * 5.0
    pd.DataFrame({"ID": drawn["id"], "reader 1": scores, "reader 2": scores + 5}).to_csv(
        readers, index=False
    )
    _, data, path = proposed(clinic, others=[visits, readers])
    assert data["visits"]["file"] == "v.csv"
    assert data["visits"]["fvc_unit"] == "L"
    assert data["join"] == [{"file": "r.csv", "id": "ID"}]
    assert data["readings"]["columns"] == ["reader 1", "reader 2"]
    cohort = load_cohort(clinic, load_study(path))
    assert cohort.has("reading_1", "reading_2")
    assert len(cohort.visits) == 270


GERMAN = {
    "Patienten-Nr.": "id",
    "Geschlecht": "sex",
    "Geburtsdatum": "birth",
    "Datum CT": "ct_date",
    "Raucherstatus": "smoking",
    "DL-ILD (%)": "score",
    "Visueller Score (%)": "visual",
    "FVC (% Soll)": "fvc",
    "DLCO (% Soll)": "dlco",
    "Progress": "event",
    "Datum Progress": "time",
    "Todesdatum": "death",
    "Letzter Kontakt": "last_seen",
}


@pytest.mark.parametrize(
    ("name", "role"),
    [
        *GERMAN.items(),
        ("Fall-Nr.", "id"),
        ("PatientenID", "id"),
        ("Numéro patient", "id"),
        ("Âge", "age"),
        ("Décès", "death"),
        ("Último contacto", "last_seen"),
        ("CVF % teórico", "fvc"),
        ("verstorben am", "death"),
        ("Letzte ambulante Vorstellung", "last_seen"),
    ],
)
def test_names_in_other_languages(name, role):
    assert Column(name, pd.Series(["1"])).is_named(role)


@pytest.fixture
def german(drawn, tmp_path):
    """Write a clinic's workbook: dates, no date of progression where there was none."""
    start = pd.Timestamp("2018-01-15")
    end = start + pd.to_timedelta(np.round(drawn["time_months"] * 30.4375), "D")
    event = drawn["event"].to_numpy()
    frame = pd.DataFrame(
        {
            "Patienten-Nr.": [f"{index:04d}" for index in range(len(drawn))],
            "Geschlecht": drawn["sex"].map({"M": "m", "F": "w"}),
            "Geburtsdatum": start - pd.to_timedelta(np.round(drawn["age"] * 365.25), "D"),
            "Erstdiagnose Datum": start - pd.Timedelta(days=300),
            "Datum CT": start,
            "DL-ILD (%)": drawn["dl_ild_percent"],
            "FVC (% Soll)": drawn["fvc_percent"],
            "DLCO (% Soll)": drawn["dlco_percent"],
            "Progress": np.where(event == 1, "ja", "nein"),
            "Datum Progress": end.where(event == 1),
            "Todesdatum": end.where(event == 2),
            "Letzter Kontakt": end,
        }
    )
    path = tmp_path / "ILD Kohorte.xlsx"
    frame.to_excel(path, index=False)
    return path


def test_german_workbook_needs_no_edit(german, drawn, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["init", german.name]) == 0
    told = capsys.readouterr().out
    assert "dlild-analysis check 'ILD Kohorte.xlsx' --config study.toml" in told
    data = tomllib.loads((tmp_path / "study.toml").read_text())
    assert data["outcome"] == {
        "rule": "recorded",
        "time": "Datum Progress",
        "event": "Progress",
        "codes": {"censored": "nein", "progression": "ja"},
        "death_time": "Todesdatum",
        "last_seen": "Letzter Kontakt",
        "death": "event",
    }
    cohort = load_cohort(german, load_study(tmp_path / "study.toml"))
    outcome = assess(cohort, death="competing")
    np.testing.assert_allclose(
        outcome.time * 30.4375, np.round(drawn["time_months"] * 30.4375), atol=1e-6
    )
    np.testing.assert_array_equal(outcome.status, drawn["event"])
    left = int((drawn["event"] != 1).sum())
    assert f"'{left} of {len(drawn)} patients' have no event and no time of it" in " ".join(
        map(str, cohort.notes)
    )


def test_women_called_w_have_gap_points(german, tmp_path):
    _, _, path = proposed(german)
    cohort = load_cohort(german, load_study(path))
    complete = cohort.patients[["age", "fvc_percent", "dlco_percent"]].notna().all(axis=1)
    points = gap_points(cohort)
    assert np.isfinite(points[complete]).all()
    cohort.patients["sex"] = cohort.patients["sex"].replace({"w": "v"})
    assert gap_points(cohort) is None  # those of the men alone would be a wrong mean


def test_ids_without_a_name_of_ids_are_asked_for(drawn, tmp_path):
    table = tmp_path / "c.csv"
    drawn.drop(columns="id").to_csv(table, index_label="Lfd")
    proposal, data, _ = proposed(table)
    assert data["table"]["id"] == "Lfd"
    assert "are the patients' ids in 'Lfd'? Its name does not say so." in proposal.questions


def test_header_of_two_lines(drawn, tmp_path):
    above = ["Patient", "CT", "CT", *[""] * (len(drawn.columns) - 3)]
    rows = drawn.astype(object).where(drawn.notna(), None).to_numpy().tolist()
    table = tmp_path / "c.xlsx"
    pd.DataFrame([above, list(drawn.columns), *rows]).to_excel(table, index=False, header=False)
    _, data, path = proposed(table)
    assert data["table"]["header"] == 2
    assert len(load_cohort(table, load_study(path)).patients) == len(drawn)


def test_a_column_that_is_there_twice_is_no_header_of_two_lines(drawn, tmp_path):
    table = tmp_path / "c.csv"
    text = drawn.to_csv(index=False).replace("visual_score", "dl_ild_percent", 1)
    table.write_text(text)
    with pytest.raises(InputRejectedError, match=r"is there twice; rename one, or set"):
        propose(table)


def test_an_older_sheet_of_the_same_columns_is_left_out(drawn, tmp_path):
    table = tmp_path / "c.xlsx"
    with pd.ExcelWriter(table) as writer:
        drawn.assign(dl_ild_percent=1.0).head(60).to_excel(writer, sheet_name="Old", index=False)
        drawn.to_excel(writer, sheet_name="New", index=False)
    _, data, path = proposed(table)
    assert data["table"]["sheet"] == "New"
    assert "join" not in data
    assert "c.xlsx (Old) has the same columns as c.xlsx (New)" in path.read_text()
    known = load_cohort(table, load_study(path)).patients["score"]
    np.testing.assert_allclose(known, drawn["dl_ild_percent"])


def test_leading_zeros_that_excel_dropped_are_asked_about(drawn, tmp_path):
    names = [f"{index:04d}" for index in range(1, len(drawn) + 1)]
    drawn.drop(columns="dl_ild_percent").assign(id=range(1, len(drawn) + 1)).to_excel(
        tmp_path / "c.xlsx", index=False
    )
    drawn[["dl_ild_percent"]].assign(id=names).to_csv(tmp_path / "ct.csv", index=False)
    proposal, data, _ = proposed(tmp_path / "c.xlsx", others=[tmp_path / "ct.csv"])
    assert "join" not in data
    assert any("90 of its 90 ids differ in leading zeros only" in q for q in proposal.questions)


def test_an_outcome_of_one_value_is_found(drawn, tmp_path):
    table = tmp_path / "c.csv"
    drawn.assign(event=0).to_csv(table, index=False)
    proposal, data, _ = proposed(table)
    assert data["outcome"]["event"] == "event"
    assert not proposal.to_fill


def test_columns_without_a_value_are_named(drawn, tmp_path):
    table = tmp_path / "c.csv"
    drawn.assign(fvc_percent=np.nan).to_csv(table, index=False)
    _, data, path = proposed(table)
    assert "fvc_percent" not in data["lung_function"]
    assert 'Without any value, and left out: "fvc_percent".' in path.read_text()


def test_a_hidden_sheet_is_not_taken_for_the_visible_one(drawn, tmp_path):
    table = tmp_path / "c.xlsx"
    with pd.ExcelWriter(table) as writer:
        drawn.assign(dl_ild_percent=1.0).to_excel(writer, sheet_name="Old", index=False)
        drawn.to_excel(writer, sheet_name="New", index=False)
        writer.sheets["Old"].sheet_state = "hidden"
    proposal, data, path = proposed(table)
    assert data["table"]["sheet"] == "New"
    assert "c.xlsx has hidden sheets ('Old'), which are left out: right?" in proposal.questions
    known = load_cohort(table, load_study(path)).patients["score"]
    np.testing.assert_allclose(known, drawn["dl_ild_percent"])
    assert tomllib.loads(propose(table, "Old").text)["table"]["sheet"] == "Old"


def test_a_hidden_sheet_of_another_workbook_is_not_joined(drawn, tmp_path):
    clinic, scores = tmp_path / "clinic.csv", tmp_path / "ct.xlsx"
    drawn.drop(columns="dl_ild_percent").to_csv(clinic, index=False)
    with pd.ExcelWriter(scores) as writer:
        drawn[["id"]].assign(dl_ild_percent=1.0).to_excel(writer, sheet_name="Old", index=False)
        drawn[["id", "dl_ild_percent"]].to_excel(writer, sheet_name="New", index=False)
        writer.sheets["Old"].sheet_state = "hidden"
    proposal, data, path = proposed(clinic, others=[scores])
    assert [join["sheet"] for join in data["join"]] == ["New"]
    assert "ct.xlsx has hidden sheets ('Old'), which are left out: right?" in proposal.questions
    known = load_cohort(clinic, load_study(path)).patients["score"]
    np.testing.assert_allclose(known, drawn["dl_ild_percent"])
