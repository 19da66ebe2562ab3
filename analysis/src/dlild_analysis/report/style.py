"""How figures look and how they are written: the same bytes for the same data."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

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
    "font.family": "DejaVu Sans",
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


@contextmanager
def journal() -> Iterator[None]:
    """Set the style for as long as figures are drawn and written."""
    with mpl.rc_context(_RC):
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
