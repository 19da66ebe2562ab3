"""Evaluation: how well the product, not the bare network, measures DL-ILD.

Cases with a known truth (phantoms, datasets) and real scans go through the client's grid, lung box
and windows and the server's blending; figures, strata, failure cases and the verdict on the release
floor come out as one HTML page and one JSON file.
"""

from dlild_export.evaluation.cases import release_plan
from dlild_export.evaluation.floor import (
    Floor,
    FloorTarget,
    RealFloor,
    Verdict,
    real_verdict,
    verdict,
)
from dlild_export.evaluation.run import evaluate, write_report
from dlild_export.evaluation.served import Served, load_served

__all__ = [
    "Floor",
    "FloorTarget",
    "RealFloor",
    "Served",
    "Verdict",
    "evaluate",
    "load_served",
    "real_verdict",
    "release_plan",
    "verdict",
    "write_report",
]
