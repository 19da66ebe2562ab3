"""Phantoms of measured texture, held against what was measured in patients.

Two patients with idiopathic pulmonary fibrosis were measured, in slices of 1 and 1.25 mm. Where
that gave a range it stands in `MEASURES` as it is; where it gave one number of each, the range is
some 15 to 30 % round both.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy import ndimage

from dlild_client.contract.classes import Label
from dlild_export.phantom.fields import Array, Mask
from dlild_export.phantom.lesions.layers import SampleGrid, show_layer
from dlild_export.phantom.lesions.patterns import HONEYCOMBING, RETICULATION
from dlild_export.phantom.measured import (
    MeasuredPatient,
    MeasuredSpec,
    draw_measured,
    make_measured,
    show_slices,
)
from dlild_export.phantom.optics import Optics, scan_noise
from dlild_export.phantom.spec import Pattern

PIXEL_MM = 0.42
_SHARP = Optics(blur_mm=0.5, thickness_mm=1.0, pixel_mm=None, along_mm=None)
_HEIGHTS = (0.06, 0.12, 0.2, 0.3, 0.4, 0.5, 0.62, 0.74)
_BASES = 0.15

_STEP_MM = 0.1
_REACH_MM = 3.0


@dataclass(frozen=True)
class Measure:
    """One line of the tables: what was measured in patients, from and to."""

    key: str
    text: str
    low: float
    high: float


MEASURES = (
    Measure("rise_honeycombing", "honeycombing: local mean above own lung, HU", 80, 190),
    Measure("rise_reticulation", "reticulation: local mean above own lung, HU", 80, 190),
    Measure("cyst_10", "cyst diameter, 10 % of cysts below, mm", 2.0, 2.8),
    Measure("cyst_50", "cyst diameter, 50 %", 3.2, 4.2),
    Measure("cyst_90", "cyst diameter, 90 %", 5.4, 7.4),
    Measure("lumen_share", "resolved lumens, share of honeycombed area", 0.18, 0.43),
    Measure("wall_seen", "cyst walls as seen (FWHM), mm", 1.1, 2.5),
    Measure("wall_peak", "cyst walls: peak, HU", -710, -97),
    Measure("wall", "cyst walls: thickness at +40 HU, mm", 0.31, 1.6),
    Measure("line_seen", "reticular lines as seen (FWHM), mm", 1.1, 1.9),
    Measure("line_peak", "reticular lines: peak, HU", -560, -210),
    Measure("line", "reticular lines: thickness at +40 HU, mm", 0.5, 1.1),
    Measure("line_density", "reticulation: line density, mm/mm2", 0.18, 0.25),
    Measure("line_spacing", "reticulation: spacing of lines, mm", 6, 9),
    Measure("line_density_normal", "normal lung: line density (vessels), mm/mm2", 0.03, 0.11),
    Measure("between_lines", "reticulation: between lines above normal lung, HU", 30, 60),
    Measure("honeycombing_10mm", "honeycombing within 10 mm of the edge", 0.73, 0.87),
    Measure("honeycombing_15mm", "honeycombing within 15 mm", 0.87, 0.97),
    Measure("reticulation_10mm", "reticulation within 10 mm", 0.68, 0.73),
    Measure("reticulation_15mm", "reticulation within 15 mm", 0.81, 0.87),
    Measure("edge_above", "share of the edge touched above the bases", 0.12, 0.54),
    Measure("edge_bases", "share of the edge touched at the bases", 0.68, 0.85),
    Measure("noise_tissue", "noise of a sharp kernel in soft tissue, SD, HU", 90, 125),
)


@dataclass(frozen=True)
class Found:
    """A measure on phantoms: median and range over phantoms, and whether it is as in patients."""

    measure: Measure
    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """Over the phantoms."""
        return float(np.median(self.values)) if self.values else float("nan")

    @property
    def within(self) -> bool:
        """Whether the median lies in the measured range."""
        return bool(self.values) and self.measure.low <= self.median <= self.measure.high


def typical(seed: int) -> MeasuredSpec:
    """Draw a patient like those that were measured: UIP of 12 to 30 %, without emphysema."""
    rng = np.random.default_rng([seed, 9])
    drawn = draw_measured(seed)
    body = replace(
        drawn.body,
        pattern=Pattern.UIP,
        severity=float(rng.uniform(0.12, 0.3)),
        atelectasis_plates=0,
        nodules=0,
    )
    return replace(drawn, body=body, centrilobular=0.0, paraseptal=0.0, bullae=0)


def check_phantoms(
    seeds: Iterable[int],
    *,
    lung_masks: list[Path],
    spacing_mm: float = 1.5,
    progress: Callable[[], None] | None = None,
) -> list[Found]:
    """Make phantoms, and measure in native slices what was measured in patients.

    Parameters
    ----------
    seeds : iterable of int
        Of the phantoms.
    lung_masks : list of pathlib.Path
        Masks of real lungs; every second phantom takes its shape from one of them.
    spacing_mm : float
        Edge of a voxel of the patients.
    progress : callable, optional
        Called after every phantom.

    Returns
    -------
    list of Found
    """
    found: dict[str, list[float]] = defaultdict(list)
    for seed in seeds:
        mask = lung_masks[seed // 2 % len(lung_masks)] if lung_masks and seed % 2 else None
        patient = make_measured(typical(seed), spacing_mm=spacing_mm, lung_mask=mask)
        for key, value in measure_patient(patient).items():
            if np.isfinite(value):
                found[key].append(value)
        if progress:
            progress()
    return [Found(measure, tuple(found[measure.key])) for measure in MEASURES]


def measure_patient(patient: MeasuredPatient) -> dict[str, float]:
    """Measure one patient, in slices of 1 mm and pixels of 0.42 mm, without noise.

    Parameters
    ----------
    patient : MeasuredPatient

    Returns
    -------
    dict of str to float
        By `Measure.key`; NaN where there is nothing to measure.
    """
    rows = np.flatnonzero((patient.labels >= Label.LUNG).any(axis=(1, 2)))
    z = np.rint(rows[0] + np.array(_HEIGHTS) * len(rows))
    ratio = PIXEL_MM / patient.spacing_mm
    y, x = (np.arange(0, n - 1, ratio) for n in patient.hu.shape[1:])
    sampling = SampleGrid(z, y, x, patient.spacing_mm)
    hu = show_slices(patient, patient.hu, sampling, _SHARP)
    labels = sampling.of(patient.labels, order=0)  # type: ignore[arg-type]
    edge_mm = np.stack([ndimage.distance_transform_edt(p >= Label.LUNG) * PIXEL_MM for p in labels])
    result = _rises(hu, labels, edge_mm)
    result |= _distances(labels, edge_mm)
    result |= _cysts(patient, sampling, labels)
    result |= _lines(hu, labels, edge_mm)
    noise = scan_noise(
        (2, 256, 256), 100.0, 0.6, PIXEL_MM, np.random.default_rng(0), resampled=False
    )
    return result | {"noise_tissue": float(noise.std())}


def _rises(hu: Array, labels: Array, edge_mm: Array) -> dict[str, float]:
    """Local means (6 mm) of the classes above that of the patient's own lung."""
    local = np.stack([ndimage.gaussian_filter(p, 6 / 2.355 / PIXEL_MM) for p in hu])
    inner = edge_mm > 3
    own = _median(local[(labels == Label.LUNG) & inner])
    return {
        f"rise_{name}": _median(local[(labels == label) & inner]) - own
        for name, label in (("honeycombing", HONEYCOMBING), ("reticulation", RETICULATION))
    }


