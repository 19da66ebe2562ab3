"""Finds the lung box: a generous bounding box of the lungs on the grid.

A threshold finds only aerated lung and misses lung that disease has made dense. So it only anchors
the box; the chest around it determines how far lung may extend (`dlild_client.preparation.chest`):

- margins of 12 mm to the sides, in front and behind, extended to the outer face of the ribs, also
  on a consolidated side: both sides reach equally far from the middle, plus at most 30 mm to the
  ribs;
- 30 mm below and 15 mm above lungs that are complete at that end;
- where they end bluntly below, or in front, to 330 mm below their top; where they end bluntly
  above, to 330 mm above their base; where neither end is complete, a side is missing, or the lungs
  do not fill the rib cage, to 330 mm below their top and 45 mm above it.

Without visible ribs, to within 25 mm of the skin of the back. All on voxels of about 3 mm, in well
under a second.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from dlild_client.errors import NotChestError
from dlild_client.flags import Flag
from dlild_client.preparation.chest import Ends, Ribs, find_ribs, judge_ends
from dlild_client.preparation.grid import load_sitk
from dlild_client.volume import Volume

Mask = npt.NDArray[np.bool_]
Counts = npt.NDArray[np.int16]
Labels = npt.NDArray[Any]

COARSE_MM = 3.0
AERATED_HU = -400
TISSUE_HU = -250
AIRWAY_CM2 = 5.0
"""Smaller areas of air in a slice are trachea, not lung."""

CUT_OFF_CM2 = 12.0
"""Larger areas of lung in the first or last slices, or on a side, are cut off by the scan."""

MINIMUM_LUNG_ML = 300.0
"""Below it, aerated volumes must have the HU of lung (`LEAST_LUNG_ML`): bowel gas comes close."""

LEAST_LUNG_ML = 50.0
"""Lungs of newborns. From here to `MINIMUM_LUNG_ML`, voxels must have the HU of lung."""

GAS_HU = -965.0
"""Gas of bowel, stomach and sinuses is darker inside; lungs with emphysema are not."""

OUTSIDE_HU = -930.0
"""Denser air that touches the border of the image is lung, cut off by it."""

_WALL_MM = 9.0
"""Body that covers lung in front and behind at least: skin, muscle, ribs."""

_LITTLE_BODY = 0.5
"""Share of the median area of the body in a slice, below which a slice may show a part of it."""

VARIATION_HU = 20.0
"""Standard deviation between slices: aerated lung, with its vessels, has at least 27 HU."""


TALLEST_MM = 330.0
"""Height of the tallest lungs, base to apex, in deep inspiration."""


GAP_MM = 18.0
"""Largest mean distance of aerated lung from the outer face of the ribs: in whole lungs it is 3 to
18 mm."""


@dataclass(frozen=True)
class LungBox:
    """Bounding box of the lungs, in voxels (z, y, x) of the grid.

    Attributes
    ----------
    start, stop : tuple of int
        First voxel, and one past the last.
    aerated_ml : float
        Lung volume by threshold: an estimate, too small where lung is dense.
    flags : tuple of str
        `lungs_cut_off_top`, `lungs_cut_off_bottom`, `lungs_cut_off_sides`.
    seen : SeenChest or None
        Masks of the search: for the flags, and to distinguish the patient from surrounding air.
    """

    start: tuple[int, int, int]
    stop: tuple[int, int, int]
    aerated_ml: float
    flags: tuple[Flag, ...] = ()
    seen: SeenChest | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, eq=False)
class SeenChest:
    """The scan and its masks in coarse voxels, axes (z, y, x).

    Attributes
    ----------
    coarse : ndarray of float32
        HU.
    body : ndarray of bool
        Without its inner air.
    inner : ndarray of bool
        Air enclosed by the body within an axial slice.
    lungs : ndarray of bool
        Aerated lungs.
    outside : ndarray of bool
        Beside the patient: air, clothes, table. Where it is in doubt, not set.
    spacing : ndarray, shape (3,)
        In mm.
    factors : tuple of int
        Grid voxels per coarse voxel, along each axis.
    """

    coarse: npt.NDArray[np.float32]
    body: Mask
    inner: Mask
    lungs: Mask
    outside: Mask
    spacing: npt.NDArray[np.float64]
    factors: tuple[int, int, int]


def find_lungs(grid: Volume, minimum_ml: float = MINIMUM_LUNG_ML) -> LungBox:
    """Find the box that holds both lungs.

    Parameters
    ----------
    grid : Volume
        HU on the model grid (z to the head, y to the back, x to the left).
    minimum_ml : float
        Least volume of aerated lung.

    Returns
    -------
    LungBox

    Raises
    ------
    NotChestError
        No lungs, or less than `minimum_ml` without the HU of lung.
    """
    factors = np.array([max(1, round(COARSE_MM / s)) for s in grid.spacing_mm])
    coarse = _block_means(grid.array, factors)
    spacing = factors * np.asarray(grid.spacing_mm)
    body, inner, holes = _body_and_inner_air(coarse, spacing)
    lungs = _pick_lungs(inner, coarse, spacing)
    voxel_ml = float(np.prod(spacing)) / 1000
    millilitres = float(lungs.sum()) * voxel_ml
    flags = _cut_off(lungs, spacing)
    if millilitres < minimum_ml and not _is_little_lung(lungs, coarse, millilitres):
        raise NotChestError(_too_little(millilitres, minimum_ml, flags))
    areas_cm2 = lungs.sum(axis=(1, 2)) * float(spacing[1] * spacing[2]) / 100
    low, high = _extent(lungs, areas_cm2)
    cells = int(factors[0]), int(factors[1]), int(factors[2])
    outside = _outside(body, holes, lungs, coarse, spacing)
    seen = SeenChest(coarse, body, inner, lungs, outside, spacing, cells)
    low, high = _add_margins(low, high, seen)
    start = np.clip(np.floor(low * factors), 0, grid.shape).astype(int)
    stop = np.clip(np.ceil(high * factors), 0, grid.shape).astype(int)
    return LungBox(tuple(start.tolist()), tuple(stop.tolist()), millilitres, flags, seen)


def _block_means(array: npt.NDArray[Any], factors: npt.NDArray[np.int_]) -> npt.NDArray[np.float32]:
    """Mean of blocks of voxels; the last block is padded by repeating the edge."""
    # Sums over two axes in int16 where they fit: several times as fast as in float32.
    largest = max(-int(array.min()), int(array.max())) * int(factors[0] * factors[1])
    fits = array.dtype == np.int16 and largest <= np.iinfo(np.int16).max
    out = array if fits else array.astype(np.float32)
    for axis in range(3):
        factor = int(factors[axis])
        missing = -out.shape[axis] % factor
        if missing:
            out = np.concatenate([out, *[out.take([-1], axis)] * missing], axis)
        total, *parts = (_every(out, axis, first, factor) for first in range(factor))
        if axis == 2:
            total = total.astype(np.float32)
        for part in parts:
            total = total + part
        out = total
    return np.asarray(out / np.float32(factors.prod()), dtype=np.float32)


def _every(array: npt.NDArray[Any], axis: int, first: int, step: int) -> npt.NDArray[Any]:
    index: list[slice] = [slice(None)] * 3
    index[axis] = slice(first, None, step)
    return array[tuple(index)]


def _body_and_inner_air(
    coarse: npt.NDArray[np.float32], spacing: npt.NDArray[np.float64]
) -> tuple[Mask, Mask, Labels]:
    """Masks of the body without inner air, and of the air that it encloses in axial slices.

    And the connected components of all that is not body, slice by slice.

    Slice by slice: outer air touches the border of the image, air in the lungs does not. In three
    dimensions both are connected through the mouth.
    """
    air = coarse < AERATED_HU
    body = _largest_component(coarse > TISSUE_HU)
    # Enclosed by the body only, not by a table or a blanket.
    labels = label_slices(~body)
    outside = np.zeros(int(labels.max()) + 1, dtype=bool)
    for border in (labels[:, 0], labels[:, -1], labels[:, :, 0], labels[:, :, -1]):
        outside[border] = True
    outside[0] = True
    beyond = outside[labels]
    inner = (air & ~beyond) | _cut_off_at_sides(air & beyond & ~body, coarse, spacing)
    return body, inner, labels


def _outside(
    body: Mask,
    labels: Labels,
    lungs: Mask,
    coarse: npt.NDArray[np.float32],
    spacing: npt.NDArray[np.float64],
) -> Mask:
    """Find what lies beside the patient, for sure: the network may take cloth or foam for lung.

    It is air and thin walls without 9 mm of body in front, or behind. Lung has that, and still has
    it where the field cuts the chest open at a side. Not taken are what the front or the back of
    the field cuts open, where most of the cut is as dense as lung; slices with little body, as
    beside a blank one; and 3 mm beside all that, such as the skin.
    """
    deep = max(1, round(_WALL_MM / float(spacing[1])))
    tissue = np.cumsum(body, axis=1, dtype=np.int16)
    enclosed = (tissue >= deep) & (tissue[:, -1:] - tissue >= deep)
    areas = body.sum(axis=(1, 2))
    little = areas < _LITTLE_BODY * np.median(areas[areas > 0]) if areas.any() else areas == 0
    around = ~body & ~enclosed & ~lungs
    border = labels[:, [0, -1]]
    dense = border[coarse[:, [0, -1]] > OUTSIDE_HU]
    count = int(labels.max()) + 1
    opened = np.bincount(dense, minlength=count) > 0.5 * np.bincount(
        border.ravel(), minlength=count
    )
    around &= ~opened[labels]
    around[little] = False
    return _erode(around)


def _cut_off_at_sides(
    outer: Mask, coarse: npt.NDArray[np.float32], spacing: npt.NDArray[np.float64]
) -> Mask:
    """Find lung among the air that touches the border of the image, cut off by a cropped field.

    By its HU and by its variation between slices, caused by vessels and absent in foam; eroded,
    because partial volumes of skin, clothes and table are as dense as lung; and with a wide area on
    the border.
    """
    kept = np.zeros_like(outer)
    dense = outer & (coarse > OUTSIDE_HU)
    core = _erode(dense)
    faces = [
        (axis, edge)
        for axis in (1, 2)
        for edge in (0, -1)
        if np.count_nonzero(core.take(edge, axis)) * _pixel_cm2(spacing, axis) > CUT_OFF_CM2
    ]
    if not faces:
        return kept
    labels = _components(core)
    for axis, edge in faces:
        areas = np.bincount(labels.take(edge, axis).ravel()) * _pixel_cm2(spacing, axis)
        for label in np.flatnonzero(areas > CUT_OFF_CM2):
            part = labels == label
            kept |= part if label and _variation_hu(part, coarse) > VARIATION_HU else False
    return _dilate(_dilate(kept)) & dense


def _pixel_cm2(spacing: npt.NDArray[np.float64], axis: int) -> float:
    """Area of a pixel of the planes across an axis."""
    return float(np.prod(spacing) / spacing[axis]) / 100


def _variation_hu(part: Mask, coarse: npt.NDArray[np.float32]) -> float:
    """Return the standard deviation of HU between slices: high for vessels, low for a table."""
    both = part[1:] & part[:-1]
    steps = (coarse[1:] - coarse[:-1])[both]
    return float(steps.std() / np.sqrt(2)) if steps.size else 0.0


def label_slices(mask: Mask) -> Labels:
    """Label the connected components of every axial slice; 0 is background.

    Empty planes between the slices separate them in one call, ten times as fast as one per slice.
    """
    apart = np.zeros((2 * len(mask), *mask.shape[1:]), dtype=np.uint8)
    apart[::2] = mask
    return _components(apart)[::2]


def _components(mask: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Label the connected components of a mask; 0 is background."""
    sitk = load_sitk()
    image = sitk.GetImageFromArray(mask.astype(np.uint8, copy=False))
    return np.asarray(sitk.GetArrayFromImage(sitk.ConnectedComponent(image)))


