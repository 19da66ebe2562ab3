"""Everything round the lungs: chest wall, ribs, spine, heart, great vessels, abdomen, table."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from dlild_export.phantom.anatomy.trees import Points, Segment, draw_segments
from dlild_export.phantom.fields import Array, Mask, ramp, resize, signed_distance, smooth_noise

AIR_HU = -1000.0
FAT_HU = -100.0
MUSCLE_HU = 50.0


@dataclass(frozen=True)
class Landmarks:
    """Landmarks found from the shape of the lungs, mm (z, y, x)."""

    low: Points
    high: Points
    middle_x: float
    carina: Points
    hila: tuple[Points, Points]


def find_landmarks(lungs: Mask, spacing_mm: float) -> Landmarks:
    """Find carina and hila from the lungs: the medial points at mid-height.

    Parameters
    ----------
    lungs : ndarray of bool, shape (z, y, x)
        Both lungs.
    spacing_mm : float
        Edge of a voxel.

    Returns
    -------
    Landmarks
        `hila` lie just inside the right and the left lung.
    """
    points: Points = np.argwhere(lungs[::3, ::3, ::3]).astype(np.float64) * (3 * spacing_mm)
    low, high = points.min(axis=0), points.max(axis=0)
    middle_x = _gap(points[:, 2], low[2], high[2])
    carina = np.array(
        [low[0] + 0.62 * (high[0] - low[0]), low[1] + 0.55 * (high[1] - low[1]), middle_x]
    )
    target = carina - np.array([18.0, 0.0, 0.0])
    hila = []
    for side in (-1, 1):
        lung = points[(points[:, 2] - middle_x) * side > 0]
        weighted = (lung - target) * np.array([1.4, 1.2, 1.0])
        hila.append(lung[np.argmin((weighted**2).sum(axis=1))])
    return Landmarks(low, high, middle_x, carina, (hila[0], hila[1]))


def _gap(x: Points, low: float, high: float) -> float:
    counts, edges = np.histogram(x, bins=40, range=(low, high))
    centre = slice(12, 28)
    return float(
        (edges[centre][np.argmin(counts[centre])] + edges[13 + np.argmin(counts[centre])]) / 2
    )


def build_body(
    lungs: Mask,
    spacing_mm: float,
    blood_hu: float,
    marks: Landmarks,
    rng: np.random.Generator,
    *,
    prone: bool = False,
) -> Array:
    """Build all that is not lung; the lungs' own voxels hold soft tissue.

    Parameters
    ----------
    lungs : ndarray of bool, shape (z, y, x)
        Both lungs.
    spacing_mm : float
        Edge of a voxel.
    blood_hu : float
        HU of heart and great vessels.
    marks : Landmarks
        Landmarks of the lungs.
    rng : numpy.random.Generator
        Draws build, organs and table.
    prone : bool
        Whether the table is in front.

    Returns
    -------
    ndarray of float32, shape (z, y, x)
        HU.
    """
    shape = lungs.shape
    cavity_mm = _cavity_distance(lungs, spacing_mm)
    skin_mm = _skin_distance(cavity_mm, spacing_mm, rng)
    texture = smooth_noise(shape, 9.0 / spacing_mm, rng)

    hu = np.full(shape, AIR_HU, np.float32)
    fat_mm = rng.uniform(3, 26) * (1 + 0.35 * smooth_noise(shape, 90.0 / spacing_mm, rng))
    tissue = np.where(skin_mm > -np.maximum(fat_mm, 1.5), FAT_HU, MUSCLE_HU).astype(np.float32)
    tissue[skin_mm > -1.8] = 20.0
    # Muscle of the wall is marbled with fat, the more the further from the ribs.
    marbled = (smooth_noise(shape, 22.0 / spacing_mm, rng) > 1.0) & (cavity_mm > 8)
    tissue[marbled] = FAT_HU
    inside = cavity_mm < 0
    tissue[inside] = _mediastinum(shape, spacing_mm, blood_hu, marks, rng)[inside]
    low_enough = np.arange(shape[0])[:, None, None] * spacing_mm < marks.low[0] + 4
    within_muscle = skin_mm < -np.maximum(fat_mm, 1.5) - 12
    under = (_under_diaphragm(lungs) & (cavity_mm < 4)) | (low_enough & within_muscle)
    tissue[under] = _abdomen(shape, spacing_mm, blood_hu, marks, rng)[under]
    tissue += 9.0 * texture
    _add_bones(tissue, cavity_mm, spacing_mm, marks, rng)
    _add_airway(tissue, spacing_mm, marks, rng)
    weight = ramp(skin_mm, spacing_mm)
    hu += weight * (tissue - hu)
    if prone:  # views: what is added to them is added to the body
        _add_surroundings(hu[:, ::-1], skin_mm[:, ::-1], spacing_mm, rng)
    else:
        _add_surroundings(hu, skin_mm, spacing_mm, rng)
    return hu


def _cavity_distance(lungs: Mask, spacing_mm: float) -> Array:
    """Signed distance to the thoracic cavity: the lungs closed over the mediastinum."""
    step = 4
    coarse = spacing_mm * step
    small = np.pad(lungs[::step, ::step, ::step], 12)
    closed = ndimage.distance_transform_edt(~small) * coarse < 45
    closed = ndimage.distance_transform_edt(closed) * coarse > 45
    closed |= small
    distance = signed_distance(closed, coarse)[12:-12, 12:-12, 12:-12]
    return resize(ndimage.gaussian_filter(distance, 0.7), lungs.shape, step)


def _skin_distance(cavity_mm: Array, spacing_mm: float, rng: np.random.Generator) -> Array:
    """Signed distance to the skin, slice by slice: the cavity's outline, carried up and down."""
    step = 4
    cavity = cavity_mm[::step, ::step, ::step] < 0
    carry = int(80 / (spacing_mm * step))
    carried = ndimage.maximum_filter1d(cavity.astype(np.uint8), 2 * carry + 1, axis=0) > 0
    areas = carried.sum(axis=(1, 2))
    best = carried[int(np.argmax(areas))]
    carried |= ndimage.binary_erosion(best, iterations=int(15 / (spacing_mm * step)))[None]
    in_plane = np.stack(
        [
            ndimage.distance_transform_edt(~plane) - ndimage.distance_transform_edt(plane)
            for plane in carried
        ]
    ).astype(np.float32) * (spacing_mm * step)
    in_plane = ndimage.gaussian_filter(in_plane, (3, 1.5, 1.5))
    wall = rng.uniform(20, 42) + 5.0 * smooth_noise(in_plane.shape, 90 / (spacing_mm * step), rng)
    shoulders = np.linspace(-0.4, 1, in_plane.shape[0])[:, None, None] ** 3 * rng.uniform(0, 25)
    return resize(in_plane - wall - shoulders.astype(np.float32), cavity_mm.shape, step)


