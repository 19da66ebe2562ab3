"""Phantoms whose disease has the texture that was measured in patients, scanned as patients are.

The body lies on the model grid, as in other phantoms; the texture of the lung is finer. A scan is
made slice by slice: the body averaged over the thickness, the texture seen through the kernel, and
noise of the kernel's spectrum; then slices are brought to the grid as the client does it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy import ndimage
from scipy.special import ndtr

from dlild_client.contract import HuRange
from dlild_client.contract.classes import Label
from dlild_client.preparation.resampling import (
    GAP_MM,
    GAP_THICKNESSES,
    resample,
    slice_band,
    slice_faces_mm,
    triangle_band,
)
from dlild_client.volume import Volume
from dlild_export.data.crop import box_of
from dlild_export.phantom.acquisition import blurred_by_motion
from dlild_export.phantom.anatomy.body import build_body, find_landmarks
from dlild_export.phantom.anatomy.lungs import LungFrame, frame_lungs, make_lungs
from dlild_export.phantom.anatomy.mimics import add_bowel, add_bullae, add_hila, fissure_distance
from dlild_export.phantom.anatomy.parenchyma import aerated_lung, with_trees
from dlild_export.phantom.compose import Phantom, insert_lung, on_grid
from dlild_export.phantom.fields import Array, Mask
from dlild_export.phantom.lesions.fibrosis import hilar_nearness, measured_disease, traction_bronchi
from dlild_export.phantom.lesions.layers import Layer, SampleGrid, draw_layer, show_layer
from dlild_export.phantom.lesions.patterns import (
    CONSOLIDATION,
    Labels,
    paint_consolidation,
)
from dlild_export.phantom.optics import Optics, scan_noise
from dlild_export.phantom.spec import Pattern, PhantomSpec

AIR_HU = -1024.0
_HU = HuRange(-1024, 2047, -1024)


@dataclass(frozen=True, kw_only=True)
class Scan:
    """One acquisition.

    Attributes
    ----------
    seed : int
        Of the noise.
    thickness_mm, step_mm : float
        Of the slices, and between them: larger than the thickness in sequential HRCT.
    pairs_mm : float or None
        Slices come in pairs that lie this far apart.
    blur_mm : float
        Standard deviation of the point spread: 0.45 with sharp kernels, 0.8 with soft ones.
    noise_hu, noise_peak_per_mm : float
        Standard deviation in soft tissue, in the slices as reconstructed, and where its spectrum
        is highest.
    motion_mm : float
        How far the lower lungs move up while they are scanned.
    field_mm : float or None
        Diameter of a round field of view; what lies outside is padding.
    blank_slices : int
        Slices without an image, at the ends.
    """

    seed: int
    thickness_mm: float = 1.0
    step_mm: float = 1.0
    pairs_mm: float | None = None
    blur_mm: float = 0.6
    noise_hu: float = 40.0
    noise_peak_per_mm: float = 0.4
    motion_mm: float = 0.0
    field_mm: float | None = None
    blank_slices: int = 0

    @property
    def gapped(self) -> bool:
        """Whether lung between the slices is not seen, by the client's rule."""
        step = self.step_mm - (self.pairs_mm or 0)
        return step > max(GAP_MM, GAP_THICKNESSES * self.thickness_mm)


@dataclass(frozen=True, kw_only=True)
class MeasuredSpec:
    """A patient with measured texture, and a scan.

    Attributes
    ----------
    body : PhantomSpec
        Seed, pattern, severity, density, gravity, blood, position. Its acquisition counts for
        nothing, and its emphysema is of the old, coarse kind.
    scan : Scan
    centrilobular, paraseptal : float
        Share of the lung, and of its upper edge, with emphysema of fine texture (no lesion).
    bullae : int
        No lesion.
    """

    body: PhantomSpec
    scan: Scan
    centrilobular: float = 0.0
    paraseptal: float = 0.0
    bullae: int = 0


@dataclass(frozen=True)
class MeasuredPatient:
    """A patient before any scanner has seen it.

    Attributes
    ----------
    hu : ndarray of float32, shape (z, y, x)
        The body with all that is not fine.
    lung_hu : ndarray of float32
        Lung between vessels, lines and cysts; in `box`.
    labels : ndarray of uint8, shape (z, y, x)
        Class of every voxel.
    layers : list of Layer
        Fine textures; in `box`.
    box : tuple of slice
        Round the lungs.
    spacing_mm : float
    spec : MeasuredSpec
    """

    hu: Array
    lung_hu: Array
    labels: Labels
    layers: list[Layer]
    box: tuple[slice, ...]
    spacing_mm: float
    spec: MeasuredSpec


