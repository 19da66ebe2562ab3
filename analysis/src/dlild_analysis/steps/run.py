"""The analysis, step by step: the paper's in its order, then beyond it."""

from __future__ import annotations

import warnings as python_warnings
from dataclasses import replace

import numpy as np

from dlild_analysis.cohort import Cohort
from dlild_analysis.progression import assess
from dlild_analysis.steps.attempts import NotDone, attempt
from dlild_analysis.steps.cutoff import analysis_cutoff
from dlild_analysis.steps.data import Data
from dlild_analysis.steps.model import build_model
from dlild_analysis.steps.patients.flow import FLOW
from dlild_analysis.steps.progress import Progress
from dlild_analysis.steps.registry import steps_of
from dlild_analysis.steps.sensitivity.cutoffs import CUTOFFS, corrected_p
from dlild_analysis.steps.step import Analysis, take


def analyse(
    cohort: Cohort, *, all_rules: bool = False, progress: Progress | None = None
) -> Analysis:
    """Run the whole analysis.

    Parameters
    ----------
    cohort : Cohort
        A validated cohort.
    all_rules : bool
        Also run the main figures under every progression rule.
    progress : Progress, optional
        Silent by default.

    Raises
    ------
    NotDoneError
        The cohort lacks what its progression rule needs; nothing can be analysed without an
        outcome.
    """
    shown = progress or Progress(quiet=True)
    data = Data(cohort, assess(cohort))
    with python_warnings.catch_warnings(), np.errstate(all="ignore"):
        python_warnings.simplefilter("ignore")
        analysis = Analysis(data, attempt(analysis_cutoff, data))
    for step in steps_of(cohort.study, all_rules=all_rules):
        shown.step(step.title)
        finished = take(step, analysis, shown)
        analysis.steps[step.name] = finished
        if not finished.done:
            shown.step(f"  not done, because {finished.because}")
    if not isinstance(analysis.cutoff, NotDone):
        scans = analysis.of(CUTOFFS)
        analysis.cutoff = replace(analysis.cutoff, corrected_p=corrected_p(scans))
    shown.step(FLOW.title)
    analysis.flow = take(FLOW, analysis, shown)
    analysis.model = attempt(build_model, analysis)
    return analysis
