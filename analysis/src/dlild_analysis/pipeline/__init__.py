"""The analysis pipeline: steps that end in a result or in the reason why there is none."""

from __future__ import annotations

from dlild_analysis.pipeline.data import Data
from dlild_analysis.pipeline.progress import Progress
from dlild_analysis.pipeline.run import Analysis, analyse
from dlild_analysis.pipeline.step import Step

__all__ = ["Analysis", "Data", "Progress", "Step", "analyse"]