def _largest_component(mask: Mask) -> Mask:
    """Keep the largest component, without thin bridges to the table and to clothes."""
    core = _dilate(_erode(mask))
    labels = _components(core)
    sizes = np.bincount(labels[core])
    if not len(sizes):
        return np.zeros_like(mask)
    core = labels == int(np.argmax(sizes))
    # Restore the rim that the opening removed, without the bridges.
    for axis in range(3):
        core = _spread(core, axis)
    return mask & core


def _erode(mask: Mask) -> Mask:
    """Erode by the six neighbours; voxels beyond the border count as set."""
    return ~_dilate(~mask)


def _dilate(mask: Mask) -> Mask:
    """Dilate by the six neighbours; array shifts are ten times as fast as ITK."""
    out = _spread(mask, 0)
    for axis in (1, 2):
        out |= _spread(mask, axis)
    return out


def _spread(mask: Mask, axis: int) -> Mask:
    """Dilate by the two neighbours along one axis."""
    out = mask.copy()
    low, high = [slice(None)] * 3, [slice(None)] * 3
    low[axis], high[axis] = slice(None, -1), slice(1, None)
    out[tuple(high)] |= mask[tuple(low)]
    out[tuple(low)] |= mask[tuple(high)]
    return out


def _pick_lungs(
    inner: Mask, coarse: npt.NDArray[np.float32], spacing: npt.NDArray[np.float64]
) -> Mask:
    """Keep the components of inner air that are lungs: large, with body in front and behind."""
    labels = _components(inner)
    sizes = np.bincount(labels[inner])
    voxel_ml = float(np.prod(spacing)) / 1000
    tissue = np.cumsum(coarse > TISSUE_HU, axis=1, dtype=np.int16)
    large = [
        int(label)
        for label in np.argsort(-sizes, kind="stable")[:12]
        if sizes[label] * voxel_ml > 30
        and _is_enclosed(labels == label, tissue, coarse, spacing[1])
    ]
    # Gas of stomach and bowel, however large, is dropped where there is lung.
    aerated = [label for label in large if not _is_gas(labels == label, coarse)]
    large = aerated or large
    if not large:
        return np.zeros_like(inner)
    main = large[0]
    # The other lung, or a separated lobe: beside the main component, not the bowel gas below it.
    heights = np.flatnonzero((labels == main).any(axis=(1, 2)))
    floor = float(np.quantile(heights, 0.1))
    kept = [main]
    for label in large[1:]:
        z = np.nonzero(labels == label)[0]
        if sizes[label] > 0.1 * sizes[main] or float(z.mean()) > floor:
            kept.append(label)
    return np.isin(labels, kept)


