"""Figures beyond the paper."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dlild_analysis.pipeline import Analysis
from dlild_analysis.pipeline.step import failed
from dlild_analysis.report import style
from dlild_analysis.report.figures_paper import forest_plot
from dlild_analysis.report.text import number, p_value


def calibration(analysis: Analysis) -> Figure | None:
    """Calibration curves: cross-validated logistic models, and the Cox model at each horizon."""
    values = analysis.values("calibration")
    panels = [
        [item for item in values.get(kind, []) if not failed(item["result"])]
        for kind in ("binary", "survival")
    ]
    titles = ["Logistic, cross-validated", "Cox, apparent"]
    kept = [(title, items) for title, items in zip(titles, panels, strict=True) if items]
    if not kept:
        return None
    made, grid = style.figure(
        style.TWO_COLUMNS if len(kept) == 2 else style.ONE_COLUMN, 3.5, 1, len(kept)
    )
    for axes, (title, items) in zip(grid[0], kept, strict=True):
        axes.plot([0, 1], [0, 1], color="#bbbbbb", linewidth=0.8, linestyle=(0, (4, 3)))
        for item, colour in zip(items, style.CYCLE, strict=False):
            result = item["result"]
            x, y = style.shown(result.curve_predicted, result.curve_observed)
            slope = number(result.slope.estimate)
            axes.plot(
                x,
                np.clip(y, 0, 1),
                color=colour,
                label=f"{_short(item['label'])}: slope {slope}, ICI {number(result.ici, 3)}",
            )
        axes.set(
            xlabel="Predicted risk",
            ylabel="Observed share (smoothed)",
            xlim=(-0.01, 1.01),
            ylim=(-0.01, 1.01),
        )
        axes.set_title(title, loc="left")
        axes.set_aspect("equal")
        axes.legend(loc="upper left", fontsize=6.5)
    return made


def _short(label: str) -> str:
    return label.replace("Cox model, ", "")


def decision(analysis: Analysis) -> Figure | None:
    """Net benefit over threshold probabilities."""
    curves = [
        item
        for item in analysis.values("decision_curves").get("curves", [])
        if not failed(item["result"])
    ]
    if not curves:
        return None
    made, grid = style.figure(style.ONE_COLUMN, 3.2)
    axes = grid[0][0]
    first = curves[0]["result"]
    axes.plot(first.thresholds, first.treat_all, color=style.GREY, linewidth=1, label="Treat all")
    axes.axhline(0, color="black", linewidth=0.8, linestyle=(0, (4, 2)), label="Treat none")
    for item, colour in zip(curves, style.CYCLE, strict=False):
        axes.plot(
            item["result"].thresholds,
            item["result"].model,
            color=colour,
            label=_short(item["label"]),
        )
    top = max(float(np.nanmax(item["result"].model)) for item in curves)
    top = max(top, float(np.nanmax(first.treat_all)), 0.01)
    axes.set(xlabel="Threshold probability", ylabel="Net benefit", ylim=(-0.25 * top, 1.1 * top))
    axes.legend(loc="upper right")
    return made


def time_auc(analysis: Analysis) -> Figure | None:
    """AUC over time with pointwise intervals."""
    curves = [
        item for item in analysis.values("time_auc").get("curves", []) if not failed(item["auc"])
    ]
    if not curves or len(curves[0]["months"]) < 2:
        return None
    made, grid = style.figure(style.ONE_COLUMN, 3.0)
    axes = grid[0][0]
    for item, colour in zip(curves, style.CYCLE, strict=False):
        months = np.array(item["months"])
        middle, low, high = (
            np.array([getattr(value, key) for value in item["auc"]])
            for key in ("estimate", "ci_low", "ci_high")
        )
        axes.plot(months, middle, color=colour, label=item["label"])
        if item["name"] in ("score", "visual"):
            axes.fill_between(months, low, high, color=colour, alpha=0.13, linewidth=0)
    axes.axhline(0.5, color="#bbbbbb", linewidth=0.8, linestyle=(0, (4, 3)))
    axes.set(xlabel="Months", ylabel="AUC(t), censoring-weighted", ylim=(0.35, 1.01))
    axes.legend(loc="lower right")
    return made


def cutoffs(analysis: Analysis) -> Figure | None:
    """Test statistic at every cut-off, with the used one and the price of the best."""
    values = analysis.values("cutoffs")
    scan = values.get("time_to_event")
    if scan is None or failed(scan):
        return None
    made, grid = style.figure(style.ONE_COLUMN, 3.0)
    axes = grid[0][0]
    x, y = style.shown(scan.cutoffs, scan.statistic)
    axes.plot(x, y, color=style.BLUE)
    axes.axhline(1.96, color=style.GREY, linewidth=0.8, linestyle=(0, (4, 3)))
    axes.text(x[-1], 1.96, "1.96 ", va="bottom", ha="right", fontsize=7, color=style.GREY)
    used = values.get("used_cutoff")
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
        xlabel=f"Cut-off of {analysis.data.label('score')}",
        ylabel="Log-rank |z|",
        ylim=(0, 1.5 * max(float(np.nanmax(y)), 1.96)),
    )
    axes.legend(loc="upper left")
    return made


def incidence(analysis: Analysis) -> Figure | None:
    """Cumulative incidence of progression and of death, by group."""
    values = analysis.values("competing_risks")
    if not values:
        return None
    groups = values["groups"]
    sources = (
        {"All patients": values["all"]}
        if failed(groups)
        else {"Low score": groups["low"], "High score": groups["high"]}
    )
    made, grid = style.figure(style.ONE_COLUMN * max(1, len(sources)), 3.0, 1, len(sources))
    for axes, (title, parts) in zip(grid[0], sources.items(), strict=True):
        _incidence_panel(axes, parts)
        axes.set_title(title, loc="left")
    return made


def _incidence_panel(axes: Axes, parts: dict[str, Any]) -> None:
    for (label, part), colour in zip(parts.items(), (style.ORANGE, style.GREY), strict=False):
        curve = part["curve"]
        if not curve.times.size:
            continue
        times, values, low, high = style.shown(
            curve.times, curve.incidence, curve.ci_low, curve.ci_high
        )
        times = np.concatenate([[0.0], times, [curve.last_time]])
        values, low, high = (
            np.concatenate([[0.0], column, [column[-1]]]) for column in (values, low, high)
        )
        axes.step(times, values, where="post", color=colour, label=label.capitalize())
        axes.fill_between(
            times,
            np.nan_to_num(low),
            np.where(np.isfinite(high), high, values),
            step="post",
            color=colour,
            alpha=0.15,
            linewidth=0,
        )
    axes.set(xlabel="Months", ylabel="Cumulative incidence", ylim=(0, 1))
    axes.legend(loc="upper left")


def agreement(analysis: Analysis) -> Figure | None:
    """Bland-Altman plots of repeated readings."""
    pairs = [
        pair
        for pair in analysis.values("agreement").get("pairs", [])
        if not failed(pair["bland_altman"])
    ]
    if not pairs:
        return None
    pairs = pairs[:4]
    columns = min(len(pairs), 2)
    rows = -(-len(pairs) // columns)
    made, grid = style.figure(style.ONE_COLUMN * columns, 3.0 * rows, rows, columns)
    for axes in grid.ravel()[len(pairs) :]:
        axes.set_visible(False)
    for axes, pair in zip(grid.ravel(), pairs, strict=False):
        result = pair["bland_altman"]
        axes.scatter(
            *style.shown(result.means, result.differences),
            s=10,
            color=style.BLUE,
            alpha=0.6,
            linewidths=0,
        )
        for line, kind in (
            (result.bias, "-"),
            (result.lower_limit, "--"),
            (result.upper_limit, "--"),
        ):
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
        axes.set_title(f"{pair['a']} \N{MINUS SIGN} {pair['b']}", loc="left")
    return made


def rules(analysis: Analysis) -> Figure | None:
    """Hazard ratio of the score under every progression rule."""
    rows = [
        row
        for row in analysis.values("rules").get("rules", [])
        if "cox_score" in row and not failed(row["cox_score"])
    ]
    lines = []
    for row in rows:
        result = row["cox_score"].hazard_ratio_per_sd
        if np.isfinite([result.estimate, result.ci_low, result.ci_high]).all():
            lines.append((row["rule"], result, f"death: {row['death']}; {row['events']} events"))
    return (
        forest_plot(lines, f"Hazard ratio of {analysis.data.label('score')} per SD (95 % CI)")
        if lines
        else None
    )
