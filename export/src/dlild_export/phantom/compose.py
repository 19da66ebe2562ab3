"""A whole phantom: a patient with known lesions, scanned."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage

from dlild_export.crop import box_of
from dlild_export.phantom.acquisition import acquire
from dlild_export.phantom.body import build_body, find_landmarks
from dlild_export.phantom.fields import Array, Mask, signed_distance
from dlild_export.phantom.lungs import built_lungs, lungs_from_mask
from dlild_export.phantom.patterns import Labels, LungFrame, paint_lesions, place_lesions
from dlild_export.phantom.spec import PhantomSpec
from dlild_export.phantom.trees import Points, draw_segments, grow_tree


@dataclass(frozen=True)
class Phantom:
    """A scanned phantom on its grid, with exact truth.

    Attributes
    ----------
    hu : ndarray of int16, shape (z, y, x)
        The scan; feet to head, front to back, right to left.
    labels : ndarray of uint8, shape (z, y, x)
        Class of every voxel, as the contract numbers them.
    spacing_mm : float
        Edge of a voxel.
    spec : PhantomSpec
        What it was made from.
    """

    hu: np.ndarray
    labels: Labels
    spacing_mm: float
    spec: PhantomSpec

    @property
    def dl_ild_percent(self) -> float:
        """True DL-ILD: 100 times lesion voxels over lung voxels."""
        lung = int((self.labels >= 1).sum())
        return 100.0 * int((self.labels >= 2).sum()) / lung

    @property
    def lung_volume_ml(self) -> float:
        """True volume of the lungs, lesions included."""
        return float((self.labels >= 1).sum()) * self.spacing_mm**3 / 1000.0

    def volume_ml(self, label: int) -> float:
        """Return the true volume of one class."""
        return float((self.labels == label).sum()) * self.spacing_mm**3 / 1000.0


def make_phantom(
    spec: PhantomSpec, *, spacing_mm: float = 1.5, lung_mask: Path | None = None
) -> Phantom:
    """Make a phantom patient and scan it.

    Parameters
    ----------
    spec : PhantomSpec
        Patient, disease and acquisition.
    spacing_mm : float
        Edge of a voxel of the grid.
    lung_mask : pathlib.Path, optional
        Mask of real lungs to take the shape from; built from curves when left out.

    Returns
    -------
    Phantom
        The same for the same arguments.
    """
    rng = np.random.default_rng([spec.seed, 0])
    if lung_mask is None:
        lungs = built_lungs(spacing_mm, rng)
    else:
        lungs = lungs_from_mask(lung_mask, spacing_mm, rng)
    marks = find_landmarks(lungs, spacing_mm)
    body = build_body(lungs, spacing_mm, spec.blood_hu, marks, rng)

    box = box_of(lungs, margin=4)
    frame = _frame(lungs[box], spacing_mm)
    offset = np.array([side.start for side in box]) * spacing_mm
    hilum_mm = [hilum - offset for hilum in marks.hila]
    labels_in_box = place_lesions(frame, spec.pattern, spec.severity, rng)
    lung_hu, bronchi = _healthy_lung(frame, spec, hilum_mm, rng)
    lung_hu = paint_lesions(lung_hu, bronchi, labels_in_box, frame, rng)

    hu = body
    weight: Array = ndimage.gaussian_filter(frame.lungs.astype(np.float32), 0.55)
    hu[box] += weight * (lung_hu - hu[box])
    labels = np.zeros(lungs.shape, np.uint8)
    labels[box] = labels_in_box
    scanned = acquire(hu, spec, spacing_mm, rng)
    whole = np.clip(np.rint(scanned), -1024, 2047).astype(np.int16)
    return Phantom(whole, labels, spacing_mm, spec)


def _frame(lungs: Mask, spacing_mm: float) -> LungFrame:
    z, y, _ = np.nonzero(lungs)
    rows = np.arange(lungs.shape[0], dtype=np.float32)[:, None, None]
    columns = np.arange(lungs.shape[1], dtype=np.float32)[None, :, None]
    return LungFrame(
        lungs=lungs,
        depth_mm=np.maximum(-signed_distance(lungs, spacing_mm, coarsen=2), 0),
        height=np.clip((rows - z.min()) / (z.max() - z.min()), 0, 1),
        back=np.clip((columns - y.min()) / (y.max() - y.min()), 0, 1),
        spacing_mm=spacing_mm,
    )


def _healthy_lung(
    frame: LungFrame, spec: PhantomSpec, hila_mm: list[Points], rng: np.random.Generator
) -> tuple[Array, Array]:
    """Parenchyma with vessels, airways and fissures; HU, and the airways' share of a voxel."""
    down = 1 - frame.back if spec.prone else frame.back
    hu = spec.lung_hu + spec.dependent_hu * (down - 0.4)
    hu = hu + rng.uniform(8, 30) * frame.noise(rng.uniform(40, 90), rng)
    hu = hu + rng.uniform(4, 22) * frame.noise(rng.uniform(5, 10), rng)
    if spec.dependent_hu > 0:
        # Gravity closes the lowest few millimetres further.
        rim = np.exp(-frame.depth_mm / rng.uniform(2, 6)) * np.clip((down - 0.6) / 0.4, 0, 1)
        hu = hu + rng.uniform(0, 2.2) * spec.dependent_hu * rim
    if spec.emphysema > 0:
        holes = frame.noise(rng.uniform(7, 25), rng) + 0.4 * frame.noise(60, rng)
        gone = holes > np.quantile(holes[frame.lungs][::17], 1 - spec.emphysema)
        hu = hu + ndimage.gaussian_filter(gone.astype(np.float32), 0.7) * (-975 - hu)
    hu = hu + _fissures(frame, rng)
    return _with_trees(np.clip(hu, -1000, -450), frame, spec, hila_mm, rng)


