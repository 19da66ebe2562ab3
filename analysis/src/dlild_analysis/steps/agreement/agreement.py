"""Agreement of several readers, and of the score with their mean."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import combinations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dlild_analysis.errors import NotDoneError
from dlild_analysis.stats import agreement
from dlild_analysis.stats.arrays import FloatArray
from dlild_analysis.stats.results import OPTIONAL
from dlild_analysis.steps.attempts import NotDone, attempt
from dlild_analysis.steps.data import Data
from dlild_analysis.steps.presentation import style
from dlild_analysis.steps.presentation.table import Table
from dlild_analysis.steps.presentation.text import MINUS, estimate, number, p_value
from dlild_analysis.steps.step import Analysis, Drawing, Step


@dataclass(frozen=True)
class ReadingPair:
    """Two readings of the same scans: limits of agreement of numbers, kappa of categories."""

    a: str
    b: str
    bland_altman: agreement.BlandAltman | NotDone | None = field(default=None, metadata=OPTIONAL)
    kappa: agreement.Kappa | NotDone | None = field(default=None, metadata=OPTIONAL)
    unweighted_kappa: agreement.Kappa | NotDone | None = field(default=None, metadata=OPTIONAL)

    @property
    def label(self) -> str:
        """The difference, as the report writes it."""
        return f"{self.a} {MINUS} {self.b}"


@dataclass(frozen=True)
class AgainstMean:
    """The score against the mean of the readers, where both are percentages of the lung."""

    n: int
    bland_altman: agreement.BlandAltman | NotDone
    icc: agreement.IntraclassCorrelation | NotDone


@dataclass(frozen=True)
class Agreement:
    """What the step found."""

    readings: tuple[str, ...]
    kind: str
    unit: str
    n: int
    incomplete: int
    icc: agreement.IntraclassCorrelation | NotDone
    pairs: tuple[ReadingPair, ...]
    repeatability: agreement.Repeatability | NotDone
    score_against_mean: AgainstMean | NotDone


def agree(data: Data) -> Agreement:
    """Agreement of several readers of the same scans, and of the score with their mean."""
    readings = data.study.readings
    count = len(readings.columns)
    if count < 2:
        raise NotDoneError("no readings of several readers are given (readings)")
    table = data.cohort.patients[[f"reading_{index + 1}" for index in range(count)]]
    complete = table.dropna().to_numpy(dtype=np.float64)
    if len(complete) < 3:
        raise NotDoneError(f"only {len(complete)} patients have all {count} readings; 3 are needed")
    category = readings.kind == "category"
    no_numbers = NotDone("the readings are categories; kappa is given instead")
    return Agreement(
        tuple(readings.columns),
        readings.kind,
        "" if category else readings.unit,
        len(complete),
        int(len(table) - len(complete)),
        no_numbers if category else attempt(agreement.intraclass_correlation, complete),
        tuple(_pair(data, complete, i, j) for i, j in combinations(range(count), 2)),
        no_numbers
        if category
        else attempt(
            agreement.repeatability,
            np.repeat(np.arange(len(complete)), count),
            complete.ravel(),
        ),
        attempt(_against_mean, data, table.to_numpy(dtype=np.float64)),
    )


def _pair(data: Data, complete: FloatArray, i: int, j: int) -> ReadingPair:
    readings = data.study.readings
    a, b = readings.columns[i], readings.columns[j]
    first, second = complete[:, i], complete[:, j]
    if readings.kind == "number":
        return ReadingPair(a, b, bland_altman=attempt(agreement.bland_altman, first, second))
    levels = len(readings.levels)
    return ReadingPair(
        a,
        b,
        kappa=attempt(agreement.cohen_kappa, first, second, categories=levels),
        unweighted_kappa=attempt(
            agreement.cohen_kappa, first, second, categories=levels, weights="none"
        ),
    )


def _against_mean(data: Data, readings: FloatArray) -> AgainstMean:
    spec, score = data.study.readings, data.study.score
    if spec.kind == "category" or spec.unit == "points" or score is None or score.unit == "points":
        raise NotDoneError("the score and the readings have different units; see the correlations")
    both = np.column_stack([data.column("score"), readings.mean(axis=1)])
    both = both[np.isfinite(both).all(axis=1)]
    return AgainstMean(
        len(both),
        attempt(agreement.bland_altman, both[:, 0], both[:, 1]),
        attempt(agreement.intraclass_correlation, both),
    )


def sentences(result: Agreement, data: Data) -> list[str]:
    """Report the agreement."""
    found = []
    icc, count = result.icc, len(result.readings)
    if not isinstance(icc, NotDone):
        both = f"{estimate(icc.icc_2_1, 3)} and ICC(3,1) {estimate(icc.icc_3_1, 3)}"
        found.append(f"ICC(2,1) of {count} readers was {both} in {icc.n} patients.")
    found += [
        f"Quadratically weighted kappa of {pair.a} and {pair.b} was "
        f"{estimate(pair.kappa.kappa)} in {pair.kappa.n} patients."
        for pair in result.pairs
        if isinstance(pair.kappa, agreement.Kappa)
    ]
    against = result.score_against_mean
    if isinstance(against, AgainstMean) and not isinstance(against.bland_altman, NotDone):
        part, label = against.bland_altman, data.label("score")
        found.append(
            f"{label} was {number(abs(part.bias.estimate), 1)} percentage points "
            f"{'above' if part.bias.estimate >= 0 else 'below'} the mean of the readers, with "
            f"limits of agreement from {number(part.lower_limit.estimate, 1)} to "
            f"{number(part.upper_limit.estimate, 1)} (n = {against.n})."
        )
    return found


def table(result: Agreement, analysis: Analysis) -> Table | None:
    """Agreement of readers."""
    rows: list[tuple[str, ...]] = []
    if not isinstance(result.icc, NotDone):
        rows += [
            ("ICC(2,1), absolute agreement", estimate(result.icc.icc_2_1, 3)),
            ("ICC(3,1), consistency", estimate(result.icc.icc_3_1, 3)),
        ]
    rows += [row for pair in result.pairs for row in _pair_rows(pair)]
    if not isinstance(result.repeatability, NotDone):
        rows.append(
            (
                "SD between readings of one scan",
                estimate(result.repeatability.within_subject_sd),
            )
        )
    against = result.score_against_mean
    if isinstance(against, AgainstMean):
        label = f"{analysis.data.label('score')} {MINUS} mean of the readers"
        if not isinstance(against.bland_altman, NotDone):
            rows += _limits(label, against.bland_altman)
        if not isinstance(against.icc, NotDone):
            score = analysis.data.label("score")
            rows.append(
                (f"{score} and mean of the readers: ICC(2,1)", estimate(against.icc.icc_2_1, 3))
            )
    unit = UNIT.get(result.unit, "")
    return Table(
        "agreement",
        "Agreement of readers",
        ("Quantity", "Estimate (95 % CI)"),
        rows,
        f"{result.n} patients read by all {len(result.readings)} readers; {result.incomplete} "
        f"others were left out.{unit} Limits of agreement: bias \u00b1 1.96 SD.",
    )


def _pair_rows(pair: ReadingPair) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    if isinstance(pair.bland_altman, agreement.BlandAltman):
        rows += _limits(pair.label, pair.bland_altman)
    for kind, kappa in (
        ("quadratically weighted", pair.kappa),
        ("unweighted", pair.unweighted_kappa),
    ):
        if isinstance(kappa, agreement.Kappa):
            rows.append((f"{pair.a} and {pair.b}: kappa, {kind}", estimate(kappa.kappa)))
    return rows


UNIT = {
    "percent": " Differences are percentage points of the lung.",
    "fraction": " Differences are percentage points of the lung.",
    "points": " Differences are points of the score.",
}


def _limits(label: str, part: agreement.BlandAltman) -> list[tuple[str, ...]]:
    return [
        (f"{label}: bias", estimate(part.bias)),
        (f"{label}: lower limit of agreement", estimate(part.lower_limit)),
        (f"{label}: upper limit of agreement", estimate(part.upper_limit)),
        (f"{label}: slope of difference on mean", f"P {p_value(part.proportional_bias.p_value)}"),
    ]


def figure(result: Agreement, analysis: Analysis) -> Figure | None:
    """Bland-Altman plots of the score against the readers' mean, and of four pairs at most."""
    parts = [
        (pair.label, pair.bland_altman)
        for pair in result.pairs
        if isinstance(pair.bland_altman, agreement.BlandAltman)
    ][:4]
    against = result.score_against_mean
    if isinstance(against, AgainstMean) and not isinstance(against.bland_altman, NotDone):
        label = f"{analysis.data.label('score')} {MINUS} mean of readers"
        parts = [(label, against.bland_altman), *parts]
    if not parts:
        return None
    columns = min(len(parts), 2)
    rows = -(-len(parts) // columns)
    made, grid = style.figure(style.ONE_COLUMN * columns, 3.0 * rows, rows, columns)
    for axes in grid.ravel()[len(parts) :]:
        axes.set_visible(False)
    unit = "points" if result.unit == "points" else "% of lung"
    for axes, (label, part) in zip(grid.ravel(), parts, strict=False):
        _panel(axes, part, unit)
        axes.set_title(label, loc="left")
    return made


def _panel(axes: Axes, part: agreement.BlandAltman, unit: str) -> None:
    means, differences = style.shown(part.means, part.differences)
    axes.scatter(means, differences, s=10, color=style.BLUE, alpha=0.6, linewidths=0)
    for line, kind in ((part.bias, "-"), (part.lower_limit, "--"), (part.upper_limit, "--")):
        axes.axhline(line.estimate, color=style.ORANGE, linestyle=kind, linewidth=1)
        axes.axhspan(line.ci_low, line.ci_high, color=style.ORANGE, alpha=0.13, linewidth=0)
        axes.text(
            1.01,
            line.estimate,
            number(line.estimate),
            transform=axes.get_yaxis_transform(),
            va="center",
            fontsize=7,
        )
    axes.set(xlabel=f"Mean of both ({unit})", ylabel=f"Difference ({unit})")


AGREEMENT: Step[Agreement] = Step(
    "agreement",
    "Agreement of readers",
    compute=lambda analysis, _: agree(analysis.data),
    sentences=sentences,
    tables=(table,),
    figures=(
        Drawing(
            "agreement",
            figure,
            "Readers: bias and limits of agreement with 95 % bands (Bland-Altman).",
        ),
    ),
)
