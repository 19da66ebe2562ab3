"""Tables as hospitals have them: each is read right, refused with the way out, or said."""

from __future__ import annotations

import datetime as dt

import numpy as np
import openpyxl
import pandas as pd
import pytest

from dlild_analysis import CohortError, InputRejectedError, StudyError, load_cohort, load_study
from dlild_analysis.cohort.table.table_file import find_encoding
from dlild_analysis.simulate import STUDY_TOML

START = dt.date(2019, 5, 14)


@pytest.fixture
def study(tmp_path):
    """Write the study of the simulated cohort, with further lines in sections."""

    def write(*, table="", end="", reference="F", data=None):
        usual = STUDY_TOML.replace('reference = "F"', f'reference = "{reference}"')
        if "time_unit" in table:
            usual = usual.replace('time_unit = "months"\n', "")
        text = usual.replace("[table]\n", f"[table]\n{table}\n") + end
        path = tmp_path / "study.toml"
        path.write_bytes(text.encode() if data is None else data(text))
        return load_study(path)

    return write


@pytest.fixture
def plain(drawn, study, tmp_path):
    """Load the cohort as it was drawn."""
    drawn.to_csv(tmp_path / "plain.csv", index=False)
    return load_cohort(tmp_path / "plain.csv", study())


def same(cohort, plain, columns=("score", "age", "fvc_percent", "time", "status")):
    for name in columns:
        left, right = cohort.patients[name], plain.patients[name]
        np.testing.assert_allclose(left.astype(float), right.astype(float), rtol=1e-9)


def notes(cohort):
    return " | ".join(str(note) for note in cohort.notes)


def write_sheets(path, **sheets):
    with pd.ExcelWriter(path) as writer:
        for name, frame in sheets.items():
            frame.to_excel(writer, sheet_name=name, index=False)
    return path


# Files


def test_sheet_of_a_workbook_by_name(drawn, plain, study, tmp_path):
    path = write_sheets(tmp_path / "c.xlsx", Legend=drawn[["id"]], Data=drawn)
    same(load_cohort(path, study(table='sheet = "Data"')), plain)
    with pytest.raises(InputRejectedError, match=r"no sheet 'data'; it has 'Legend', 'Data'"):
        load_cohort(path, study(table='sheet = "data"'))


def test_first_sheet_of_several_is_said(drawn, plain, study, tmp_path):
    cohort = load_cohort(write_sheets(tmp_path / "c.xlsx", Data=drawn, Old=drawn.head(3)), study())
    same(cohort, plain)
    assert "'Data' is read, not 'Old' (table.sheet)" in notes(cohort)


def test_title_rows_above_the_header(drawn, plain, study, tmp_path):
    path = tmp_path / "c.xlsx"
    with pd.ExcelWriter(path) as writer:
        drawn.to_excel(writer, index=False, startrow=3)
    book = openpyxl.load_workbook(path)
    book.active["A1"] = "ILD registry, export of May"
    book.save(path)
    with pytest.raises(InputRejectedError, match=r"set table\.header to the line"):
        load_cohort(path, study())
    same(load_cohort(path, study(table="header = 4")), plain)
    text = "ILD registry\n\n" + drawn.to_csv(index=False)
    (tmp_path / "c.csv").write_text(text)
    with pytest.raises(InputRejectedError, match=r"set table\.header"):
        load_cohort(tmp_path / "c.csv", study())
    cohort = load_cohort(tmp_path / "c.csv", study(table="header = 3"))
    same(cohort, plain)
    assert cohort.patients["row"].iloc[0] == 4


def test_formulas_without_a_value_are_refused(drawn, study, tmp_path):
    path = write_sheets(tmp_path / "c.xlsx", Data=drawn)
    book = openpyxl.load_workbook(path)
    column = list(drawn.columns).index("age") + 1
    book.active.cell(5, column).value = "=60+1"
    book.save(path)
    with pytest.raises(InputRejectedError, match=r"1 formulas .* have no stored value"):
        load_cohort(path, study())


