"""Pictures of the report: cases seen from inside, and DL-ILD against the truth."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from dlild_client.contract import Contract
from dlild_client.results.slice_picture import (
    draw_classes,
    enlarge,
    grey_pixels,
    panel_size,
    to_image,
)
from dlild_export.evaluation.statistics import LimitsOfAgreement
from dlild_export.evaluation.views import View

_OPACITY = 0.6
_PANEL_WIDTH = 400
_GAP = 6
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#555555")
_STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def case_picture(views: Sequence[View], contract: Contract) -> str:
    """Draw the views of a case: a row each, with CT, truth and prediction side by side.

    Returns
    -------
    str
        `data:` address of a picture.
    """
    rows = []
    for view in views:
        layers = (
            [None, view.predicted] if view.truth is None else [None, view.truth, view.predicted]
        )
        rows.append([_panel(view, labels, contract) for labels in layers])
    width = len(rows[0]) * (_PANEL_WIDTH + _GAP) - _GAP
    heights = [row[0].height for row in rows]
    sheet = Image.new("RGB", (width, sum(heights) + _GAP * (len(rows) - 1)), (255, 255, 255))
    top = 0
    for row, height in zip(rows, heights, strict=True):
        for column, panel in enumerate(row):
            sheet.paste(panel, (column * (_PANEL_WIDTH + _GAP), top))
        top += height + _GAP
    buffer = io.BytesIO()
    sheet.save(buffer, "WEBP", quality=82)
    return _address(buffer.getvalue(), "image/webp")


def scatter(
    true: Sequence[float],
    measured: Sequence[float],
    groups: Sequence[str],
    labels: tuple[str, str] = ("true DL-ILD (%)", "measured DL-ILD (%)"),
) -> str:
    """Draw measured against true DL-ILD, or two readings; `labels` are those of the axes."""
    figure, axes = _figure()
    top = max(5.0, *true, *measured) * 1.05
    axes.plot([0, top], [0, top], color="#999999", linewidth=0.8, zorder=0)
    _points(axes, true, measured, groups)
    axes.set(xlim=(-0.02 * top, top), ylim=(-0.02 * top, top), aspect="equal")
    axes.set(xlabel=labels[0], ylabel=labels[1])
    axes.legend(loc="upper left", fontsize=8, handletextpad=0.2, frameon=False)
    return _svg(figure)


def bland_altman(
    true: Sequence[float],
    measured: Sequence[float],
    groups: Sequence[str],
    limits: LimitsOfAgreement,
    labels: tuple[str, str] | None = None,
) -> str:
    """Draw the error of DL-ILD against the truth, with bias and limits of agreement.

    Against the truth, not the mean of both: one of the two is exact here. With `labels`, which name
    two readings, neither is: their difference is drawn against their mean.
    """
    figure, axes = _figure()
    errors = [m - t for t, m in zip(true, measured, strict=True)]
    across = [(m + t) / 2 for t, m in zip(true, measured, strict=True)] if labels else true
    axes.axhline(0, color="#bbbbbb", linewidth=0.8)
    _points(axes, across, errors, groups)
    axes.axhline(limits.bias, color="#222222", linewidth=1.2)
    for limit in (limits.lower, limits.upper):
        if np.isfinite(limit.value):
            axes.axhline(limit.value, color="#222222", linewidth=1.0, linestyle="--")
            axes.axhspan(limit.low, limit.high, color="#000000", alpha=0.05, linewidth=0)
    if labels:
        first, second = (name.removesuffix(" (%)") for name in labels)
        axes.set(xlabel="mean of both (%)", ylabel=f"{second} - {first} (points)")
    else:
        axes.set(xlabel="true DL-ILD (%)", ylabel="error (points)")
    return _svg(figure)


def spread(scans: Sequence[tuple[str, float, float]]) -> str:
    """Draw repeated scans: patient, true and measured DL-ILD; a line joins a patient's scans."""
    figure, axes = _figure()
    top = max([5.0, *(value for _, *pair in scans for value in pair)]) * 1.05
    axes.plot([0, top], [0, top], color="#999999", linewidth=0.8, zorder=0)
    for name in sorted({patient for patient, _, _ in scans}):
        true = float(np.mean([t for patient, t, _ in scans if patient == name]))
        measured = [m for patient, _, m in scans if patient == name]
        axes.plot([true] * len(measured), measured, color=_COLOURS[0], linewidth=1, alpha=0.6)
        axes.scatter([true] * len(measured), measured, s=14, color=_COLOURS[0])
    axes.set(xlabel="true DL-ILD (%)", ylabel="measured DL-ILD (%)")
    return _svg(figure)


def _points(axes: Axes, x: Sequence[float], y: Sequence[float], groups: Sequence[str]) -> None:
    for colour, name in zip(_COLOURS * 4, sorted(set(groups)), strict=False):
        chosen = [i for i, group in enumerate(groups) if group == name]
        axes.scatter(
            [x[i] for i in chosen],
            [y[i] for i in chosen],
            s=22,
            color=colour,
            edgecolors="white",
            linewidths=0.5,
            label=name,
        )


def _figure() -> tuple[Figure, Axes]:
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(4.6, 4.0), layout="constrained")
        FigureCanvasAgg(figure)
        return figure, figure.subplots()


def _svg(figure: Figure) -> str:
    buffer = io.BytesIO()
    with mpl.rc_context({"svg.fonttype": "path", "svg.hashsalt": "dlild-export"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return _address(buffer.getvalue(), "image/svg+xml")


def _address(content: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _panel(view: View, labels: npt.NDArray[np.uint8] | None, contract: Contract) -> Image.Image:
    """Draw one slice; labels as transparent colours with the lung's outline."""
    size = panel_size(view.hu.shape, view.pixel_mm, _PANEL_WIDTH)
    pixels = grey_pixels(view.hu, size)
    if labels is not None:
        lung = [kind for kind in contract.classes if kind.lung]
        draw_classes(pixels, enlarge(labels, size), lung, _OPACITY)
    return to_image(pixels)
