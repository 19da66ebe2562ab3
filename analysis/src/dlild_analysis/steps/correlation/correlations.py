"""Correlation of the scores with lung function, and the comparison of the two scores."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dlild_analysis.errors import NotDoneError
from dlild_analysis.stats import correlation
from dlild_analysis.stats.arrays import FloatArray
from dlild_analysis.stats.results import Estimate
from dlild_analysis.steps.attempts import NotDone, attempt
from dlild_analysis.steps.data import Data
from dlild_analysis.steps.presentation import style
from dlild_analysis.steps.presentation.table import Table
from dlild_analysis.steps.presentation.text import (
    DASH,
    estimate,
    not_done,
    number,
    p_of,
    p_value,
    p_words,
)
from dlild_analysis.steps.step import Analysis, Drawing, Step

MOST_POINTS = 3_000
"""Patients above which a scatter plot shows densities."""

TESTS = {
    "williams": "Williams t",
    "steiger": "Steiger Z",
    "meng": "Meng-Rosenthal-Rubin Z",
    "hotelling": "Hotelling t",
    "fisher_independent": "Fisher Z, as if independent (for comparison only)",
}


@dataclass(frozen=True)
class Pair:
    """One score against one measure of lung function."""

    score: str
    function: str
    n: int
    pearson: Estimate | NotDone
    spearman: Estimate | NotDone


@dataclass(frozen=True)
class Comparison:
    """Both scores against one measure of lung function, in the patients who have all three."""

    function: str
    n: int
    result: correlation.CorrelationComparison | NotDone


@dataclass(frozen=True)
class Correlations:
    """What the step found."""

    pairs: tuple[Pair, ...]
    comparisons: tuple[Comparison, ...]


def correlate(data: Data) -> Correlations:
    """Correlate the scores with lung function and compare them."""
    scores = data.available(("score", "visual"))
    functions = data.available(("fvc_percent", "dlco_percent"))
    if not scores or not functions:
        raise NotDoneError("it needs a score and FVC % or DLCO %")
    pairs = []
    for function in functions:
        for score in scores:
            x, y = _complete(data.column(score), data.column(function))
            pairs.append(
                Pair(
                    score,
                    function,
                    int(x.size),
                    attempt(correlation.pearson, x, y),
                    attempt(correlation.spearman, x, y),
                )
            )
    comparisons = []
    for function in functions if len(scores) == 2 else ():
        a, b, y = _complete(data.column("score"), data.column("visual"), data.column(function))
        result = attempt(correlation.compare_dependent_scores, a, b, y)
        comparisons.append(Comparison(function, int(y.size), result))
    return Correlations(tuple(pairs), tuple(comparisons))


def _complete(*columns: FloatArray) -> tuple[FloatArray, ...]:
    known = np.isfinite(np.vstack(columns)).all(axis=0)
    return tuple(column[known] for column in columns)


def sentences(result: Correlations, data: Data) -> list[str]:
    """Report the correlations and their comparison."""
    label = data.label
    found = [
        f"{label(pair.score)} and {label(pair.function)}: Pearson r "
        f"{estimate(pair.pearson, 3)}, {p_words(pair.pearson.p_value)} (n = {pair.n})."
        for pair in result.pairs
        if not isinstance(pair.pearson, NotDone)
    ]
    for item in result.comparisons:
        if isinstance(item.result, NotDone):
            continue
        steiger = item.result.tests.get("steiger")
        fisher = item.result.tests.get("fisher_independent")
        if steiger and fisher:
            found.append(
                f"For {label(item.function)} the two correlations differed by "
                f"{estimate(item.result.difference, 3)} (Zou); dependent test (Steiger) Z "
                f"= {number(steiger.statistic, 3)}, {p_words(steiger.p_value)}; as if "
                f"independent (Fisher) Z = {number(fisher.statistic, 3)}, "
                f"{p_words(fisher.p_value)}."
            )
    return found


def correlation_table(result: Correlations, analysis: Analysis) -> Table | None:
    """Correlation of the scores with lung function."""
    label = analysis.data.label
    rows = [
        (
            label(pair.score),
            label(pair.function),
            str(pair.n),
            estimate(pair.pearson, 3),
            p_of(pair.pearson),
            estimate(pair.spearman, 3),
            p_of(pair.spearman),
        )
        for pair in result.pairs
    ]
    return Table(
        "correlations",
        "Correlation with lung function",
        ("Score", "Lung function", "n", "Pearson r (95 % CI)", "P", "Spearman rho (95 % CI)", "P"),
        rows,
        "Intervals by Fisher's z (Pearson), and Bonett and Wright (Spearman).",
    )


def comparison_table(result: Correlations, analysis: Analysis) -> Table | None:
    """Comparison of the two scores' correlations."""
    if not result.comparisons:
        return None
    label = analysis.data.label
    rows = [row for item in result.comparisons for row in _test_rows(item, label(item.function))]
    return Table(
        "correlation_tests",
        f"{label('score')} against {label('visual')}: whose correlation is closer",
        ("Lung function", "Test", "Statistic", "P"),
        rows,
        "Both scores were read in the same patients, so that a dependent test is the right one. A "
        "negative difference means that the first score falls more steeply with lung function.",
    )


