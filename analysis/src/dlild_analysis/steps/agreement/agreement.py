"""Agreement of repeated readings of the same scans."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dlild_analysis.errors import NotDoneError
from dlild_analysis.stats import agreement
from dlild_analysis.steps.attempts import NotDone, attempt
from dlild_analysis.steps.data import Data
from dlild_analysis.steps.presentation import style
from dlild_analysis.steps.presentation.table import Table
from dlild_analysis.steps.presentation.text import estimate, number, p_value
from dlild_analysis.steps.step import Analysis, Drawing, Step


@dataclass(frozen=True)
class ReadingPair:
    """Two readings of the same scans."""

    a: str
    b: str
    bland_altman: agreement.BlandAltman | NotDone

    @property
    def label(self) -> str:
        """The difference, as the report writes it."""
        return f"{self.a} \N{MINUS SIGN} {self.b}"


@dataclass(frozen=True)
class Agreement:
    """What the step found."""

    readings: tuple[str, ...]
    n: int
    incomplete: int
    icc: agreement.IntraclassCorrelation | NotDone
    pairs: tuple[ReadingPair, ...]
    repeatability: agreement.Repeatability | NotDone


def agree(data: Data) -> Agreement:
    """Agreement of repeated readings of the same scans."""
    readings = data.study.readings
    if len(readings) < 2:
        raise NotDoneError("no repeated readings are given (readings.columns)")
    table = data.cohort.patients[[f"reading_{index + 1}" for index in range(len(readings))]]
    complete = table.dropna().to_numpy(dtype=np.float64)
    if len(complete) < 3:
        raise NotDoneError(
            f"only {len(complete)} patients have all {len(readings)} readings; 3 are needed"
        )
    return Agreement(
        tuple(readings),
        len(complete),
        int(len(table) - len(complete)),
        attempt(agreement.intraclass_correlation, complete),
        tuple(
            ReadingPair(
                readings[i],
                readings[j],
                attempt(agreement.bland_altman, complete[:, i], complete[:, j]),
            )
            for i, j in combinations(range(len(readings)), 2)
        ),
        attempt(
            agreement.repeatability,
            np.repeat(np.arange(len(complete)), len(readings)),
            complete.ravel(),
        ),
    )


def sentences(result: Agreement, _data: Data) -> list[str]:
    """Report the agreement."""
    icc = result.icc
    if isinstance(icc, NotDone):
        return []
    both = f"{estimate(icc.icc_2_1, 3)} and ICC(3,1) {estimate(icc.icc_3_1, 3)}"
    return [f"ICC(2,1) was {both} in {icc.n} patients."]


def table(analysis: Analysis) -> Table | None:
    """Agreement of repeated readings."""
    result = analysis.of(AGREEMENT)
    if isinstance(result, NotDone):
        return None
    rows: list[tuple[str, ...]] = []
    if not isinstance(result.icc, NotDone):
        rows += [
            ("ICC(2,1), absolute agreement", estimate(result.icc.icc_2_1, 3)),
            ("ICC(3,1), consistency", estimate(result.icc.icc_3_1, 3)),
        ]
    for pair in result.pairs:
        part = pair.bland_altman
        if isinstance(part, NotDone):
            continue
        slope = f"P {p_value(part.proportional_bias.p_value)}"
        rows += [
            (f"{pair.label}: bias", estimate(part.bias)),
            (f"{pair.label}: lower limit", estimate(part.lower_limit)),
            (f"{pair.label}: upper limit", estimate(part.upper_limit)),
            (f"{pair.label}: slope of difference on mean", slope),
        ]
    if not isinstance(result.repeatability, NotDone):
        rows += [
            ("Within-subject SD", estimate(result.repeatability.within_subject_sd)),
            ("Repeatability coefficient", estimate(result.repeatability.coefficient)),
        ]
    return Table(
        "table13_agreement",
        "Agreement of repeated readings",
        ("Quantity", "Estimate (95 % CI)"),
        rows,
        f"{result.n} patients with all readings; {result.incomplete} without were left out.",
    )


def figure(analysis: Analysis) -> Figure | None:
    """Bland-Altman plots of repeated readings, of four pairs at most."""
    result = analysis.of(AGREEMENT)
    if isinstance(result, NotDone):
        return None
    pairs = [
        (pair.label, pair.bland_altman)
        for pair in result.pairs
        if not isinstance(pair.bland_altman, NotDone)
    ][:4]
    if not pairs:
        return None
    columns = min(len(pairs), 2)
    rows = -(-len(pairs) // columns)
    made, grid = style.figure(style.ONE_COLUMN * columns, 3.0 * rows, rows, columns)
    for axes in grid.ravel()[len(pairs) :]:
        axes.set_visible(False)
    for axes, (label, part) in zip(grid.ravel(), pairs, strict=False):
        _panel(axes, part)
        axes.set_title(label, loc="left")
    return made


def _panel(axes: Axes, part: agreement.BlandAltman) -> None:
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
    axes.set(xlabel="Mean of both readings", ylabel="Difference")


AGREEMENT: Step[Agreement] = Step(
    "agreement",
    "Agreement of repeated readings",
    compute=lambda analysis, _: agree(analysis.data),
    sentences=sentences,
    tables=(table,),
    figures=(
        Drawing(
            "figure9_agreement",
            figure,
            "Repeated readings: bias and limits of agreement with 95 % bands.",
        ),
    ),
)