def test_errors_of_formulas_are_faults_or_said(drawn, study, tmp_path):
    frame = drawn.astype({"fvc_percent": object, "dlco_percent": object})
    frame.loc[3, "fvc_percent"] = "#DIV/0!"
    frame.loc[4, "dlco_percent"] = "#N/A"
    with pytest.raises(CohortError, match="error of a formula") as caught:
        load_cohort(write_sheets(tmp_path / "c.xlsx", Data=frame), study())
    assert [fault.row for fault in caught.value.faults] == [5]


def test_merged_ids_and_hidden_rows(drawn, study, tmp_path):
    path = write_sheets(tmp_path / "c.xlsx", Data=drawn)
    book = openpyxl.load_workbook(path)
    book.active.row_dimensions[7].hidden = True
    book.save(path)
    assert "1 hidden or filtered rows; they are read too" in notes(load_cohort(path, study()))
    book.active.merge_cells("A10:A11")
    book.save(path)
    with pytest.raises(CohortError, match="id is empty"):
        load_cohort(path, study())


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("c.xls", b"\xd0\xcf\x11\xe0", "save it as .xlsx"),
        ("c.xlsx", b"\xd0\xcf\x11\xe0" + b"0" * 600, "protected by a password"),
        ("c.csv", b"PK\x03\x04....", "ending .xlsx"),
        ("c.sav", b"$FL2", "export it as CSV"),
    ],
)
def test_other_formats(study, tmp_path, name, data, words):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(InputRejectedError, match=words):
        load_cohort(tmp_path / name, study())


@pytest.mark.parametrize("separator", [";", "\t", "|"])
def test_separator_is_found_and_said(drawn, plain, study, tmp_path, separator):
    drawn.to_csv(tmp_path / "c.txt", index=False, sep=separator)
    cohort = load_cohort(tmp_path / "c.txt", study())
    same(cohort, plain)
    assert f"with {separator!r} between the cells" in notes(cohort)


def test_separator_line_of_excel(drawn, plain, study, tmp_path):
    (tmp_path / "c.csv").write_text("sep=;\n" + drawn.to_csv(index=False, sep=";"))
    same(load_cohort(tmp_path / "c.csv", study()), plain)


@pytest.mark.parametrize(
    ("encoding", "male"),
    [
        ("utf-8-sig", "男"),
        ("utf-16", "男"),
        ("gb18030", "男性患者"),
        ("cp932", "男のひと"),
        ("cp1252", "Männlich"),
    ],
)
def test_encoding_is_found_and_said(drawn, study, tmp_path, encoding, male):
    frame = drawn.assign(sex=drawn["sex"].map({"M": male, "F": "F"}))
    frame.to_csv(tmp_path / "c.csv", index=False, encoding=encoding)
    cohort = load_cohort(tmp_path / "c.csv", study())
    assert set(cohort.patients["sex"]) == {male, "F"}
    if encoding != "utf-8-sig":
        assert f"is read as {encoding}, such as {male!r}" in notes(cohort)


def test_encoding_that_stays_open_is_refused(drawn, study, tmp_path):
    frame = drawn.assign(sex=drawn["sex"].map({"M": "мужской", "F": "женский"}))
    frame.to_csv(tmp_path / "c.csv", index=False, encoding="cp1251")
    assert find_encoding((tmp_path / "c.csv").read_bytes()) is None
    with pytest.raises(InputRejectedError, match="could not be found out"):
        load_cohort(tmp_path / "c.csv", study())
    cohort = load_cohort(
        tmp_path / "c.csv", study(table='encoding = "cp1251"', reference="женский")
    )
    assert cohort.patients["sex"].iloc[0] in ("мужской", "женский")