def make_measured(
    spec: MeasuredSpec, *, spacing_mm: float = 1.5, lung_mask: Path | None = None
) -> MeasuredPatient:
    """Make a patient.

    Parameters
    ----------
    spec : MeasuredSpec
    spacing_mm : float
        Edge of a voxel of the grid.
    lung_mask : pathlib.Path, optional
        Mask of real lungs to take the shape from; built from curves when left out.

    Returns
    -------
    MeasuredPatient
        The same for the same arguments.
    """
    body = spec.body
    rng = np.random.default_rng([body.seed, 5])
    lungs = make_lungs(lung_mask, spacing_mm, rng)
    marks = find_landmarks(lungs, spacing_mm)
    hu = build_body(lungs, spacing_mm, body.blood_hu, marks, rng, prone=body.prone)
    add_bowel(hu, lungs, spacing_mm, marks.middle_x, rng)
    box = box_of(lungs, margin=4)
    frame = frame_lungs(lungs[box], spacing_mm)
    offset = np.array([side.start for side in box]) * spacing_mm
    hila = [hilum - offset for hilum in marks.hila]

    fissure_mm = fissure_distance(frame, rng)
    edge_mm = np.minimum(frame.depth_mm, fissure_mm)
    lung_hu = aerated_lung(frame, replace(body, emphysema=0.0), rng, fissures=False)
    disease = measured_disease(
        frame, edge_mm, body.pattern, body.severity, rng, hilar_nearness(frame, hila)
    )
    labels = disease.labels
    grown, airways = with_trees(lung_hu, frame, body, hila, rng)
    grown = grown + rng.uniform(30, 250) * np.exp(-((fissure_mm / rng.uniform(0.7, 1.2)) ** 2))
    grown, large = add_hila(grown, frame, hila, body.blood_hu, rng)
    grown = grown + disease.haze_hu * np.clip((40 - grown) / 900, 0, 1)
    lung_hu = lung_hu + disease.haze_hu
    solid = labels == CONSOLIDATION
    if solid.any():
        grown = paint_consolidation(grown, airways, solid, frame, rng)
    walls, lumens = traction_bronchi(labels, frame, rng)
    grown = grown + walls * np.maximum(0 - grown, 0)
    grown = grown + lumens * (-980 - grown)
    add_bullae(grown, frame, spec.bullae, rng)
    layers = _spared(disease.layers, walls)
    layers += _emphysema(spec, labels, frame, rng)
    labels[large & (labels == Label.LUNG)] = 0

    insert_lung(hu, grown, frame.lungs, box, blur_voxels=0.5)
    whole = on_grid(labels, lungs.shape, box)
    return MeasuredPatient(hu, lung_hu, whole, layers, box, spacing_mm, spec)


def _spared(layers: list[Layer], walls: Array) -> list[Layer]:
    """Take textures away where bronchi run."""
    return [replace(layer, weight=layer.weight * (1 - walls)) for layer in layers]


def _emphysema(
    spec: MeasuredSpec, labels: Labels, frame: LungFrame, rng: np.random.Generator
) -> list[Layer]:
    """Holes without walls in the upper lung, and rows of bullae with thin walls at its edge."""
    layers = []
    free = ndimage.gaussian_filter((labels == Label.LUNG).astype(np.float32), 0.6)
    if spec.centrilobular > 0:
        liking = 0.9 * frame.height + 0.7 * frame.noise(40, rng)
        bound = np.quantile(liking[frame.lungs][::17], 1 - spec.centrilobular)
        where = ndimage.gaussian_filter((liking > bound).astype(np.float32), 2.0) * free
        layers.append(
            draw_layer(
                "centrilobular",
                where,
                frame.spacing_mm,
                rng,
                strength=0.0,
                lumen_hu=rng.uniform(-995, -960),
            )
        )
    if spec.paraseptal > 0:
        rim = frame.depth_mm < rng.uniform(6, 14)
        liking = 1.2 * frame.height + 0.8 * frame.noise(40, rng)
        bound = np.quantile(liking[frame.lungs & rim][::7], 1 - spec.paraseptal)
        where = ndimage.gaussian_filter(((liking > bound) & rim).astype(np.float32), 0.8) * free
        layers.append(
            draw_layer(
                "paraseptal",
                where,
                frame.spacing_mm,
                rng,
                strength=rng.uniform(0.4, 0.9),
                lumen_hu=rng.uniform(-1000, -975),
            )
        )
    return layers


