"""One step of the analysis: what it found, or why it was not done."""

from __future__ import annotations

import sys
import warnings as python_warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

from dlild_analysis.errors import NotDoneError
from dlild_analysis.pipeline.data import Data
from dlild_analysis.stats.errors import StatisticsError
from dlild_analysis.stats.results import to_plain

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
LONGEST = 1_000


def software() -> dict[str, str]:
    """Versions of what computes."""
    found = {"python": ".".join(str(part) for part in sys.version_info[:3])}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "0.1.0" if name == "dlild-analysis" else "absent"
    return found


@dataclass
class Step:
    """What one step found.

    Attributes
    ----------
    name, title : str
        For the files and for the reader.
    values : dict
        Results; empty where the step was not done.
    because : str
        Why the step, or a part of it, was not done.
    warnings : list of str
        Every reservation.
    libraries : tuple of str
        What computed it.
    """

    name: str
    title: str
    values: dict[str, Any] = field(default_factory=dict)
    because: str = ""
    warnings: list[str] = field(default_factory=list)
    libraries: tuple[str, ...] = ()

    @property
    def done(self) -> bool:
        """Whether there is a result."""
        return bool(self.values)

    def as_dict(self, versions: dict[str, str]) -> dict[str, Any]:
        """Write the step for results.json."""
        return {
            "title": self.title,
            "status": "done" if self.done else "not done",
            "because": self.because,
            "warnings": self.warnings,
            "computed_with": {name: versions[name] for name in ("dlild-analysis", *self.libraries)},
            "values": thin(to_plain(self.values)),
        }


Body = Callable[[Data], dict[str, Any]]


BROKEN = (
    NotDoneError,
    ValueError,
    np.linalg.LinAlgError,
    ArithmeticError,
)  # StatisticsError is a ValueError


def reason(error: Exception) -> str:
    """Say why something was not done."""
    if isinstance(error, NotDoneError | StatisticsError):
        return str(error)
    return f"the computation broke down ({type(error).__name__}: {error})"


def _only_reasons(step: Step) -> None:
    """Call a step not done whose every part was not."""
    reasons: list[str] = []
    if step.values and not _has_result(step.values, reasons) and reasons:
        step.because = "; ".join(dict.fromkeys(reasons))
        step.values = {}


def _has_result(value: Any, reasons: list[str]) -> bool:
    if hasattr(value, "__dataclass_fields__"):
        return True
    if isinstance(value, dict):
        if failed(value):
            reasons.append(str(value["not_done_because"]))
            return False
        return sum(_has_result(part, reasons) for part in value.values()) > 0
    if isinstance(value, list | tuple):
        return sum(_has_result(part, reasons) for part in value) > 0
    return False


def run_step(name: str, title: str, body: Body, data: Data, libraries: tuple[str, ...]) -> Step:
    """Run one step; a cohort that cannot support it makes a reason, never a crash."""
    step = Step(name, title, libraries=libraries)
    with python_warnings.catch_warnings():
        python_warnings.simplefilter("ignore")
        with np.errstate(all="ignore"):
            try:
                step.values = body(data)
            except BROKEN as error:
                step.because = reason(error)
    _only_reasons(step)
    step.warnings = sorted({_sentence(text) for text in collect_warnings(step.values)})
    return step


def attempt(call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call one part of a step; a part that cannot be done becomes its reason.

    Returns
    -------
    Any
        The result, or ``{"not_done_because": reason}``.
    """
    try:
        return call(*args, **kwargs)
    except BROKEN as error:
        return {"not_done_because": reason(error)}


def failed(part: Any) -> bool:
    """Whether `attempt` came back with a reason."""
    return isinstance(part, dict) and "not_done_because" in part


def _sentence(text: str) -> str:
    text = text.strip()
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")


def collect_warnings(value: Any) -> list[str]:
    """Gather the warnings of all results inside a value."""
    found: list[str] = []
    if isinstance(value, dict):
        for key, part in value.items():
            found += (
                [str(item) for item in part] if key == "warnings" and isinstance(part, list) else []
            )
            found += collect_warnings(part)
    elif isinstance(value, list | tuple):
        for part in value:
            found += collect_warnings(part)
    elif hasattr(value, "__dataclass_fields__"):
        found += [str(item) for item in getattr(value, "warnings", ())]
        for key in value.__dataclass_fields__:
            if key != "warnings":
                found += collect_warnings(getattr(value, key))
    return found


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