@pytest.mark.parametrize(
    "data",
    [
        lambda text: b"\xef\xbb\xbf" + text.encode(),
        lambda text: text.encode("utf-16"),
        lambda text: text.replace("\n", "\r\n").encode(),
    ],
)
def test_toml_of_notepad(drawn, plain, study, tmp_path, data):
    drawn.to_csv(tmp_path / "c.csv", index=False)
    same(load_cohort(tmp_path / "c.csv", study(data=data)), plain)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('"id"', "“id”", "typographic quotation marks"),
        ('id = "id"', 'id = "C:\\data\\x"', "instead of a backslash"),
    ],
)
def test_toml_that_word_changed(study, old, new, words):
    with pytest.raises(StudyError, match=words):
        study(data=lambda text: text.replace(old, new, 1).encode())


# Numbers and words


def commas(frame):
    return frame.map(
        lambda value: str(value).replace(".", ",") if isinstance(value, float) else value
    )


def test_decimal_commas(drawn, plain, study, tmp_path):
    commas(drawn).to_csv(tmp_path / "c.csv", index=False, sep=";")
    same(load_cohort(tmp_path / "c.csv", study(table='decimal = ","')), plain)
    with pytest.raises(CohortError, match=r'set table\.decimal = ","'):
        load_cohort(tmp_path / "c.csv", study())


def test_decimal_commas_as_text_among_numbers_of_a_workbook(drawn, plain, study, tmp_path):
    frame = drawn.astype({"dl_ild_percent": object})
    frame.loc[::2, "dl_ild_percent"] = [
        str(value).replace(".", ",") for value in drawn.loc[::2, "dl_ild_percent"]
    ]
    path = write_sheets(tmp_path / "c.xlsx", Data=frame)
    same(load_cohort(path, study(table='decimal = ","')), plain)


def test_points_among_decimal_commas_are_faults(drawn, study, tmp_path):
    frame = commas(drawn)
    frame.loc[2, "fvc_percent"], frame.loc[3, "fvc_percent"] = "71.5", "1.071"
    frame.to_csv(tmp_path / "c.csv", index=False, sep=";")
    with pytest.raises(CohortError, match="decimal sign is ','") as caught:
        load_cohort(tmp_path / "c.csv", study(table='decimal = ","'))
    assert [(fault.row, fault.value) for fault in caught.value.faults] == [
        (4, "71.5"),
        (5, "1.071"),
    ]


def test_full_width_digits(drawn, plain, study, tmp_path):
    wide = {ord(char): ord(char) + 0xFEE0 for char in "0123456789."}
    frame = drawn.astype({"age": object})
    frame["age"] = [f"{value:.10g}".translate(wide) for value in drawn["age"]]
    frame["id"] = [str(name).translate(wide) + "\u200b" for name in drawn["id"]]
    frame.to_csv(tmp_path / "c.csv", index=False)
    cohort = load_cohort(tmp_path / "c.csv", study())
    same(cohort, plain)
    assert list(cohort.patients["id"]) == list(plain.patients["id"])
    assert "have full-width or invisible characters" in notes(cohort)


def test_declared_codes_are_missing_and_counted(drawn, study, tmp_path):
    frame = drawn.astype({"fvc_percent": object, "age": object})
    frame.loc[[1, 2], "fvc_percent"] = ["-9.0", "nd"]
    frame.loc[[3], "age"] = "99"
    frame.to_csv(tmp_path / "c.csv", index=False)
    cohort = load_cohort(
        tmp_path / "c.csv",
        study(table='missing_codes = { fvc_percent = [-9, "nd"], age = [99] }'),
    )
    assert cohort.patients["fvc_percent"].isna().sum() == 2 + drawn["fvc_percent"].isna().sum()
    assert cohort.patients["age"].isna().sum() == 1
    assert "'-9.0 (1), nd (1)' are read as missing, as missing_codes says" in notes(cohort)


