"""A step of the analysis, and the analysis that the steps make up.

A step owns its typed result, its computation, its sentences, tables and figures. All of them stand
in one file; `registry` says in which order the steps are taken.
"""

from __future__ import annotations

import sys
import warnings as python_warnings
from collections.abc import Callable
from dataclasses import dataclass, field, fields, is_dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Generic, TypeVar, cast

import numpy as np
from matplotlib.figure import Figure

from dlild_analysis.progression import Outcome
from dlild_analysis.stats.results import Result, to_plain
from dlild_analysis.steps.attempts import NotDone, attempt
from dlild_analysis.steps.cutoff import Cutoff, cutoff_words
from dlild_analysis.steps.data import Data
from dlild_analysis.steps.presentation.table import Table
from dlild_analysis.steps.presentation.text import joined
from dlild_analysis.steps.progress import Progress

PACKAGES = (
    "dlild-analysis",
    "numpy",
    "scipy",
    "pandas",
    "lifelines",
    "statsmodels",
    "scikit-learn",
    "matplotlib",
)
OWN = ("numpy", "scipy")
LONGEST = 1_000

R = TypeVar("R")


def software() -> dict[str, str]:
    """Versions of what computes."""
    found = {"python": ".".join(str(part) for part in sys.version_info[:3])}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "absent"
    return found


@dataclass(frozen=True)
class Drawing(Generic[R]):
    """A figure of a step.

    Attributes
    ----------
    name : str
        Stem of its files.
    draw : callable
        Draws the step's result; None where there is nothing to show.
    caption : str
        Below it in the report.
    """

    name: str
    draw: Callable[[R, Analysis], Figure | None]
    caption: str


@dataclass(frozen=True)
class Gap:
    """Patients of a model who lack one covariate."""

    label: str
    patients: int


@dataclass(frozen=True)
class ModelStage:
    """Patients of one model: who could enter it, who lacks what, who is left.

    Attributes
    ----------
    main : bool
        Whether the report's sentences and figure show it.
    because : str
        Why the model was not done; empty where it was.
    """

    label: str
    main: bool
    outcome: str
    eligible: int
    missing: tuple[Gap, ...]
    n: int
    events: int
    because: str

    @property
    def gaps(self) -> str:
        """What the patients lack, in words; a patient may lack several."""
        return joined([f"{gap.label} {gap.patients}" for gap in self.missing])


@dataclass(frozen=True, eq=False)
class Step(Generic[R]):
    """One step of the analysis.

    Attributes
    ----------
    name, title : str
        Its key in results.json, and its heading in the report.
    compute : callable
        Computes the result: a frozen dataclass, whose field names are the keys in results.json.
        It takes the analysis as far as it is done, and raises `NotDoneError` or
        `StatisticsError` where the cohort does not support the step.
    sentences : callable
        Writes the paragraph of the report from the result.
    tables : tuple of callables
        Each makes a table from the result; None where there is nothing to show.
    joint_tables : tuple of callables
        Tables of this step together with another, whichever of the two was done.
    figures : tuple of Drawing
        Its figures.
    libraries : tuple of str
        What computes it.
    by_cutoff : bool
        Whether it compares high with low: the report then states who chose the cut-off, and P
        corrected for the choice.
    populations : callable
        Lists the patients of the step's models from its result, for the flow of patients.
    """

    name: str
    title: str
    compute: Callable[[Analysis, Progress], R]
    sentences: Callable[[R, Data], list[str]] | None = None
    tables: tuple[Callable[[R, Analysis], Table | None], ...] = ()
    joint_tables: tuple[Callable[[Analysis], Table | None], ...] = ()
    figures: tuple[Drawing[R], ...] = ()
    libraries: tuple[str, ...] = OWN
    by_cutoff: bool = False
    populations: Callable[[R, Data], list[ModelStage]] | None = None