def _under_diaphragm(lungs: Mask) -> Mask:
    """Voxels with lung above them and none below, as far as the cavity goes."""
    lung_above = np.cumsum(lungs[::-1], axis=0)[::-1] > 0
    lung_below = np.cumsum(lungs, axis=0) > 0
    under: Mask = lung_above & ~lung_below
    return under


def _ellipsoid(shape: tuple[int, ...], spacing_mm: float, centre: Points, radii: Points) -> Mask:
    axes = np.ogrid[tuple(slice(0, n) for n in shape)]
    distance = sum(
        ((a * spacing_mm - c) / r) ** 2 for a, c, r in zip(axes, centre, radii, strict=True)
    )
    inside: Mask = np.asarray(distance) < 1
    return inside


def _mediastinum(
    shape: tuple[int, int, int],
    spacing_mm: float,
    blood_hu: float,
    marks: Landmarks,
    rng: np.random.Generator,
) -> Array:
    fatness = smooth_noise(shape, 26.0 / spacing_mm, rng)
    tissue = np.where(fatness > rng.uniform(-0.3, 1.2), FAT_HU + 15, 35.0).astype(np.float32)
    height = marks.high[0] - marks.low[0]
    depth = marks.high[1] - marks.low[1]
    heart = marks.low + np.array([0.3 * height, 0.36 * depth, 0.0])
    heart[2] = marks.middle_x + rng.uniform(5, 25)
    radii = rng.uniform([45, 38, 48], [66, 56, 66])
    tissue[_ellipsoid(shape, spacing_mm, heart, radii)] = 0.5 * (45 + blood_hu)
    tissue[_ellipsoid(shape, spacing_mm, heart, 0.72 * radii)] = blood_hu
    spine_y = marks.high[1] - 38
    top = marks.carina + np.array([30.0, -10.0, 5.0])
    trunk = marks.carina + np.array([-18.0, -12.0, 0.0])
    vessels = [
        Segment(np.array([0.0, spine_y, marks.middle_x + 16]), top, rng.uniform(9, 15)),
        Segment(top, heart + np.array([30.0, 5.0, -8.0]), rng.uniform(12, 17)),
        Segment(trunk, marks.hila[0], rng.uniform(7, 11)),
        Segment(trunk, marks.hila[1], rng.uniform(7, 11)),
        Segment(
            heart + np.array([20.0, 0.0, -25.0]),
            top + np.array([60.0, 0.0, -25.0]),
            rng.uniform(6, 10),
        ),
    ]
    filled = draw_segments(shape, spacing_mm, vessels)
    tissue += filled * (blood_hu - tissue)
    gullet_y = min(marks.carina[1] + 16, marks.high[1] - 45)
    gullet = [
        Segment(
            np.array([0.0, gullet_y + 4, marks.middle_x + 3]),
            np.array([shape[0] * spacing_mm, gullet_y, marks.middle_x]),
            rng.uniform(5, 9),
        )
    ]
    tissue += draw_segments(shape, spacing_mm, gullet) * (38 - tissue)
    if rng.random() < 0.4:
        air = draw_segments(shape, spacing_mm, gullet, grow_mm=-rng.uniform(2, 5))
        air *= smooth_noise(shape, 45 / spacing_mm, rng) > 0.2
        tissue += air * (AIR_HU - tissue)
    return tissue


