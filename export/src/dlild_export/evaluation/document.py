"""An evaluation as plain values, for JSON: every case, every figure, the verdicts."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, is_dataclass
from typing import Any

from dlild_export.evaluation.floor import Verdict
from dlild_export.evaluation.real import RealRun
from dlild_export.evaluation.summary import CaseRun, Summary

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class About:
    """What was evaluated, on what, and how.

    Attributes
    ----------
    weights_sha256, engine : str
    model, version : str, int
        Of the contract.
    cases : str
        Where the cases come from.
    tolerance_mm : float
        Of the surface Dice.
    """

    weights_sha256: str
    engine: str
    model: str
    version: int
    cases: str
    tolerance_mm: float


@dataclass(frozen=True)
class Evaluation:
    """Everything that goes into a report.

    Attributes
    ----------
    about : About
    run : CaseRun
        The cases with a truth.
    summary : Summary or None
        None where no case was scored.
    strata : mapping
        Summaries by severity, pattern and thickness.
    verdict : Verdict or None
        On the cases with a truth; None where there were none.
    real : RealRun
        The real scans.
    real_verdict : Verdict or None
        None where there were none.
    """

    about: About
    run: CaseRun
    summary: Summary | None
    strata: Mapping[str, Mapping[str, Summary]]
    verdict: Verdict | None
    real: RealRun
    real_verdict: Verdict | None

    @property
    def met(self) -> bool:
        """Whether every floor that was tried is met."""
        return all(v.met for v in (self.verdict, self.real_verdict) if v is not None)


def to_json(evaluation: Evaluation) -> str:
    """Return the text of `evaluation.json`; a figure without a value is null."""
    document: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "about": evaluation.about,
        "floor": _verdict(evaluation.verdict),
        "summary": evaluation.summary,
        "strata": evaluation.strata,
        "cases": [
            {**_without_views(r), "error_points": r.error_points} for r in evaluation.run.results
        ],
        "not_scored": evaluation.run.refused,
        "real": {
            "floor": _verdict(evaluation.real_verdict),
            "scans": [
                {
                    **_without_views(scan),
                    "lung_difference_percent": scan.lung_difference_percent,
                    "planted": [
                        {**_without_views(p), "error_points": p.error_points} for p in scan.planted
                    ],
                }
                for scan in evaluation.real.results
            ],
            "not_scored": evaluation.real.refused,
        },
        "research_use_only": True,
    }
    return json.dumps(plain(document), indent=2, allow_nan=False) + "\n"


def _verdict(verdict: Verdict | None) -> Any:
    return None if verdict is None else {"met": verdict.met, "targets": verdict.targets}


def _without_views(record: Any) -> dict[str, Any]:
    """Fields of a dataclass without its pictures."""
    return {f.name: getattr(record, f.name) for f in fields(record) if f.name != "views"}


def plain(value: Any) -> Any:
    """Turn dataclasses into dicts, and floats into six decimals or null."""
    if is_dataclass(value) and not isinstance(value, type):
        return plain(asdict(value))
    if isinstance(value, float):
        return round(value, 6) if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    return value
