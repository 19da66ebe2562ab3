"""A step by itself: the example of CONTRIBUTING.md, and what JSON makes of a result."""

from __future__ import annotations

import importlib.util
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from dlild_analysis.progression import assess
from dlild_analysis.stats.results import OPTIONAL, to_plain
from dlild_analysis.steps.attempts import NotDone, attempt
from dlild_analysis.steps.cutoff import analysis_cutoff
from dlild_analysis.steps.data import Data
from dlild_analysis.steps.patients.flow import FLOW
from dlild_analysis.steps.progress import Progress
from dlild_analysis.steps.registry import STEPS
from dlild_analysis.steps.step import Analysis, Step, take

PAGE = Path(__file__).parents[3] / "CONTRIBUTING.md"


@pytest.fixture
def example(tmp_path, monkeypatch):
    """Load the step that CONTRIBUTING.md shows."""
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    (tmp_path / "landmark.py").write_text(code, encoding="utf-8")
    spec = importlib.util.spec_from_file_location("landmark", tmp_path / "landmark.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "landmark", module)  # dataclasses look there
    spec.loader.exec_module(module)
    return module


def test_the_example_of_the_page_is_a_step(load, example):
    data = Data(load(), assess(load()))
    analysis = Analysis(data, attempt(analysis_cutoff, data))
    finished = take(example.LANDMARK, analysis, Progress(quiet=True))
    analysis.steps["landmark"] = finished
    assert finished.done
    assert finished.sentences(data)[0].startswith("From 6 months on: log-rank P")
    assert finished.tables(analysis)[0].rows[0][0] == "6"
    assert finished.as_dict(analysis.versions)["values"]["months"] == 6.0


def test_the_example_ends_in_a_reason_without_a_cut_off(load, example):
    data = Data(load(), assess(load()))
    finished = take(example.LANDMARK, Analysis(data, NotDone("x")), Progress(quiet=True))
    assert finished.because == "there is no cut-off of the score"
    assert finished.sentences(data) == []


def test_a_result_whose_every_part_failed_is_not_done(load):
    @dataclass(frozen=True)
    class Parts:
        n: int
        a: object
        b: object

    data = Data(load(), assess(load()))
    result = Parts(3, NotDone("no a"), (NotDone("no b"), NotDone("no a")))
    step = Step("parts", "Parts", compute=lambda *_: result)
    finished = take(step, Analysis(data, NotDone("x")), Progress(quiet=True))
    assert finished.because == "no a; no b"


def test_names_of_steps_tables_and_figures_are_used_once():
    steps = (*STEPS, FLOW)
    assert len({step.name for step in steps}) == len(steps)
    figures = [figure.name for step in steps for figure in step.figures]
    assert len(set(figures)) == len(figures)


def test_optional_fields_are_left_out_where_they_hold_nothing():
    @dataclass(frozen=True)
    class Part:
        n: int
        missing: int | None = field(default=None, metadata=OPTIONAL)
        sd: float | None = None

    assert to_plain(Part(3)) == {"n": 3, "sd": None}
    assert to_plain(Part(3, 0)) == {"n": 3, "missing": 0, "sd": None}
    assert to_plain(NotDone("x")) == {"not_done_because": "x"}