def _abdomen(
    shape: tuple[int, int, int],
    spacing_mm: float,
    blood_hu: float,
    marks: Landmarks,
    rng: np.random.Generator,
) -> Array:
    """Liver on the right, stomach and spleen on the left, fat, and gas in stomach and bowel."""
    organ = 60.0 if blood_hu < 80 else rng.uniform(70, 130)
    tissue = np.full(shape, organ, np.float32)
    x = np.arange(shape[2])[None, None, :] * spacing_mm
    left = (x > marks.middle_x + rng.uniform(-15, 25)) & np.ones(shape, bool)
    fatty = left & (smooth_noise(shape, 35 / spacing_mm, rng) > rng.uniform(-0.8, 0.8))
    tissue[fatty] = FAT_HU
    for _ in range(rng.integers(0, 5)):
        centre = np.array(
            [
                marks.low[0] + rng.uniform(-30, 50),
                rng.uniform(marks.low[1] + 15, marks.high[1] - 50),
                rng.uniform(marks.middle_x - 40, marks.high[2] - 25),
            ]
        )
        radii = rng.uniform(10, 42, 3)
        tissue[_ellipsoid(shape, spacing_mm, centre, radii + 4)] = 40.0
        gas = _ellipsoid(shape, spacing_mm, centre, radii)
        # Gas gathers at the front, with a level of fluid or food under it.
        y = np.arange(shape[1])[None, :, None] * spacing_mm
        level = centre[1] + rng.uniform(-0.3, 1.2) * radii[1]
        tissue[gas & (y > level)] = rng.uniform(5, 60)
        tissue[gas & (y <= level)] = rng.uniform(-1000, -880)
    return tissue