@dataclass(frozen=True)
class Finished(Generic[R]):
    """A step that was taken.

    Attributes
    ----------
    step : Step
        The step.
    result : R or NotDone
        What it found, or why it was not done.
    warnings : tuple of str
        Every reservation of the result, as sentences.
    """

    step: Step[R]
    result: R | NotDone
    warnings: tuple[str, ...] = ()

    @property
    def done(self) -> bool:
        """Whether there is a result."""
        return not isinstance(self.result, NotDone)

    @property
    def because(self) -> str:
        """Why the step was not done; empty where it was."""
        return self.result.not_done_because if isinstance(self.result, NotDone) else ""

    def sentences(self, data: Data) -> list[str]:
        """Write the step's paragraph; empty where it was not done."""
        if isinstance(self.result, NotDone) or self.step.sentences is None:
            return []
        return self.step.sentences(self.result, data)

    def populations(self, data: Data) -> list[ModelStage]:
        """List the patients of the step's models; empty where it was not done."""
        if isinstance(self.result, NotDone) or self.step.populations is None:
            return []
        return self.step.populations(self.result, data)

    def tables(self, analysis: Analysis) -> list[Table]:
        """Make the step's tables that have something to show."""
        made = [make(analysis) for make in self.step.joint_tables]
        if not isinstance(self.result, NotDone):
            made += [make(self.result, analysis) for make in self.step.tables]
        return [table for table in made if table is not None]

    def figures(self, analysis: Analysis) -> list[tuple[Drawing[R], Figure]]:
        """Draw the step's figures that have something to show."""
        if isinstance(self.result, NotDone):
            return []
        drawn = [(drawing, drawing.draw(self.result, analysis)) for drawing in self.step.figures]
        return [(drawing, figure) for drawing, figure in drawn if figure is not None]

    def as_dict(self, versions: dict[str, str]) -> dict[str, Any]:
        """Write the step for results.json."""
        libraries = ("dlild-analysis", *self.step.libraries)
        return {
            "title": self.step.title,
            "status": "done" if self.done else "not done",
            "because": self.because,
            "warnings": list(self.warnings),
            "computed_with": {name: versions[name] for name in libraries},
            "values": thin(to_plain(self.result)) if self.done else {},
        }


@dataclass
class Analysis:
    """An analysis, as far as it is done.

    Attributes
    ----------
    data : Data
        Cohort and outcome.
    cutoff : Cutoff or NotDone
        Of the score, for high against low.
    steps : dict of str to Finished
        In the order in which they were taken.
    flow : Finished or None
        The flow of patients, which needs all the steps.
    model : dict or NotDone
        The progression model to save, as `prediction` reads it.
    versions : dict
        Of the software.
    """

    data: Data
    cutoff: Cutoff | NotDone
    steps: dict[str, Finished[Any]] = field(default_factory=dict)
    flow: Finished[Any] | None = None
    model: dict[str, Any] | NotDone = field(default_factory=lambda: NotDone("it was not fitted"))
    versions: dict[str, str] = field(default_factory=software)

    @property
    def cutoff_words(self) -> str:
        """Who chose the cut-off, and P corrected for the choice."""
        return cutoff_words(self.cutoff, self.data.unit("score"))

    @property
    def outcome(self) -> Outcome:
        """The outcome under the study's rule."""
        return self.data.outcome

    def of(self, step: Step[R]) -> R | NotDone:
        """Take the result of a step."""
        taken = [*self.steps.values(), *([self.flow] if self.flow else [])]
        found = next((item.result for item in taken if item.step is step), None)
        if found is None:
            return NotDone(f"{step.title} is not a part of this analysis")
        return cast("R | NotDone", found)


def take(step: Step[R], analysis: Analysis, progress: Progress) -> Finished[R]:
    """Take one step; a cohort that cannot support it makes a reason, never a crash."""
    with python_warnings.catch_warnings():
        python_warnings.simplefilter("ignore")
        with np.errstate(all="ignore"):
            result = _only_reasons(attempt(step.compute, analysis, progress))
    return Finished(
        step, result, tuple(sorted({_sentence(text) for text in collect_warnings(result)}))
    )


def _only_reasons(result: R | NotDone) -> R | NotDone:
    """Make a result whose every part was not done into a reason."""
    reasons: list[str] = []
    if isinstance(result, NotDone) or _has_result(result, reasons) or not reasons:
        return result
    return NotDone("; ".join(dict.fromkeys(reasons)))


def _has_result(value: Any, reasons: list[str]) -> bool:
    if isinstance(value, NotDone):
        reasons.append(value.not_done_because)
        return False
    return isinstance(value, Result) or sum(_has_result(v, reasons) for v in _parts(value)) > 0


def _parts(value: Any) -> list[Any]:
    """List what a result holds."""
    if is_dataclass(value) and not isinstance(value, type):
        return [getattr(value, item.name) for item in fields(value) if item.name != "warnings"]
    if isinstance(value, dict):
        return list(value.values())
    return list(value) if isinstance(value, list | tuple) else []


def collect_warnings(value: Any) -> list[str]:
    """Gather the warnings of all results inside a value."""
    found = [str(item) for item in getattr(value, "warnings", ())]
    return found + [text for part in _parts(value) for text in collect_warnings(part)]


def collect_methods(value: Any) -> set[str]:
    """Gather the methods that the results inside a value name."""
    method = getattr(value, "method", None)
    found = {method} if isinstance(method, str) else set()
    return found.union(*(collect_methods(part) for part in _parts(value)))


def _sentence(text: str) -> str:
    text = text.strip()
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")


def thin(value: Any) -> Any:
    """Shorten long arrays, so that results.json stays readable: evenly spaced, both ends kept."""
    if isinstance(value, dict):
        return {key: thin(part) for key, part in value.items()}
    if isinstance(value, list):
        if len(value) > LONGEST:
            keep = np.unique(np.linspace(0, len(value) - 1, LONGEST).round().astype(int))
            return [value[index] for index in keep]
        return [thin(part) for part in value]
    return value