def _median(values: np.ndarray) -> float:
    return float(np.median(values)) if values.size > 200 else float("nan")


def _distances(labels: Array, edge_mm: Array) -> dict[str, float]:
    result: dict[str, float] = {}
    for name, label in (("honeycombing", HONEYCOMBING), ("reticulation", RETICULATION)):
        own = edge_mm[labels == label]
        for mm in (10, 15):
            result[f"{name}_{mm}mm"] = float((own < mm).mean()) if own.size > 200 else np.nan
    touched: dict[str, list[float]] = {"edge_bases": [], "edge_above": []}
    for height, plane, depth in zip(_HEIGHTS, labels, edge_mm, strict=True):
        rim = (plane >= 1) & (depth < 1.0)
        near: Mask = ndimage.distance_transform_edt(plane < 2) * PIXEL_MM < 2.0
        if rim.any():
            key = "edge_bases" if height < _BASES else "edge_above"
            touched[key].append(float((near & rim).sum() / rim.sum()))
    return result | {key: float(np.mean(values)) for key, values in touched.items() if values}


def _cysts(patient: MeasuredPatient, sampling: SampleGrid, labels: Array) -> dict[str, float]:
    """Sizes of the lumens that a slice resolves, as circles of the same area."""
    start = [side.start for side in patient.box]
    z, y, x = (
        axis - n for axis, n in zip((sampling.z, sampling.y, sampling.x), start, strict=True)
    )
    part = replace(sampling, z=z, y=y, x=x)
    lumens = np.zeros(sampling.shape, np.float32)
    nothing = np.zeros(sampling.shape, np.float32)
    for layer in patient.layers:
        if layer.kind == "honeycomb":
            show_layer(lumens, nothing, replace(layer, strength=0.0, lumen_hu=-1.0), part, _SHARP)
    open_ = (-lumens > 0.5) & (labels == HONEYCOMBING)
    area = int((labels == HONEYCOMBING).sum())
    if area < 2000:
        return {}
    sizes = []
    for plane in open_:
        pieces, count = ndimage.label(plane)
        sizes += np.bincount(pieces.ravel())[1 : count + 1].tolist()
    diameter = 2 * np.sqrt(np.array(sizes) / np.pi) * PIXEL_MM
    diameter = diameter[diameter > 1.8]
    if len(diameter) < 20:
        return {}
    quantiles = {f"cyst_{q}": float(np.percentile(diameter, q)) for q in (10, 50, 90)}
    return quantiles | {"lumen_share": float(open_.sum() / area)}


