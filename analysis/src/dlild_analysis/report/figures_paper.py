"""Figures of the paper's own analysis: scatter, ROC, survival, forest."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dlild_analysis.pipeline import Analysis
from dlild_analysis.pipeline.step import failed
from dlild_analysis.report import style
from dlild_analysis.report.text import estimate, interval, number, p_words

CROWD = 3_000


def scatter(analysis: Analysis) -> Figure | None:
    """Scores against lung function, with straight line and correlation."""
    pairs = [
        pair
        for pair in analysis.values("correlations").get("pairs", [])
        if not failed(pair["pearson"])
    ]
    if not pairs:
        return None
    scores = list(dict.fromkeys(pair["score"] for pair in pairs))
    functions = list(dict.fromkeys(pair["function"] for pair in pairs))
    width = style.TWO_COLUMNS if len(scores) == 2 else style.ONE_COLUMN
    made, grid = style.figure(width, 2.9 * len(functions), len(functions), len(scores))
    letters = iter("ABCDEFGH")
    for pair in pairs:
        axes = grid[functions.index(pair["function"])][scores.index(pair["score"])]
        _scatter_panel(axes, analysis, pair)
        if len(pairs) > 1:
            style.letter(axes, next(letters))
    return made


def _scatter_panel(axes: Axes, analysis: Analysis, pair: dict[str, Any]) -> None:
    data = analysis.data
    x, y = data.column(pair["score"]), data.column(pair["function"])
    known = np.isfinite(x) & np.isfinite(y)
    x, y = x[known], y[known]
    if x.size > CROWD:
        axes.hexbin(x, y, gridsize=40, cmap="Blues", mincnt=1, linewidths=0.1)
    else:
        axes.scatter(x, y, s=11, color=style.BLUE, alpha=0.6, linewidths=0)
    ends = np.array([x.min(), x.max()])
    axes.plot(ends, np.polyval(np.polyfit(x, y, 1), ends), color=style.ORANGE)
    axes.set_xlabel(_with_unit(analysis, pair["score"]))
    axes.set_ylabel(data.label(pair["function"]))
    result = pair["pearson"]
    axes.set_title(f"r = {estimate(result)}, {p_words(result.p_value)}, n = {result.n}", loc="left")


def _with_unit(analysis: Analysis, name: str) -> str:
    measure = {"score": analysis.data.study.score, "visual": analysis.data.study.visual}.get(name)
    if measure is None:
        return analysis.data.label(name)
    return f"{measure.label} ({'points' if measure.unit == 'points' else '% of the lung'})"


def roc(analysis: Analysis) -> Figure | None:
    """ROC curves of all measures."""
    curves = [
        item for item in analysis.values("roc").get("curves", []) if not failed(item["result"])
    ]
    if not curves:
        return None
    made, grid = style.figure(style.ONE_COLUMN, 3.5)
    axes = grid[0][0]
    axes.plot([0, 1], [0, 1], color="#bbbbbb", linewidth=0.8, linestyle=(0, (4, 3)))
    for item, colour in zip(curves, style.CYCLE, strict=False):
        curve, area = item["result"]["curve"], item["result"]["auc"]
        x, y = style.shown(curve.false_positive_rate, curve.true_positive_rate)
        axes.plot(x, y, color=colour, label=f"{item['label']}: {estimate(area)}")
    chosen = analysis.values("roc").get("cutoff", {})
    point = chosen.get("operating_point")
    if point is not None and not failed(point):
        axes.plot(
            1 - point.specificity.estimate,
            point.sensitivity.estimate,
            "o",
            color=style.BLUE,
            markersize=5,
            markeredgecolor="white",
            label=f"Cut-off {number(chosen['cutoff'])}",
        )
    axes.set(
        xlabel="1 \N{MINUS SIGN} specificity",
        ylabel="Sensitivity",
        xlim=(-0.01, 1.01),
        ylim=(-0.01, 1.01),
    )
    axes.set_aspect("equal")
    axes.legend(loc="lower right", title="AUC (95 % CI)", alignment="left", title_fontsize=7)
    return made


def survival(analysis: Analysis) -> Figure | None:
    """Kaplan-Meier curves of high and low score, with numbers at risk."""
    groups = analysis.values("kaplan_meier").get("groups")
    if groups is None or failed(groups):
        return None
    made = style.figure(style.ONE_COLUMN, 3.7)[0]
    made.clear()
    upper, lower = made.subplots(2, 1, sharex=True, gridspec_kw={"height_ratios": [5, 1]})
    for name, colour in (("low", style.BLUE), ("high", style.ORANGE)):
        _curve(
            upper,
            groups[name],
            colour,
            f"{name.capitalize()} {analysis.data.label('score')} (n = {groups[name]['n']})",
        )
    test = groups["log_rank"]
    words = "" if failed(test) else f"Log-rank {p_words(test.test.p_value)}"
    upper.text(
        0.03,
        0.05,
        f"Cut-off {number(groups['cutoff'])} ({groups['origin']})\n{words}",
        transform=upper.transAxes,
    )
    upper.set(ylabel="Progression-free survival", ylim=(0, 1.02))
    upper.legend(loc="lower left", bbox_to_anchor=(0.0, 0.16))
    _at_risk(lower, groups["at_risk"])
    return made


def _curve(axes: Axes, group: dict[str, Any], colour: str, label: str) -> None:
    curve = group["curve"]
    times, values, low, high = style.shown(curve.times, curve.survival, curve.ci_low, curve.ci_high)
    times = np.concatenate([[0.0], times])
    values, low, high = (np.concatenate([[1.0], column]) for column in (values, low, high))
    axes.step(times, values, where="post", color=colour, label=label)
    known = np.isfinite(low) & np.isfinite(high)
    axes.fill_between(
        times,
        np.where(known, low, values),
        np.where(known, high, values),
        step="post",
        color=colour,
        alpha=0.15,
        linewidth=0,
    )
    lost = curve.censored > 0
    if lost.sum() <= 200:
        axes.plot(
            curve.times[lost],
            curve.survival[lost],
            "|",
            color=colour,
            markersize=4,
            markeredgewidth=0.8,
        )


def _at_risk(axes: Axes, at_risk: dict[str, Any]) -> None:
    months = at_risk["months"]
    for place, (name, colour) in enumerate((("low", style.BLUE), ("high", style.ORANGE))):
        for month, count in zip(months, at_risk[name], strict=True):
            axes.text(
                month, 0.5 - place, str(count), ha="center", va="center", color=colour, fontsize=7
            )
    axes.set(ylim=(-1, 1), xlabel="Months", xticks=months)
    axes.set_yticks([0.5, -0.5], ["Low", "High"])
    axes.tick_params(axis="y", length=0)
    axes.set_title("Number at risk", loc="left", fontsize=7)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)


def forest(analysis: Analysis) -> Figure | None:
    """Hazard ratios of one standard deviation, alone and together."""
    values = analysis.values("cox")
    lines: list[tuple[str, Any, str]] = []
    for item in values.get("univariable", []):
        if not failed(item["fit"]):
            lines += [
                (f"{term.name}", term.hazard_ratio_per_sd, "univariable")
                for term in item["fit"]["model"].terms
            ]
    together = values.get("multivariable")
    if together is not None and not failed(together):
        lines += [
            (term.name, term.hazard_ratio_per_sd, "multivariable")
            for term in together["model"].terms
        ]
    lines = [
        line
        for line in lines
        if np.isfinite([line[1].estimate, line[1].ci_low, line[1].ci_high]).all()
    ]
    return forest_plot(lines, "Hazard ratio per SD (95 % CI)") if lines else None


def forest_plot(lines: list[tuple[str, Any, str]], label: str) -> Figure:
    """Draw ratios with intervals on a log axis, one line each."""
    made, grid = style.figure(style.TWO_COLUMNS * 0.8, 0.75 + 0.24 * (len(lines) + 1))
    axes = grid[0][0]
    colours = {"univariable": style.BLUE, "multivariable": style.ORANGE}
    for place, (_, result, kind) in enumerate(reversed(lines)):
        axes.plot(
            [result.ci_low, result.ci_high],
            [place, place],
            color=colours.get(kind, style.BLUE),
            linewidth=1.2,
        )
        axes.plot(result.estimate, place, "s", color=colours.get(kind, style.BLUE), markersize=4.5)
        axes.text(
            1.02,
            place,
            f"{number(result.estimate)} ({interval(result.ci_low, result.ci_high)})",
            va="center",
            fontsize=7,
            transform=axes.get_yaxis_transform(),
        )
    axes.axvline(1.0, color=style.GREY, linewidth=0.7, linestyle=(0, (4, 3)))
    axes.set_xscale("log")
    low, high = axes.get_xlim()
    ticks = [
        tick
        for tick in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100)
        if low <= tick <= high
    ]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.set_yticks(range(len(lines)), [f"{name} ({kind})" for name, _, kind in reversed(lines)])
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.set(xlabel=label, ylim=(-0.7, len(lines) - 0.3))
    return made
