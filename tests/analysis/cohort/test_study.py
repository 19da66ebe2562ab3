"""The TOML of a study: every mistake is answered with the key, the value and the way out."""

from __future__ import annotations

from pathlib import Path

import pytest

from dlild_analysis import StudyError, load_study, parse_study
from dlild_analysis.simulate import STUDY_TOML

MINIMAL = {"outcome": {"time": "t", "event": "e"}}


def test_defaults():
    study = parse_study({**MINIMAL, "score": {"column": "s"}, "covariates": {"age": "Age"}})
    assert study.plan.horizons_months == (12.0, 24.0)
    assert study.plan.horizon == 24.0
    assert study.plan.adjust == ("score", "age")
    assert study.plan.predictors == ("score", "age")
    assert study.plan.base == ("age",)
    assert study.covariate("age").column == "Age"
    assert study.label("score") == "DL-ILD"
    assert study.table.missing == "complete-case"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"study": {"titel": "x"}}, "did you mean 'title'"),
        ({"analysis": {"horizons_months": [24, 12]}}, "must rise"),
        ({"analysis": {"folds": 1}}, "2 ... 50"),
        ({"analysis": {"prevalence": 0}}, "write a share between 0 and 1"),
        ({"analysis": {"prevalence": 30}}, "analysis.prevalence"),
        ({"analysis": {"groups": "best"}}, '"youden", "median"'),
        ({"analysis": {"adjust": ["height"]}}, "no covariate; known"),
        ({"table": {"layout": "wide"}}, "patients, visits"),
        ({"table": {"time_unit": "fortnights"}}, "days, weeks, months, years"),
        ({"table": {"layout": "visits"}}, "visits.time must name"),
        ({"score": {"column": ""}}, "is empty"),
        ({"score": {"column": 3}}, "it must be text"),
        ({"covariates": {"score": "x"}}, "the name is taken"),
        ({"schema_version": 9}, "reads version 1"),
        ({"visits": {"time": "w"}}, "names no measurement"),
        ({"visits": {"wide": 3}}, "must be a list"),
        ({"visits": {"wide": [{"fvc_percent": "f0"}]}}, "time is missing"),
        ({"nonsense": {}}, "not a key of this file"),
        ({"analysis": 3}, "must be a table"),
    ],
)
def test_mistakes(change, words):
    with pytest.raises(StudyError, match=None) as caught:
        parse_study({**MINIMAL, **change})
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_recorded_needs_its_columns():
    with pytest.raises(StudyError, match=r"outcome\.time and outcome\.event"):
        parse_study({})


@pytest.mark.parametrize(("text", "words"), [("[study", "not valid TOML"), (None, "no such file")])
def test_files(tmp_path: Path, text, words):
    path = tmp_path / "s.toml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(StudyError, match=words):
        load_study(path)


def test_the_simulated_study_is_valid(tmp_path: Path):
    path = tmp_path / "s.toml"
    path.write_text(STUDY_TOML)
    assert load_study(path).visual.unit == "points"