def _add_bones(
    tissue: Array,
    cavity_mm: Array,
    spacing_mm: float,
    marks: Landmarks,
    rng: np.random.Generator,
) -> None:
    shape = tissue.shape
    z, y, x = (a * spacing_mm for a in np.ogrid[tuple(slice(0, n) for n in shape)])
    slope = rng.uniform(0.35, 0.75)
    period, half = rng.uniform(21, 29), rng.uniform(4.5, 7.0)
    phase = (z + slope * y + rng.uniform(0, 30)) % period - period / 2
    shell = np.abs(cavity_mm - rng.uniform(4.5, 7.5)) - rng.uniform(2.6, 4.0)
    rib_mm = np.maximum(np.abs(phase) - half, shell)
    front = y < marks.low[1] + 25
    cortex = np.where(front, rng.uniform(80, 250), rng.uniform(350, 900)).astype(np.float32)
    marrow = np.where(front, rng.uniform(80, 200), rng.uniform(80, 300)).astype(np.float32)
    behind = (np.abs(x - marks.middle_x) < 14) & (y > marks.carina[1])
    rib_mm = np.where(behind | (np.abs(x - marks.middle_x) < 12), 5.0, rib_mm)
    bone = np.where(rib_mm > -1.8, cortex, marrow)
    tissue += ramp(rib_mm.astype(np.float32), 1.5 * spacing_mm) * (bone - tissue)

    centre_y, radius = marks.high[1] - rng.uniform(14, 26), rng.uniform(14, 19)
    body_mm = np.sqrt((y - centre_y) ** 2 + ((x - marks.middle_x) / 1.15) ** 2) - radius
    disc = ((z + 11) % rng.uniform(22, 30)) < 5
    vertebra = np.where(
        disc, 90.0, np.where(body_mm > -2.5, rng.uniform(350, 700), rng.uniform(120, 260))
    )
    arch_mm = np.maximum(
        np.abs(x - marks.middle_x) - 4 - 14 * np.exp(-(((y - centre_y - radius - 8) / 9) ** 2)),
        np.abs(y - centre_y - radius - 16) - 22,
    )
    arch_mm = np.maximum(arch_mm, np.abs((z % 26) - 13) - 9)
    canal = np.sqrt((y - centre_y - radius - 7) ** 2 + (x - marks.middle_x) ** 2) < 7
    whole = np.broadcast_to(body_mm, shape).astype(np.float32)
    tissue += ramp(whole, spacing_mm) * (vertebra.astype(np.float32) - tissue)
    arch = ramp(np.broadcast_to(arch_mm, shape).astype(np.float32), spacing_mm)
    tissue += arch * (rng.uniform(300, 600) - tissue)
    tissue[np.broadcast_to(canal, shape)] = 30.0

    plate_mm = np.maximum(np.abs(cavity_mm - 6) - 5, np.abs(x - marks.middle_x) - 16)
    plate_mm = np.where((y < marks.carina[1]) & (z > marks.low[0] + 40), plate_mm, 5.0)
    sternum = np.where(plate_mm > -2, rng.uniform(300, 600), 150.0).astype(np.float32)
    tissue += ramp(plate_mm.astype(np.float32), spacing_mm) * (sternum - tissue)


def _add_airway(
    tissue: Array, spacing_mm: float, marks: Landmarks, rng: np.random.Generator
) -> None:
    """Trachea and main bronchi: air outside the lungs that is not lung."""
    radius = rng.uniform(6.5, 10.5)
    top = marks.carina + np.array(
        [tissue.shape[0] * spacing_mm, rng.uniform(-35, -10), rng.normal(0, 5)]
    )
    tubes = [Segment(marks.carina, top, radius)]
    tubes += [Segment(marks.carina, hilum, rng.uniform(4.5, 7.0)) for hilum in marks.hila]
    wall = draw_segments(tissue.shape, spacing_mm, tubes, grow_mm=rng.uniform(1.0, 2.5))
    lumen = draw_segments(tissue.shape, spacing_mm, tubes)
    tissue += wall * (30 - tissue)
    tissue += lumen * (AIR_HU - tissue)


def _add_surroundings(
    hu: Array, skin_mm: Array, spacing_mm: float, rng: np.random.Generator
) -> None:
    """Table under the patient, cloth on the skin, sometimes arms at the sides."""
    shape = hu.shape
    back = int(np.max(np.nonzero((skin_mm < 0).any(axis=(0, 2)))[0]))
    if rng.random() < 0.8:
        x = np.arange(shape[2]) - shape[2] / 2
        bend = rng.uniform(0, 0.0012)
        y = back + 3 + rng.uniform(0, 6) - bend * x**2
        rows = np.arange(shape[1])[:, None]
        plate = np.abs(rows - y[None, :]) < rng.uniform(1, 4)
        inside = (skin_mm > 0) & plate[None]
        hu[inside] = rng.uniform(-950, -100)
    if rng.random() < 0.5:
        cloth = (skin_mm > 1) & (skin_mm < rng.uniform(2, 8))
        cloth &= smooth_noise((shape[0], shape[1], shape[2]), 30 / spacing_mm, rng) > 0.3
        hu[cloth] = rng.uniform(-950, -600)
    if rng.random() < 0.15:
        middle = np.argwhere((skin_mm < 0).any(axis=0)).mean(axis=0) * spacing_mm
        for side in (-1, 1):
            x_mm = middle[1] + side * (shape[2] * spacing_mm / 2 - 25)
            start = np.array([0.0, middle[0] + 10, x_mm])
            stop = np.array([shape[0] * spacing_mm, middle[0] + rng.uniform(-20, 30), x_mm])
            arm = [Segment(start, stop, rng.uniform(28, 38))]
            flesh = draw_segments((shape[0], shape[1], shape[2]), spacing_mm, arm)
            bone = draw_segments((shape[0], shape[1], shape[2]), spacing_mm, arm, grow_mm=-21.0)
            outside = skin_mm > 0
            hu += flesh * outside * (MUSCLE_HU - hu)
            hu += bone * outside * (500 - hu)