def scan_measured(patient: MeasuredPatient, scan: Scan | None = None) -> Phantom:
    """Scan a patient, and bring the slices to the grid.

    Parameters
    ----------
    patient : MeasuredPatient
        Stays as it is.
    scan : Scan, optional
        The one of its spec when left out.

    Returns
    -------
    Phantom
        `spec` is the body's.
    """
    chosen = scan or patient.spec.scan
    spacing = patient.spacing_mm
    rng = np.random.default_rng([chosen.seed, 6])
    hu = patient.hu
    if chosen.motion_mm > 0:
        hu = blurred_by_motion(hu, patient.labels >= Label.LUNG, chosen.motion_mm / spacing)
    count, rows, columns = hu.shape
    z_mm = slice_positions(count * spacing, chosen, rng)
    direct = chosen.step_mm <= spacing and chosen.pairs_mm is None
    if direct:
        z_mm = np.arange(count) * spacing
    sampling = SampleGrid(z_mm / spacing, np.arange(rows), np.arange(columns), spacing)
    averaged = direct and chosen.step_mm < spacing
    optics = Optics(chosen.blur_mm, chosen.thickness_mm, spacing, spacing if averaged else None)
    slices = show_slices(patient, hu, sampling, optics)
    noise = _noise(slices, chosen, spacing, averaged, rng)
    slices = lifted_by_clipping(slices, 0.65 * chosen.noise_hu) + noise
    labels = patient.labels
    if not direct:
        slices, grid_mm = to_grid_slices(slices, z_mm, chosen.thickness_mm, spacing)
        seen = grid_mm
        if chosen.gapped:
            seen = z_mm[np.abs(grid_mm[:, None] - z_mm[None]).argmin(axis=1)]
        labels = labels[np.clip(np.rint(seen / spacing), 0, count - 1).astype(np.intp)]
    slices, labels = _framed(slices, labels, chosen, spacing)
    whole = np.clip(np.rint(slices), -1024, 2047).astype(np.int16)
    return Phantom(whole, labels, spacing, patient.spec.body)


def slice_positions(extent_mm: float, scan: Scan, rng: np.random.Generator) -> np.ndarray:
    """Return where slices lie, mm from the middle of the lowest voxel."""
    start = rng.uniform(0, min(scan.step_mm, 5))
    first = np.arange(start, extent_mm - 1.5, scan.step_mm)
    if scan.pairs_mm is None:
        return first
    both = np.sort(np.concatenate([first, first + scan.pairs_mm]))
    return both[both < extent_mm - 1.5]


def show_slices(patient: MeasuredPatient, hu: Array, sampling: SampleGrid, optics: Optics) -> Array:
    """Return slices without noise: the body, and the textures in it.

    Parameters
    ----------
    patient : MeasuredPatient
    hu : ndarray of float32, shape (z, y, x)
        Its body, perhaps moved.
    sampling : SampleGrid
        Of the slices' pixels.
    optics : Optics

    Returns
    -------
    ndarray of float32, shape `sampling.shape`
    """
    spacing = patient.spacing_mm
    slabs = _slabs(hu, sampling.z, optics.thickness_mm / spacing)
    flat = SampleGrid(np.arange(len(slabs)), sampling.y, sampling.x, spacing)
    slices = flat.of(slabs).astype(np.float32, copy=True)
    extra = optics.blur_mm**2 - 0.5**2
    pixel = (sampling.y[1] - sampling.y[0]) * spacing
    if extra > 0.02:
        slices = ndimage.gaussian_filter(slices, (0, *(np.sqrt(extra) / pixel,) * 2))
    start = [side.start for side in patient.box]
    size = patient.lung_hu.shape
    inner = []
    keep = []
    for axis, first, length in zip((sampling.z, sampling.y, sampling.x), start, size, strict=True):
        own = np.flatnonzero((axis >= first) & (axis <= first + length - 1))
        keep.append(own)
        inner.append(axis[own] - first)
    if all(len(own) for own in keep):
        part = SampleGrid(inner[0], inner[1], inner[2], spacing)
        lung = part.of(patient.lung_hu)
        inside = tuple(slice(own[0], own[-1] + 1) for own in keep)
        shown = slices[inside]
        for layer in patient.layers:
            show_layer(shown, lung, layer, part, optics)
    return slices


