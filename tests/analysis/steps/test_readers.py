"""Readers and repeats: sheets joined, agreement, and changes beyond noise."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from dlild_analysis import CohortError, InputRejectedError, StudyError, load_cohort, load_study
from dlild_analysis.progression import assess
from dlild_analysis.simulate import STUDY_TOML
from dlild_analysis.stats import agreement
from dlild_analysis.steps.agreement.agreement import agree
from dlild_analysis.steps.agreement.change import changes
from dlild_analysis.steps.attempts import NotDone
from dlild_analysis.steps.data import Data
from dlild_analysis.steps.registry import steps_of

WITHOUT_VISUAL = STUDY_TOML.replace('[visual]\ncolumn = "visual_score"\n', "")
SHEET = '\n[readings]\nfile = "readings.csv"\n'


@pytest.fixture
def readings(drawn):
    """Three readers' sheets, put together under one header."""
    rng = np.random.default_rng(5)
    rows = [
        (name, reader, "2026-11-29", "yes", "", round(max(score + bias + rng.normal(0, 4), 0), 1))
        for name, score in zip(drawn["id"], drawn["dl_ild_percent"], strict=True)
        for reader, bias in (("AB", 0.0), ("CD", 3.0), ("EF", -2.0))
    ]
    columns = ["id", "reader", "date", "blind", "series_digest", "extent_percent"]
    return pd.DataFrame(rows, columns=columns)


@pytest.fixture
def data(drawn, tmp_path):
    """Load the cohort with its readings."""

    def load(readings, toml=WITHOUT_VISUAL + SHEET, frame=drawn):
        frame.to_csv(tmp_path / "c.csv", index=False)
        readings.to_csv(tmp_path / "readings.csv", index=False)
        (tmp_path / "study.toml").write_text(toml)
        cohort = load_cohort(tmp_path / "c.csv", load_study(tmp_path / "study.toml"))
        return Data(cohort, assess(cohort))

    return load


def test_reading_sheets_become_the_visual_score(data, readings):
    found = data(readings)
    mean = readings.groupby("id")["extent_percent"].mean()
    visual = found.cohort.patients.set_index("id")["visual"]
    np.testing.assert_allclose(visual, mean.reindex(visual.index))
    assert found.label("visual") == "Visual score (mean of 3 readers)"
    result = agree(found)
    assert result.readings == ("AB", "CD", "EF")
    wide = readings.pivot_table(index="id", columns="reader", values="extent_percent")
    icc = agreement.intraclass_correlation(wide.to_numpy())
    assert result.icc.icc_2_1 == icc.icc_2_1
    assert len(result.pairs) == 3
    scores = found.cohort.patients.set_index("id")["score"].reindex(wide.index)
    expected = agreement.bland_altman(scores, wide.mean(axis=1))
    ours = result.score_against_mean.bland_altman
    assert ours.bias.estimate == pytest.approx(expected.bias.estimate)


def test_second_readings_and_absent_readers_are_said(data, readings):
    again = readings[readings["reader"] == "AB"].head(4).assign(date="2026-12-24")
    lost = readings.drop(index=[1, 5])
    found = data(pd.concat([again, lost], ignore_index=True))
    notes = " ".join(str(note) for note in found.cohort.notes)
    assert "'4 readings' repeat a scan by the same reader" in notes
    assert "'2 patients' were not read by all 3 readers" in notes
    assert agree(found).incomplete == 2


def test_readings_that_cannot_be_used(data, readings, drawn):
    with pytest.raises(InputRejectedError, match="1 reader"):
        data(readings[readings["reader"] == "AB"])
    with pytest.raises(InputRejectedError, match=r"no id is in readings\.csv"):
        data(readings.assign(id="x" + readings["id"]))
    with pytest.raises(CohortError, match="is not a number"):
        data(readings.assign(extent_percent="mild"))
    with pytest.raises(CohortError, match="another series"):
        data(
            readings.assign(series_digest="sha256:aa"),
            frame=drawn.assign(series_digest="sha256:bb"),
        )
    with pytest.raises(StudyError, match=r"readings\.levels is missing"):
        data(readings, toml=WITHOUT_VISUAL + SHEET + 'kind = "category"\n')


def test_categories_get_a_weighted_kappa(data, readings):
    words = np.array(["none", "mild", "severe"])
    edges = readings["extent_percent"].quantile([1 / 3, 2 / 3])
    levels = np.digitize(readings["extent_percent"], edges)
    toml = WITHOUT_VISUAL + SHEET + 'levels = ["None", "Mild", "Severe"]\n'
    result = agree(data(readings.assign(extent_percent=words[levels]), toml=toml))
    wide = readings.assign(level=levels).pivot_table(index="id", columns="reader", values="level")
    expected = agreement.cohen_kappa(wide["AB"], wide["CD"], categories=3)
    assert result.pairs[0].kappa.kappa == expected.kappa
    assert isinstance(result.icc, NotDone)
    with pytest.raises(CohortError, match=r"no level of readings\.levels"):
        data(readings.assign(extent_percent="awful"), toml=toml)


def test_detectable_and_important_change(data, readings, drawn, tmp_path):
    rng = np.random.default_rng(9)
    frame = drawn.assign(
        first=(drawn["dl_ild_percent"] + rng.normal(0, 1, 90)).clip(0),
        second=(drawn["dl_ild_percent"] + rng.normal(0, 1, 90)).clip(0),
        event=drawn["event"].replace(2, 0),
    )
    growth = rng.normal(3, 3, 90)
    fvc = drawn["fvc_percent"].fillna(70)
    visits = pd.concat(
        [
            pd.DataFrame(
                {"id": drawn["id"], "months": 0.0, "f": fvc, "s": drawn["dl_ild_percent"]}
            ),
            pd.DataFrame(
                {
                    "id": drawn["id"],
                    "months": 12.0,
                    "f": fvc * (1 - 0.02 * growth + rng.normal(0, 0.02, 90)),
                    "s": (drawn["dl_ild_percent"] + growth).clip(0),
                }
            ),
        ]
    )
    visits.to_csv(tmp_path / "v.csv", index=False)
    extra = """
[repeats]
columns = ["first", "second"]
[visits]
file = "v.csv"
time = "months"
fvc_percent = "f"
score = "s"
"""
    found = data(readings, toml=STUDY_TOML + extra, frame=frame)
    result = changes(found)
    within = np.sqrt(((frame["first"] - frame["second"]) ** 2).mean() / 2)
    assert result.detectable.change == pytest.approx(1.96 * np.sqrt(2) * within, rel=1e-4)
    assert result.followed == 90
    assert result.important.correlation.estimate < -0.5
    assert 3 < result.important.regression.estimate < 7
    stated = STUDY_TOML.replace("[score]", "[score]\nrepeatability = 2.4")
    assert changes(data(readings, toml=stated)).detectable.change == 2.4


def test_steps_that_nothing_was_given_for_are_left_out(data, readings):
    plain = steps_of(data(readings, toml=STUDY_TOML).study, all_rules=False)
    given = steps_of(data(readings).study, all_rules=False)
    assert "agreement" not in [step.name for step in plain]
    assert "agreement" in [step.name for step in given]
    assert "changes" not in [step.name for step in given]
