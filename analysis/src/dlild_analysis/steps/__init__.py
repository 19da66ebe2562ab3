"""The steps of the analysis; each ends in a result or in the reason why there is none."""

from __future__ import annotations

from dlild_analysis.steps.data import Data
from dlild_analysis.steps.model import build_model
from dlild_analysis.steps.progress import Progress
from dlild_analysis.steps.run import analyse
from dlild_analysis.steps.step import Analysis, Step

__all__ = ["Analysis", "Data", "Progress", "Step", "analyse", "build_model"]