def test_guessed_codes_are_named(drawn, study, tmp_path):
    frame = drawn.astype({"fvc_percent": object})
    frame.loc[[1, 2, 5], "fvc_percent"] = ["NA", ".", "NA"]
    frame["sex"] = frame["sex"].where(frame.index != 7, "unknown")
    frame.to_csv(tmp_path / "c.csv", index=False)
    cohort = load_cohort(tmp_path / "c.csv", study())
    assert "'. (1), NA (2)' are read as missing, by their usual meaning" in notes(cohort)
    assert "'unknown (1)' is read as a value of its own" in notes(cohort)


def test_footnotes_are_no_patients(drawn, study, tmp_path):
    text = drawn.to_csv(index=False) + '"* FVC at the visit nearest to CT, see the manual"\n'
    (tmp_path / "c.csv").write_text(text)
    with pytest.raises(CohortError, match="no id but a footnote"):
        load_cohort(tmp_path / "c.csv", study())


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda text: text.replace(",F,", ",F\0,", 1), "holds a NUL character"),
        (lambda text: text[:-3], r"the last line has 8 of 9 cells and no end of line"),
        (lambda text: text.replace("\nS05,", '\nS05,"', 1), "near line 6 begins with a quotation"),
    ],
)
def test_damaged_files_are_refused(drawn, study, tmp_path, damage, words):
    text = damage(drawn.to_csv(index=False))
    (tmp_path / "c.csv").write_text(text)
    with pytest.raises(InputRejectedError, match=words):
        load_cohort(tmp_path / "c.csv", study())


def test_short_rows_are_said(drawn, plain, study, tmp_path):
    lines = drawn.to_csv(index=False).splitlines()
    lines[5] = lines[5].rsplit(",", 2)[0]
    (tmp_path / "c.csv").write_text("\n".join(lines) + "\n")
    cohort = load_cohort(tmp_path / "c.csv", study())
    assert "has 7 of 9 cells in line 6" in notes(cohort)
    same(cohort, plain, columns=("score", "age"))


def test_header_again_in_the_middle(drawn, plain, study, tmp_path):
    text = drawn.head(40).to_csv(index=False) + drawn.iloc[40:].to_csv(index=False)
    (tmp_path / "c.csv").write_text(text)
    cohort = load_cohort(tmp_path / "c.csv", study())
    same(cohort, plain)
    assert "repeats its header in row 42" in notes(cohort)


# Dates

DATED = 'origin_date = "ct"\ntime_unit = "days"'


def dated(drawn, pattern, days=None):
    days = np.round(drawn["time_months"] * 30.4375) if days is None else days
    starts = [START + dt.timedelta(int(i)) for i in range(len(drawn))]
    ends = [a + dt.timedelta(int(b)) for a, b in zip(starts, days, strict=True)]
    return drawn.assign(
        ct=[f"{day:{pattern}}" for day in starts], time_months=[f"{day:{pattern}}" for day in ends]
    )


@pytest.mark.parametrize(
    "pattern",
    ["%Y-%m-%d", "%d/%m/%Y", "%m/%d/%Y", "%d.%m.%Y", "%Y年%m月%d日", "%d-%b-%Y", "%Y%m%d"],
)
def test_dates_become_times(drawn, study, tmp_path, pattern):
    dated(drawn, pattern).to_csv(tmp_path / "c.csv", index=False)
    cohort = load_cohort(tmp_path / "c.csv", study(table=DATED))
    days = np.round(drawn["time_months"] * 30.4375)
    np.testing.assert_allclose(cohort.patients["time"] * 30.4375, days, atol=1e-6)
    slashes = "/" in pattern
    order = "day-first" if pattern == "%d/%m/%Y" else "month-first"
    assert (f"{order!r} is how its dates are read" in notes(cohort)) == slashes


def test_dates_of_a_workbook(drawn, study, tmp_path):
    frame = dated(drawn, "%Y-%m-%d")
    for name in ("ct", "time_months"):
        frame[name] = pd.to_datetime(frame[name])
    path = write_sheets(tmp_path / "c.xlsx", Data=frame)
    cohort = load_cohort(path, study(table=DATED))
    days = np.round(drawn["time_months"] * 30.4375)
    np.testing.assert_allclose(cohort.patients["time"] * 30.4375, days, atol=1e-6)