def _test_rows(item: Comparison, name: str) -> list[tuple[str, ...]]:
    if isinstance(item.result, NotDone):
        return [(name, not_done(item.result), DASH, DASH)]
    tests = item.result.tests
    rows: list[tuple[str, ...]] = [
        (name, words, number(tests[key].statistic, 3), p_value(tests[key].p_value))
        for key, words in TESTS.items()
        if key in tests
    ]
    difference = estimate(item.result.difference, 3)
    return [*rows, (name, "Difference of r (Zou's 95 % CI)", difference, DASH)]


def scatter(result: Correlations, analysis: Analysis) -> Figure | None:
    """Scores against lung function, with straight line and correlation."""
    pairs = [pair for pair in result.pairs if not isinstance(pair.pearson, NotDone)]
    if not pairs:
        return None
    scores = list(dict.fromkeys(pair.score for pair in pairs))
    functions = list(dict.fromkeys(pair.function for pair in pairs))
    width = style.TWO_COLUMNS if len(scores) == 2 else style.ONE_COLUMN
    made, grid = style.figure(width, 2.9 * len(functions), len(functions), len(scores))
    letters = iter("ABCDEFGH")
    for pair in pairs:
        axes = grid[functions.index(pair.function)][scores.index(pair.score)]
        _scatter_panel(axes, analysis.data, pair)
        if len(pairs) > 1:
            style.letter(axes, next(letters))
    return made


def _scatter_panel(axes: Axes, data: Data, pair: Pair) -> None:
    x, y = _complete(data.column(pair.score), data.column(pair.function))
    if x.size > MOST_POINTS:
        axes.hexbin(x, y, gridsize=40, cmap="Blues", mincnt=1, linewidths=0.1)
    else:
        axes.scatter(x, y, s=11, color=style.BLUE, alpha=0.6, linewidths=0)
    ends = np.array([x.min(), x.max()])
    axes.plot(ends, np.polyval(np.polyfit(x, y, 1), ends), color=style.ORANGE)
    axes.set_xlabel(_with_unit(data, pair.score))
    axes.set_ylabel(data.label(pair.function))
    result = pair.pearson
    assert not isinstance(result, NotDone)
    axes.set_title(f"r = {estimate(result)}, {p_words(result.p_value)}, n = {result.n}", loc="left")


def _with_unit(data: Data, name: str) -> str:
    measure = {"score": data.study.score, "visual": data.study.visual}.get(name)
    if measure is None:
        return data.label(name)
    return f"{measure.label} ({'points' if measure.unit == 'points' else '% of the lung'})"


CORRELATIONS: Step[Correlations] = Step(
    "correlations",
    "Correlation with lung function",
    compute=lambda analysis, _: correlate(analysis.data),
    sentences=sentences,
    tables=(correlation_table, comparison_table),
    figures=(
        Drawing(
            "scatter",
            scatter,
            "Scores against lung function, with straight line and Pearson's r (95 % CI).",
        ),
    ),
)
