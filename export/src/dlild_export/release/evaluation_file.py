"""What a release needs of `evaluation.json`: whose weights, and which targets are met."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class RecordedTarget:
    """A target of the floor as `evaluation.json` has it; `value` is None where there was none."""

    name: str
    rule: str
    value: float | None
    met: bool

    def __str__(self) -> str:
        """Name, value and rule in one line."""
        value = "without a value" if self.value is None else f"{self.value:.3f}"
        return f"{self.name} is {value}, must be {self.rule}"


@dataclass(frozen=True)
class EvaluationFile:
    """An evaluation as far as a release looks at it.

    Attributes
    ----------
    weights_sha256 : str
        Of the ONNX file that was evaluated.
    cases, engine : str
        On what, and by what.
    targets, real_targets : tuple of RecordedTarget
        On cases with a truth, and on real scans; the latter empty where there were none.
    """

    weights_sha256: str
    cases: str
    engine: str
    targets: tuple[RecordedTarget, ...]
    real_targets: tuple[RecordedTarget, ...]

    @property
    def missed(self) -> tuple[RecordedTarget, ...]:
        """Targets that are not met."""
        return tuple(t for t in (*self.targets, *self.real_targets) if not t.met)


def read_evaluation(path: Path) -> EvaluationFile:
    """Read what `dlild-export evaluate` wrote.

    Parameters
    ----------
    path : pathlib.Path
        The JSON file.

    Returns
    -------
    EvaluationFile

    Raises
    ------
    ValueError
        It is none, is of another schema, or evaluated nothing.
    """
    try:
        raw = json.loads(path.read_text("utf-8"))
        if raw["schema_version"] != SCHEMA_VERSION:
            raise ValueError(
                f"schema version {raw['schema_version']}, this release reads {SCHEMA_VERSION}"
            )
        about = raw["about"]
        evaluation = EvaluationFile(
            weights_sha256=str(about["weights_sha256"]),
            cases=str(about["cases"]),
            engine=str(about["engine"]),
            targets=_targets(raw["floor"]),
            real_targets=_targets(raw["real"]["floor"]),
        )
    except (ValueError, KeyError, TypeError) as error:
        reason = f"lacks {error}" if isinstance(error, KeyError) else str(error)
        raise ValueError(f"{path}: not an evaluation to release on: {reason}") from None
    if not evaluation.targets:
        raise ValueError(f"{path}: no case with a truth was evaluated; run `dlild-export evaluate`")
    return evaluation


def _targets(verdict: Mapping[str, Any] | None) -> tuple[RecordedTarget, ...]:
    if verdict is None:
        return ()
    return tuple(
        RecordedTarget(
            name=str(t["name"]),
            rule=str(t["rule"]),
            value=None if t["value"] is None else float(t["value"]),
            # Met is what says so and nothing else: a missing word must not pass.
            met=t["met"] is True,
        )
        for t in verdict["targets"]
    )