def test_dates_that_can_be_read_two_ways_are_refused(drawn, study, tmp_path):
    frame = drawn.head(30).assign(ct="03/04/2019", time_months="05/06/2020")
    frame.to_csv(tmp_path / "c.csv", index=False)
    with pytest.raises(CohortError, match=r"table\.date_order"):
        load_cohort(tmp_path / "c.csv", study(table=DATED))
    cohort = load_cohort(tmp_path / "c.csv", study(table=DATED + '\ndate_order = "month-first"'))
    assert cohort.patients["time"].iloc[0] * 30.4375 == pytest.approx(
        (dt.date(2020, 5, 6) - dt.date(2019, 3, 4)).days
    )


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("2021-02-30", "is no date"),
        ("2021-03", "has no day"),
        ("14/05/21", "year of two digits"),
        ("44000", "perhaps Excel's for 2020-06-18"),
        ("1900-01-01", "code for a missing date"),
        ("2018-01-01", "negative"),
    ],
)
def test_cells_that_are_no_dates(drawn, study, tmp_path, value, words):
    frame = dated(drawn, "%Y-%m-%d")
    frame.loc[5, "time_months"] = value
    frame.to_csv(tmp_path / "c.csv", index=False)
    with pytest.raises(CohortError, match=words) as caught:
        load_cohort(tmp_path / "c.csv", study(table=DATED))
    assert [fault.row for fault in caught.value.faults] == [7]
    assert value in caught.value.faults[0].value


def test_times_that_are_numbers_of_excel_for_dates_are_named(drawn, study, tmp_path):
    drawn.assign(time_months=44000).to_csv(tmp_path / "c.csv", index=False)
    with pytest.raises(CohortError, match="if it is Excel's number for 2020-06-18"):
        load_cohort(tmp_path / "c.csv", study())


def test_dates_without_an_origin_are_refused(drawn, study, tmp_path):
    dated(drawn, "%Y-%m-%d").to_csv(tmp_path / "c.csv", index=False)
    with pytest.raises(InputRejectedError, match=r"holds dates .*table\.origin_date"):
        load_cohort(tmp_path / "c.csv", study())


def test_date_of_birth_becomes_age(drawn, study, tmp_path):
    frame = dated(drawn, "%Y-%m-%d").assign(born="1950-05-14")
    frame.to_csv(tmp_path / "c.csv", index=False)
    birth = ('column = "age", unit = "years"', 'column = "born", type = "birth-date"')
    told = study(table=DATED, data=lambda text: text.replace(*birth).encode())
    cohort = load_cohort(tmp_path / "c.csv", told)
    assert cohort.patients["age"].iloc[0] == pytest.approx(69.0, abs=0.01)


def test_visits_with_dates_count_from_the_first(drawn, study, tmp_path):
    rows = [
        (
            f"P{i}",
            f"{START + dt.timedelta(int(30 * i + 91 * k)):%d.%m.%Y}",
            80 - 4 * k,
            20 + i,
        )
        for i in range(12)
        for k in range(4)
    ]
    frame = pd.DataFrame(rows, columns=["id", "day", "fvc", "dl_ild_percent"])
    frame.to_csv(tmp_path / "v.csv", index=False)
    toml = """
[table]
layout = "visits"
time_unit = "days"
[score]
column = "dl_ild_percent"
[visits]
time = "day"
fvc_percent = "fvc"
baseline = "first"
[outcome]
rule = "relative-decline"
"""
    cohort = load_cohort(tmp_path / "v.csv", study(data=lambda _: toml.encode()))
    times = cohort.visits.groupby("patient")["time"].apply(list).iloc[3]
    np.testing.assert_allclose(np.array(times) * 30.4375, [0, 91, 182, 273], atol=1e-6)


# Joins


