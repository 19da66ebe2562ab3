"""Every cut-off of the score, and the price of choosing the best."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from dlild_analysis.errors import NotDoneError
from dlild_analysis.stats import roc
from dlild_analysis.steps.attempts import NotDone, attempt
from dlild_analysis.steps.cutoff import Cutoff
from dlild_analysis.steps.data import Data
from dlild_analysis.steps.presentation import style
from dlild_analysis.steps.presentation.text import number, p_value
from dlild_analysis.steps.progress import Progress
from dlild_analysis.steps.step import Analysis, Drawing, Step
from dlild_analysis.steps.validation.models import random_stream


@dataclass(frozen=True)
class CutoffScans:
    """What the step found; no used cut-off where there is none."""

    used_cutoff: float | None
    origin: str
    time_to_event: roc.CutoffScan | NotDone
    two_way: roc.CutoffScan | NotDone


def every_cutoff(data: Data, cutoff: Cutoff | NotDone, progress: Progress) -> CutoffScans:
    """Try every cut-off of the score, and show the price of choosing the best."""
    if not data.available(("score",)):
        raise NotDoneError("there is no score")
    used, origin = (None, "") if isinstance(cutoff, NotDone) else (cutoff.cutoff, cutoff.origin)
    return CutoffScans(
        used,
        origin,
        attempt(_scan_survival, data, used, progress),
        attempt(_scan_binary, data, progress),
    )


def _scan_survival(data: Data, used: float | None, progress: Progress) -> roc.CutoffScan:
    sample = data.sample(("score",), "survival")
    return roc.scan_cutoffs_survival(
        sample.time,
        sample.event,
        sample.design.iloc[:, 0],
        rng=random_stream(data, 400),
        permutations=_permutations(sample.n),
        used=used,
        progress=progress.bar("permutations: log-rank"),
    )


def _scan_binary(data: Data, progress: Progress) -> roc.CutoffScan:
    sample = data.sample(("score",), "binary")
    return roc.scan_cutoffs_binary(
        sample.progressed,
        sample.design.iloc[:, 0],
        rng=random_stream(data, 401),
        permutations=_permutations(sample.n),
        progress=progress.bar("permutations: two by two"),
    )


def _permutations(n: int) -> int:
    return 1_000 if n <= 5_000 else 200


def corrected_p(result: CutoffScans | NotDone) -> float | None:
    """Take the log-rank P of the used cut-off, corrected for the choice."""
    if isinstance(result, NotDone) or isinstance(result.time_to_event, NotDone):
        return None
    return result.time_to_event.used_p


def sentences(result: CutoffScans, _data: Data) -> list[str]:
    """Report the price of choosing the best cut-off."""
    return [
        f"Of {scan.cutoffs.size} cut-offs ({words}), {number(scan.best_cutoff)} parted "
        f"the patients best: P {p_value(scan.best_naive_p)} as if it had been chosen "
        f"before, {p_value(scan.corrected_p)} once the choice is paid for "
        f"({scan.permutations} permutations)."
        for scan, words in ((result.time_to_event, "log-rank"), (result.two_way, "two-by-two"))
        if not isinstance(scan, NotDone)
    ]


def figure(result: CutoffScans, analysis: Analysis) -> Figure | None:
    """Test statistic at every cut-off, with the used one and the price of the best."""
    if isinstance(result.time_to_event, NotDone):
        return None
    scan, used = result.time_to_event, result.used_cutoff
    made, grid = style.figure(style.ONE_COLUMN, 3.0)
    axes = grid[0][0]
    x, y = style.shown(scan.cutoffs, scan.statistic)
    axes.plot(x, y, color=style.BLUE)
    axes.axhline(1.96, color=style.GREY, linewidth=0.8, linestyle=(0, (4, 3)))
    axes.text(x[-1], 1.96, "1.96 ", va="bottom", ha="right", fontsize=7, color=style.GREY)
    if used is not None:
        axes.axvline(
            used, ymax=0.66, color=style.ORANGE, linewidth=1, label=f"Used: {number(used)}"
        )
    axes.plot(
        scan.best_cutoff,
        scan.best_statistic,
        "o",
        color=style.BLUE,
        markersize=5,
        markeredgecolor="white",
        label=f"Best: {number(scan.best_cutoff)}; P {p_value(scan.best_naive_p)} as if chosen "
        f"before,\nP {p_value(scan.corrected_p)} corrected for the choice",
    )
    axes.set(
        xlabel=f"Cut-off of {analysis.data.heading('score')}",
        ylabel="Log-rank |z|",
        ylim=(0, 1.5 * max(float(np.nanmax(y)), 1.96)),
    )
    axes.legend(loc="upper left")
    return made


CUTOFFS: Step[CutoffScans] = Step(
    "cutoffs",
    "Sensitivity of the cut-off",
    compute=lambda analysis, progress: every_cutoff(analysis.data, analysis.cutoff, progress),
    sentences=sentences,
    figures=(
        Drawing(
            "cutoffs",
            figure,
            "Log-rank statistic at every cut-off, and the price of choosing the best.",
        ),
    ),
)