def _fissures(frame: LungFrame, rng: np.random.Generator) -> Array:
    """Oblique fissures: thin curved sheets, a little brighter than the lung."""
    offset = frame.height - rng.uniform(0.25, 0.45) - rng.uniform(0.4, 0.7) * frame.back
    height_mm = frame.lungs.shape[0] * frame.spacing_mm
    distance_mm = offset * height_mm + 4.0 * frame.noise(60, rng)
    strength = rng.uniform(30, 160)
    sheet: Array = strength * np.exp(-((distance_mm / rng.uniform(0.8, 1.6)) ** 2))
    return sheet


def _with_trees(
    hu: Array,
    frame: LungFrame,
    spec: PhantomSpec,
    hila_mm: list[Points],
    rng: np.random.Generator,
) -> tuple[Array, Array]:
    shape = (hu.shape[0], hu.shape[1], hu.shape[2])
    points = np.argwhere(frame.lungs[::2, ::2, ::2]) * (2 * frame.spacing_mm)
    middle = 0.5 * (hila_mm[0][2] + hila_mm[1][2])
    vessels, airways = [], []
    for side, hilum in zip((-1, 1), hila_mm, strict=True):
        lung = points[(points[:, 2] - middle) * side > 0].astype(np.float64)
        for _ in range(2):  # arteries and veins
            leaves = lung[rng.integers(0, len(lung), rng.integers(350, 800))]
            root = hilum + rng.normal(0, 5, 3)
            vessels += grow_tree(root, leaves, rng.uniform(0.35, 0.6), rng)
        leaves = lung[rng.integers(0, len(lung), rng.integers(40, 140))]
        airways += grow_tree(hilum, leaves, rng.uniform(0.45, 0.75), rng)
    wall_mm = rng.uniform(0.5, 1.1)
    hu = hu + draw_segments(shape, frame.spacing_mm, vessels) * (spec.blood_hu - hu)
    walls = draw_segments(shape, frame.spacing_mm, airways, grow_mm=wall_mm)
    hu = hu + walls * np.maximum(-80 - hu, 0)
    lumens = draw_segments(shape, frame.spacing_mm, airways)
    return hu + lumens * (-960 - hu), lumens