def _slabs(hu: Array, z: np.ndarray, thickness: float) -> Array:
    """Average over slabs round positions along z, all in voxels."""
    if np.array_equal(z, np.arange(len(hu))) and thickness <= 1.3:
        return hu
    integral = np.concatenate([np.zeros_like(hu[:1]), np.cumsum(hu, axis=0, dtype=np.float64)])
    width = max(thickness, 1.0)

    def at(position: np.ndarray) -> np.ndarray:
        position = np.clip(position, 0, len(hu))
        low = np.minimum(position.astype(np.intp), len(hu) - 1)
        part = (position - low)[:, None, None]
        between: np.ndarray = integral[low] * (1 - part) + integral[low + 1] * part
        return between

    upper, lower = np.minimum(z + 0.5 + width / 2, len(hu)), np.maximum(z + 0.5 - width / 2, 0)
    means: Array = ((at(upper) - at(lower)) / (upper - lower)[:, None, None]).astype(np.float32)
    return means


def _noise(
    slices: Array, scan: Scan, spacing: float, averaged: bool, rng: np.random.Generator
) -> Array:
    shape = (slices.shape[0], slices.shape[1], slices.shape[2])
    noise = scan_noise(shape, scan.noise_hu, scan.noise_peak_per_mm, spacing, rng)
    if averaged:
        taps = triangle_band(41, scan.step_mm, 11, spacing).taps[5]
        smooth = ndimage.gaussian_filter1d(noise, 0.45, axis=0)
        noise = smooth * (np.sqrt((taps**2).sum()) * noise.std() / (smooth.std() + 1e-6))
    # Less is absorbed in air, so fewer photons are missed.
    noise *= 0.65 + 0.35 * np.clip((slices + 900) / 800, 0, 1)
    return noise


def lifted_by_clipping(hu: Array, noise_hu: float) -> Array:
    """Raise dark voxels as a scan does whose noise is cut off at -1024 HU before it is averaged."""
    if noise_hu < 5:
        return hu
    dark: Mask = hu < AIR_HU + 3 * noise_hu
    above = (hu[dark] - AIR_HU) / noise_hu
    density = np.exp(-0.5 * above**2) / np.sqrt(2 * np.pi)
    lifted = hu.copy()
    lifted[dark] = AIR_HU + noise_hu * (above * ndtr(above) + density)
    return lifted


def to_grid_slices(
    slices: Array, z_mm: np.ndarray, thickness_mm: float, spacing_mm: float
) -> tuple[Array, np.ndarray]:
    """Bring slices to the grid by the client's own weights: interpolated, but not across gaps.

    Parameters
    ----------
    slices : ndarray of float32, shape (n, y, x)
        Slices, on the grid's pixels already.
    z_mm : ndarray of float, shape (n,)
        Where they lie.
    thickness_mm, spacing_mm : float
        Of the slices, and of the grid.

    Returns
    -------
    array : ndarray of float32, shape (z, y, x)
    grid_mm : ndarray of float, shape (z,)
        Where its voxels lie.
    """
    n, rows, columns = slices.shape
    mean_step = float((z_mm[-1] - z_mm[0]) / (n - 1))
    volume = Volume(
        slices,
        (mean_step, spacing_mm, spacing_mm),
        slice_positions_mm=tuple((z_mm - z_mm[0]).tolist()),
        slice_thicknesses_mm=(thickness_mm,) * n,
    )
    low, high = slice_faces_mm(volume)
    count = int(np.ceil((high - low) / spacing_mm - 1e-3))
    target = (spacing_mm,) * 3
    band = {0: slice_band(volume, count, spacing_mm)}
    array = resample(slices, volume.spacing_mm, (count, rows, columns), target, _HU, band)
    middle = z_mm[0] + (low + high) / 2
    return array.astype(np.float32), middle + (np.arange(count) - (count - 1) / 2) * spacing_mm