def test_joined_sheet_and_file(drawn, plain, study, tmp_path):
    clinic = drawn.drop(columns=["dl_ild_percent", "visual_score"])
    path = write_sheets(
        tmp_path / "c.xlsx",
        Clinic=clinic,
        CT=drawn[["id", "dl_ild_percent"]].rename(columns={"id": "Patient"}).head(80),
    )
    extra = pd.concat(
        [drawn[["id", "visual_score"]], pd.DataFrame({"id": ["X1"], "visual_score": [3]})]
    )
    extra.to_csv(tmp_path / "visual.csv", index=False)
    joins = """
[[join]]
sheet = "CT"
id = "Patient"
[[join]]
file = "visual.csv"
id = "id"
"""
    cohort = load_cohort(path, study(table='sheet = "Clinic"', end=joins))
    assert len(cohort.patients) == 90
    known = cohort.patients.set_index("id")["score"].dropna()
    expected = plain.patients.set_index("id")["score"].reindex(known.index)
    np.testing.assert_allclose(known, expected)
    assert len(known) == 80 - drawn["dl_ild_percent"].head(80).isna().sum()
    assert "'10 of 90 ids' of the table are not in c.xlsx (CT)" in notes(cohort)
    assert "'1 of 91 ids' of visual.csv are not in the table and not used: X1" in notes(cohort)
    assert [(join.matched, join.without) for join in cohort.flow.joins] == [(80, 10), (90, 0)]


def test_ids_written_otherwise_are_named_never_guessed(drawn, study, tmp_path):
    drawn.drop(columns="dl_ild_percent").to_csv(tmp_path / "c.csv", index=False)
    other = drawn[["id", "dl_ild_percent"]].copy()
    other["id"] = [
        name if index < 60 else str(name).lower().replace("-", " ")
        for index, name in enumerate(other["id"])
    ]
    changed = sum(a != b for a, b in zip(other["id"], drawn["id"], strict=True))
    other.to_csv(tmp_path / "ct.csv", index=False)
    join = '\n[[join]]\nfile = "ct.csv"\nid = "id"\n'
    cohort = load_cohort(tmp_path / "c.csv", study(end=join))
    assert changed == 30
    assert f"{changed} ids differ in case, signs or leading zeros only" in notes(cohort)
    other["id"] = "Z" + other["id"].astype(str)
    other.to_csv(tmp_path / "ct.csv", index=False)
    with pytest.raises(InputRejectedError, match=r"no id is in ct\.csv too"):
        load_cohort(tmp_path / "c.csv", study(end=join))


def test_joins_that_repeat_an_id_or_a_column_are_refused(drawn, study, tmp_path):
    drawn.to_csv(tmp_path / "c.csv", index=False)
    drawn[["id", "dl_ild_percent"]].to_csv(tmp_path / "ct.csv", index=False)
    join = '\n[[join]]\nfile = "ct.csv"\nid = "id"\n'
    with pytest.raises(InputRejectedError, match=r"join\.columns lists what is taken"):
        load_cohort(tmp_path / "c.csv", study(end=join))
    twice = pd.concat(
        [drawn[["id"]].assign(bmi=24.0), pd.DataFrame({"id": drawn["id"][:1], "bmi": 3})]
    )
    twice.to_csv(tmp_path / "ct.csv", index=False)
    with pytest.raises(CohortError, match="repeats row 2"):
        load_cohort(tmp_path / "c.csv", study(end=join))


def test_faults_of_joined_columns_name_their_own_row(drawn, study, tmp_path):
    drawn.drop(columns="dl_ild_percent").to_csv(tmp_path / "c.csv", index=False)
    other = drawn[["id", "dl_ild_percent"]].iloc[::-1].reset_index(drop=True)
    other.loc[4, "dl_ild_percent"] = 140.0
    other.to_csv(tmp_path / "ct.csv", index=False)
    with pytest.raises(CohortError, match=r"is impossible.*\(ct\.csv row 6\)"):
        load_cohort(tmp_path / "c.csv", study(end='\n[[join]]\nfile = "ct.csv"\n'))