def _is_enclosed(
    part: Mask, tissue: Counts, coarse: npt.NDArray[np.float32], spacing_y: float
) -> bool:
    """Whether a component has body in front and behind, as lung has and foam of a table has not.

    Where the field cuts it off in front or behind, by its variation between slices. `tissue` is the
    cumulative count of tissue voxels from the front.
    """
    core = _erode(part)
    if part[:, [0, -1]].any() and _variation_hu(core, coarse) > VARIATION_HU:
        return True
    z, x = np.nonzero(part.any(axis=1))
    first = np.argmax(part, axis=1)[z, x]
    last = part.shape[1] - 1 - np.argmax(part[:, ::-1], axis=1)[z, x]
    before, behind = tissue[z, first, x], tissue[z, -1, x] - tissue[z, last, x]
    return bool(min(np.median(before), np.median(behind)) * spacing_y >= _WALL_MM)


def _extent(
    lungs: Mask, areas_cm2: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Bounds of the lungs in coarse voxels, without trachea and pharynx above."""
    low_z = high_z = int(np.argmax(areas_cm2))
    # Up and down from the widest slice, while there is more air than a trachea.
    while high_z + 1 < len(areas_cm2) and areas_cm2[high_z + 1 : high_z + 4].max() > AIRWAY_CM2:
        high_z += 1
    while low_z > 0 and areas_cm2[max(0, low_z - 3) : low_z].max() > AIRWAY_CM2:
        low_z -= 1
    inside = lungs[low_z : high_z + 1]
    low, high = [float(low_z)], [float(high_z + 1)]
    for axes in ((0, 2), (0, 1)):
        used = np.flatnonzero(inside.any(axis=axes))
        low.append(float(used[0]))
        high.append(float(used[-1] + 1))
    return np.array(low), np.array(high)


def _is_gas(part: Mask, coarse: npt.NDArray[np.float32]) -> bool:
    """Whether a component is gas, by the HU of its eroded core."""
    core = coarse[_erode(part)]
    return bool(core.size and core.mean() < GAS_HU)


def _is_little_lung(lungs: Mask, coarse: npt.NDArray[np.float32], millilitres: float) -> bool:
    """Whether a small volume is lung (of a child, or cropped), not gas, by HU."""
    core = coarse[_erode(lungs)]
    if millilitres < LEAST_LUNG_ML or not core.size:
        return False
    return bool(np.median(core) > OUTSIDE_HU)


def _too_little(millilitres: float, minimum_ml: float, flags: tuple[Flag, ...]) -> str:
    """Message: volume found, volume needed, and whether the scan cuts lungs off."""
    cut = ", ".join(
        f"{flag.values['area_cm2']:.0f} cm2 at the {flag.removeprefix('lungs_cut_off_')}"
        for flag in flags
    )
    advice = f"the scan cuts lungs off ({cut}); give one of the whole chest" if cut else ""
    return (
        f"no lungs found: {millilitres:.0f} mL of aerated lung, a chest has at least "
        f"{minimum_ml:.0f} mL, or {LEAST_LUNG_ML:.0f} mL that are denser than gas; "
        f"{advice or 'give a chest CT'}"
    )


def _cut_off(lungs: Mask, spacing: npt.NDArray[np.float64]) -> tuple[Flag, ...]:
    """Flag lungs with a wide area on a face of the grid, unlike a trachea."""
    top_cm2, side_cm2, front_cm2 = (_pixel_cm2(spacing, axis) for axis in range(3))
    areas = lungs.sum(axis=(1, 2)) * top_cm2
    sides = max(lungs[:, :, edge].sum() for edge in (0, -1)) * front_cm2
    sides = max(sides, *(lungs[:, edge].sum() * side_cm2 for edge in (0, -1)))
    ends = {"top": areas[-2:].max(), "bottom": areas[:2].max(), "sides": sides}
    return tuple(
        Flag(f"lungs_cut_off_{end}", area_cm2=float(area))
        for end, area in ends.items()
        if area > CUT_OFF_CM2
    )


def _add_margins(
    low: npt.NDArray[np.float64], high: npt.NDArray[np.float64], seen: SeenChest
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Widen the bounds (coarse voxels) as described in the docstring of the module."""
    spacing = seen.spacing
    aerated = slice(int(low[0]), int(high[0]))
    middle = _middle_mm(seen.body[aerated], float(spacing[2]))
    ends = judge_ends(seen.lungs[aerated], middle / spacing[2])
    low_mm, high_mm = low * spacing, high * spacing
    reach = max(middle - low_mm[2], high_mm[2] - middle)
    bottom, top = _ends_mm(low_mm[0], high_mm[0], ends)
    ribs = _ribs_mm(seen, bottom, top, middle)
    if ribs is not None and not _lie_at_the_ribs(low_mm[2], high_mm[2], ribs):
        bottom, top = _ends_mm(low_mm[0], high_mm[0], Ends(bottom=False, top=False))
    low_mm -= [0, 12, 12]
    high_mm += [0, 12, 12]
    if ribs is None:
        low_mm[2], high_mm[2] = min(low_mm[2], middle - reach), max(high_mm[2], middle + reach)
        high_mm[1] = max(high_mm[1], _back_mm(seen.body[aerated], float(spacing[1])) - 25)
    else:
        low_mm[1] = min(low_mm[1], max(ribs.front, low_mm[1] - 20))
        high_mm[1] = max(high_mm[1], min(ribs.back, high_mm[1] + 60))
        low_mm[2] = min(low_mm[2], max(ribs.right, middle - reach - 30))
        high_mm[2] = max(high_mm[2], min(ribs.left, middle + reach + 30))
    low_mm[0], high_mm[0] = bottom, top
    return low_mm / spacing, high_mm / spacing


def _ends_mm(low: float, high: float, ends: Ends) -> tuple[float, float]:
    """Lowest and highest possible end of the lung, from those of the aerated lung, in mm."""
    whole = ends.bottom and ends.hollow
    if whole and ends.top:
        return low - 30, high + 15
    if whole:
        return low - 30, max(high + 15, low + TALLEST_MM)
    bottom = min(low - 30, high - TALLEST_MM)
    return bottom, high + (15 if ends.top else 45)


def _ribs_mm(seen: SeenChest, bottom: float, top: float, middle: float) -> Ribs | None:
    """Faces of the rib cage in mm, over the lower 55 % of the height between two ends (mm)."""
    step_z, step_y, step_x = seen.spacing.tolist()
    chest = slice(max(0, int(bottom / step_z)), int((bottom + 0.55 * (top - bottom)) / step_z))
    ribs = find_ribs(seen.coarse[chest], seen.body[chest], middle / step_x, step_x)
    if ribs is None:
        return None
    return Ribs(ribs.front * step_y, ribs.back * step_y, ribs.right * step_x, ribs.left * step_x)


def _lie_at_the_ribs(right: float, left: float, ribs: Ribs) -> bool:
    """Whether aerated lung fills the rib cage laterally; else consolidated lung may line it."""
    return (right - ribs.right + ribs.left - left) / 2 <= GAP_MM


def _middle_mm(torso: Mask, spacing_x: float) -> float:
    """Midline of the body in mm; the median over slices is robust to an arm."""
    middles = []
    for plane in torso:
        used = np.flatnonzero(plane.any(axis=0))
        if len(used):
            middles.append((used[0] + used[-1] + 1) / 2)
    return float(np.median(middles)) * spacing_x if middles else torso.shape[2] / 2 * spacing_x


def _back_mm(torso: Mask, spacing_y: float) -> float:
    """Posterior end of the body in mm, as the median over slices."""
    ends = [np.flatnonzero(plane.any(axis=1))[-1] + 1 for plane in torso if plane.any()]
    return float(np.median(ends)) * spacing_y if ends else 0.0