def _framed(slices: Array, labels: Labels, scan: Scan, spacing: float) -> tuple[Array, Labels]:
    """Leave padding outside a round field of view, and slices without an image."""
    if scan.field_mm is not None:
        rows, columns = slices.shape[1:]
        y = (np.arange(rows) - (rows - 1) / 2)[:, None] * spacing
        x = (np.arange(columns) - (columns - 1) / 2)[None, :] * spacing
        slices[:, y**2 + x**2 > (scan.field_mm / 2) ** 2] = AIR_HU
    if scan.blank_slices:
        labels = labels.copy()
        for end in (slice(0, scan.blank_slices), slice(len(slices) - scan.blank_slices, None)):
            slices[end], labels[end] = AIR_HU, 0
    return slices, labels


def draw_measured(seed: int) -> MeasuredSpec:
    """Draw a patient and a scan from the whole range that is expected.

    Parameters
    ----------
    seed : int
        Of the draw and of the phantom.

    Returns
    -------
    MeasuredSpec
        Half have fibrosis of the pattern of UIP, a sixth no lesion.
    """
    rng = np.random.default_rng([seed, 7])
    patterns = (Pattern.UIP, Pattern.NSIP, Pattern.ORGANISING, Pattern.MIXED, Pattern.NONE)
    pattern = patterns[rng.choice(5, p=[0.55, 0.1, 0.08, 0.12, 0.15])]
    most = 0.5 if pattern is Pattern.UIP else 0.4
    severity = 0.0 if pattern is Pattern.NONE else float(0.01 + most * rng.beta(1.2, 1.6))
    body = PhantomSpec(
        seed=seed,
        pattern=pattern,
        severity=severity,
        lung_hu=float(np.clip(rng.normal(-892, 42), -965, -740)),
        dependent_hu=float(rng.uniform(0, 130)),
        blood_hu=float(rng.uniform(90, 300)) if rng.random() < 0.3 else float(rng.uniform(25, 60)),
        prone=bool(rng.random() < 0.3),
        atelectasis_plates=int(rng.integers(1, 4)) if rng.random() < 0.25 else 0,
        nodules=int(rng.integers(1, 5)) if rng.random() < 0.2 else 0,
    )
    smoker = rng.random() < 0.35
    return MeasuredSpec(
        body=body,
        scan=draw_scan(seed, rng),
        centrilobular=float(rng.uniform(0.05, 0.4)) if smoker else 0.0,
        paraseptal=float(rng.uniform(0.1, 0.6)) if smoker and rng.random() < 0.7 else 0.0,
        bullae=int(rng.integers(1, 6)) if rng.random() < 0.15 else 0,
    )


def draw_scan(seed: int, rng: np.random.Generator) -> Scan:
    """Draw an acquisition: contiguous, thick, or sequential with gaps."""
    way = rng.random()
    pairs = None
    if way < 0.35:  # thin and contiguous
        thickness = float(rng.choice([0.6, 0.75, 1.0, 1.25, 1.5]))
        step = thickness * float(rng.choice([0.8, 1.0, 1.0]))
    elif way < 0.6:
        thickness = step = float(rng.choice([2.0, 2.5, 3.0, 5.0, 5.0, 8.0]))
    else:
        thickness = float(rng.choice([1.0, 1.25]))
        step = float(rng.choice([10.0, 10.0, 10.0, 7.0, 5.0]))
        pairs = thickness if rng.random() < 0.3 and step == 10 else None
    sharp = rng.random() < (0.8 if way >= 0.6 else 0.5)
    if sharp:
        blur, noise, peak = rng.uniform(0.4, 0.6), rng.uniform(45, 125), rng.uniform(0.45, 0.7)
    else:
        blur, noise, peak = rng.uniform(0.6, 0.9), rng.uniform(8, 40), rng.uniform(0.18, 0.35)
    return Scan(
        seed=seed,
        thickness_mm=thickness,
        step_mm=step,
        pairs_mm=pairs,
        blur_mm=float(blur),
        noise_hu=float(noise * min(1.0, (1.25 / thickness) ** 0.5)),
        noise_peak_per_mm=float(peak),
        motion_mm=float(rng.uniform(1, 5)) if rng.random() < 0.1 else 0.0,
        field_mm=float(rng.uniform(320, 460)) if rng.random() < 0.3 else None,
        blank_slices=int(rng.integers(1, 10)) if rng.random() < 0.05 else 0,
    )