def _lines(hu: Array, labels: Array, edge_mm: Array) -> dict[str, float]:
    """Walls in honeycombing, lines in reticulation, vessels in normal lung."""
    inner = edge_mm > 2.5
    result: dict[str, float] = {}
    for key, label in (("wall", HONEYCOMBING), ("line", RETICULATION), ("normal", Label.LUNG)):
        where = (labels == label) & inner
        area = float(where.sum()) * PIXEL_MM**2
        if area < 300:
            continue
        found = [find_ridges(p, w, PIXEL_MM) for p, w in zip(hu, where, strict=True)]
        density = sum(f.length_mm for f in found) / area
        if key == "normal":
            result["line_density_normal"] = density
            continue
        for name, part in (("_seen", "width_mm"), ("_peak", "peak_hu"), ("", "thickness_mm")):
            result[key + name] = _median(np.concatenate([getattr(f, part) for f in found]))
        if key == "line":
            result["line_density"] = density
            result["line_spacing"] = np.pi / (2 * density) if density else np.nan
    low = [
        np.percentile(hu[(labels == label) & inner], 35)
        if ((labels == label) & inner).any()
        else np.nan
        for label in (RETICULATION, Label.LUNG)
    ]
    result["between_lines"] = float(low[0] - low[1])
    return result


@dataclass(frozen=True)
class Ridges:
    """Points on the crests of lines.

    Attributes
    ----------
    length_mm : float
        Of all lines together.
    peak_hu, base_hu, width_mm, thickness_mm : ndarray of float, shape (n,)
        Crest; what lies beside it; full width at half height; thickness that tissue of +40 HU with
        the same integral over what lies beside would have.
    """

    length_mm: float
    peak_hu: np.ndarray
    base_hu: np.ndarray
    width_mm: np.ndarray
    thickness_mm: np.ndarray


def find_ridges(hu: Array, where: Mask, pixel_mm: float, *, least_hu: float = 120.0) -> Ridges:
    """Find the lines of a slice that stand out of what lies beside them.

    Parameters
    ----------
    hu : ndarray of float32, shape (y, x)
        A slice without noise.
    where : ndarray of bool, shape (y, x)
        Where to look.
    pixel_mm : float
        Edge of a pixel.
    least_hu : float
        By which a crest must rise above both sides.

    Returns
    -------
    Ridges
    """
    width = 0.5 / pixel_mm
    yy, xx, xy = (
        ndimage.gaussian_filter(hu, width, order=order) for order in ((2, 0), (0, 2), (1, 1))
    )
    angle = 0.5 * np.arctan2(2 * xy, yy - xx)
    bend = 0.5 * (yy + xx) - np.sqrt((0.5 * (yy - xx)) ** 2 + xy**2)
    # The direction across a line is that of the strongest downward bend.
    across = np.stack([-np.sin(angle), np.cos(angle)])
    position = np.indices(hu.shape).astype(np.float32)
    side = [
        ndimage.map_coordinates(hu, position + sign * across, order=1, mode="nearest")
        for sign in (-1, 1)
    ]
    crest = where & (bend < 0) & (hu >= side[0]) & (hu > side[1])
    y, x = np.nonzero(crest)
    if not len(y):
        nothing = np.zeros(0)
        return Ridges(0.0, nothing, nothing, nothing, nothing)
    return _profiles(hu, np.stack([y, x]), across[:, y, x], pixel_mm, least_hu)


def _profiles(
    hu: Array, points: np.ndarray, across: np.ndarray, pixel_mm: float, least_hu: float
) -> Ridges:
    offsets = np.arange(-_REACH_MM, _REACH_MM + _STEP_MM / 2, _STEP_MM)
    at = points[:, :, None] + across[:, :, None] * offsets / pixel_mm
    profile = ndimage.map_coordinates(hu, at, order=1, mode="nearest")
    middle = len(offsets) // 2
    peak = profile[:, middle]
    # A side ends at its lowest point: beyond it the next line begins.
    left, right = profile[:, middle::-1], profile[:, middle:]
    ends = [side.argmin(axis=1) for side in (left, right)]
    lows = [side.min(axis=1) for side in (left, right)]
    clear = np.maximum(*lows) < peak - least_hu
    base = 0.5 * (lows[0] + lows[1])
    half = 0.5 * (peak + base)
    width, area = np.zeros(len(peak)), np.zeros(len(peak))
    for side, end in zip((left, right), ends, strict=True):
        own = np.arange(side.shape[1])[None] <= end[:, None]
        falling = np.minimum.accumulate(side, axis=1)
        width += ((falling > half[:, None]) & own).sum(axis=1) * _STEP_MM
        area += (np.clip(side - base[:, None], 0, None) * own).sum(axis=1) * _STEP_MM
    thickness = area / np.maximum(40 - base, 1)
    # Crests run along pixels and across their corners: 1.12 pixels of length a pixel, on average.
    length = 1.12 * pixel_mm * float(clear.sum())
    return Ridges(length, peak[clear], base[clear], width[clear], thickness[clear])
