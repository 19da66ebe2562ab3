"""How figures look and how they are written: the same bytes for the same data."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from dlild_analysis.stats.results import Estimate
from dlild_analysis.steps.presentation.text import interval, number

ONE_COLUMN, TWO_COLUMNS = 3.5, 7.2  # inches: 89 and 183 mm
DPI = 300
BLUE, ORANGE, GREEN, RED, PURPLE, GREY = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC3311",
    "#AA4499",
    "#555555",
)
CYCLE = (BLUE, ORANGE, GREEN, PURPLE, GREY)
STEPS_SHOWN = 2_000

_RC: dict[Any, Any] = {
    "font.family": ["DejaVu Sans"],
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "lines.linewidth": 1.4,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "svg.hashsalt": "dlild-analysis",
    "svg.fonttype": "path",
    "axes.unicode_minus": True,
    "path.simplify": True,
}


CHINESE_FONTS = (
    *("Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans SC", "Source Han Sans SC"),
    *("Source Han Sans CN", "Noto Serif CJK SC", "Noto Serif CJK JP", "WenQuanYi Micro Hei"),
    *("WenQuanYi Zen Hei", "Droid Sans Fallback", "Microsoft YaHei", "SimHei", "SimSun"),
    *("PingFang SC", "Hiragino Sans GB", "Heiti SC", "Arial Unicode MS"),
)
"""Fonts with Chinese glyphs, those that suit a figure best first."""


@cache
def chinese_font() -> str | None:
    """Find a font with Chinese glyphs on this machine."""
    there = {font.name for font in font_manager.fontManager.ttflist}
    return next((name for name in CHINESE_FONTS if name in there), None)


def has_chinese(text: str) -> bool:
    """Whether a text has characters that the figures' own font lacks."""
    return any("\u2e80" <= char <= "\uffef" for char in text)


@contextmanager
def journal() -> Iterator[None]:
    """Set the style for as long as figures are drawn and written.

    Chinese characters are taken from a font of this machine where there is one; other characters
    always are of the font that matplotlib brings.
    """
    found = chinese_font()
    families = [*_RC["font.family"], *([found] if found else [])]
    with mpl.rc_context({**_RC, "font.family": families}):
        yield


def figure(
    width: float = ONE_COLUMN, height: float = 3.2, rows: int = 1, columns: int = 1
) -> tuple[Figure, np.ndarray]:
    """Make a figure with axes; no window system and no global state is involved."""
    made = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(made)
    axes = made.subplots(rows, columns, squeeze=False)
    return made, axes


def png(made: Figure) -> bytes:
    """Write a figure as PNG without metadata."""
    buffer = io.BytesIO()
    made.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
    return buffer.getvalue()


def svg(made: Figure) -> bytes:
    """Write a figure as SVG without date or creator."""
    buffer = io.BytesIO()
    made.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return buffer.getvalue()


def legend(axes: Axes, title: str | None = None) -> None:
    """Write the legend above the axes, one line an entry, so that it covers no curve."""
    axes.legend(
        loc="lower left",
        bbox_to_anchor=(0.0, 1.0),
        borderaxespad=0.2,
        borderpad=0.2,
        title=title,
        alignment="left",
        title_fontsize=8,
    )


def shown(*columns: ArrayLike) -> list[np.ndarray]:
    """Thin long curves for drawing, both ends kept."""
    arrays = [np.asarray(column) for column in columns]
    size = arrays[0].size
    if size <= STEPS_SHOWN:
        return arrays
    keep = np.unique(np.linspace(0, size - 1, STEPS_SHOWN).round().astype(int))
    return [array[keep] for array in arrays]


def letter(axes: Axes, text: str) -> None:
    """Mark a panel with its letter."""
    axes.text(
        -0.16,
        1.05,
        text,
        transform=axes.transAxes,
        fontsize=10,
        fontweight="bold",
        va="bottom",
        ha="right",
    )


def forest_plot(lines: Sequence[tuple[str, Estimate, str]], label: str) -> Figure | None:
    """Draw ratios with intervals on a log axis, one line each; None where none is finite."""
    lines = [
        line
        for line in lines
        if np.isfinite([line[1].estimate, line[1].ci_low, line[1].ci_high]).all()
    ]
    if not lines:
        return None
    made, grid = figure(TWO_COLUMNS * 0.8, 0.75 + 0.24 * (len(lines) + 1))
    axes = grid[0][0]
    for y, (_, result, kind) in enumerate(reversed(lines)):
        colour = ORANGE if kind == "multivariable" else BLUE
        axes.plot([result.ci_low, result.ci_high], [y, y], color=colour, linewidth=1.2)
        axes.plot(result.estimate, y, "s", color=colour, markersize=4.5)
        axes.text(
            1.02,
            y,
            f"{number(result.estimate)} ({interval(result.ci_low, result.ci_high)})",
            va="center",
            fontsize=7,
            transform=axes.get_yaxis_transform(),
        )
    axes.axvline(1.0, color=GREY, linewidth=0.7, linestyle=(0, (4, 3)))
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
