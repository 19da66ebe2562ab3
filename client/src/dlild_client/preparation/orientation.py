"""Checks the orientation of the header against the anatomy.

A header may flip or mirror a scan: a prone patient entered as supine, slices numbered from the
wrong end, an axis that lost its sign in a conversion. Such a scan looks like any chest, but right
and left, or above and below, are exchanged in all results. So each axis is judged by independent
signs, and flagged only where their sum clearly contradicts the header. The scan is never flipped.

A sign is positive where it agrees with the header, negative where it contradicts it, and 0 where it
is inconclusive. Front and back are judged first, by the spine; then head and feet; then left and
right, in the frame corrected for the first two, so that each axis is judged by itself.

All arrays are coarse, (z, y, x), with z to the head, y to the back and x to the left, as the header
has it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from dlild_client.flags import Flag
from dlild_client.preparation.chest import BONE_HU, judge_ends
from dlild_client.preparation.lungs import SeenChest, label_slices
from dlild_client.preparation.trachea import AIR_HU, LARGEST_CM2, SMALLEST_CM2, extents

DENSE_BONE_HU = 330
"""Denser than enhanced blood, except for a few seconds after the injection."""

SPINE_RADIUS_MM = 15.0
SPINE_CM2 = 1.0
"""Least mean area of bone per slice for a visible spine."""

FRONT_BACK, HEAD_FEET, LEFT_RIGHT = -1.0, -1.5, -1.4
"""Sums of signs at which an axis contradicts the header. Measured as the header should have it, on
three intact real scans and 40 phantoms: front and back 0.8 and more, head and feet 2.3 and more,
left and right -0.9 (lungs of a mirrored mask) and more; 2.0 and more for the real scans."""

CUT_SHARE = 0.3
"""Lungs with this fraction of their widest area in the first or last slice are cut off."""

TABLE_HU = -850
TABLE_MM = 100.0
TABLE_REACH_MM = 80.0

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Spine:
    """Position of the densest bone through all slices, and its amount in front and behind.

    Attributes
    ----------
    y, x : int
        Its centre, in voxels.
    back_cm2, front_cm2 : float
        Largest area of bone within `SPINE_RADIUS_MM` of a point, behind and in front of the middle
        of the lungs, as the mean over the slices with lung.
    sign : float
        Positive where the spine lies behind.
    aside : bool
        Whether the spine lies beside the lungs, neither in front nor behind.
    """

    y: int
    x: int
    back_cm2: float
    front_cm2: float
    sign: float
    aside: bool


@dataclass(frozen=True)
class Orientation:
    """Sum of the signs of each axis: negative where they contradict the header."""

    spine: Spine | None
    front_back: float
    head_feet: float
    left_right: float
    table: str

    @property
    def doubts(self) -> dict[str, str]:
        """Contradictions to the header, by structure."""
        seen = {}
        if self.spine is not None and self.spine.aside:
            seen["spine"] = "at the side"
        elif self.front_back <= FRONT_BACK:
            seen["spine"] = "in front"
        if self.left_right <= LEFT_RIGHT:
            seen["heart_and_liver"] = "on the other side"
        if self.head_feet <= HEAD_FEET:
            seen["apices"] = "below"
        return seen


def flag_orientation(found: Orientation) -> list[Flag]:
    """Flag an orientation that the anatomy contradicts.

    Parameters
    ----------
    found : Orientation
        Of `judge_orientation`.

    Returns
    -------
    list of Flag
        `orientation_doubtful`, with the contradictions and the sums of the signs, or
        `prone_likely`.
    """
    if found.doubts:
        numbers = {
            "front_back": found.front_back,
            "head_feet": found.head_feet,
            "left_right": found.left_right,
        }
        table = {"table": found.table} if found.table else {}
        return [Flag("orientation_doubtful", **found.doubts, **table, **numbers)]
    if found.table == "in front" and found.spine is not None and found.spine.sign > 0:
        return [Flag("prone_likely", table=found.table)]
    return []


def front_first(seen: SeenChest, found: Orientation) -> SeenChest | None:
    """Flip a chest so that its front lies in front, whatever its header says.

    Parameters
    ----------
    seen : SeenChest
    found : Orientation
        Of `judge_orientation`.

    Returns
    -------
    SeenChest or None
        None where the spine lies at the side, so that the front is unknown.
    """
    if found.spine is not None and found.spine.aside:
        return None
    return _turned(seen, 1) if found.front_back <= FRONT_BACK else seen


def judge_orientation(seen: SeenChest) -> Orientation:
    """Judge all three axes.

    Parameters
    ----------
    seen : SeenChest

    Returns
    -------
    Orientation
        0 for an inconclusive axis.
    """
    if not seen.lungs.any():
        return Orientation(None, 0.0, 0.0, 0.0, "")
    table = find_table(seen)
    seen = _cropped(seen)
    spine = find_spine(seen)
    middle = spine.x if spine is not None else int(np.mean(extents(seen.lungs)[2]))
    front_back = 0.0 if spine is None else spine.sign + 0.5 * _recess_sign(seen, middle)
    if front_back < 0:
        seen = _turned(seen, 1)
    head_feet = _head_feet(seen, middle)
    if head_feet < 0:
        seen = _turned(seen, 0)
    left_right = 0.0
    if spine is not None and not spine.aside:
        y = spine.y if front_back >= 0 else seen.lungs.shape[1] - 1 - spine.y
        left_right = _left_right(seen, y, spine.x)
    return Orientation(spine, front_back, head_feet, left_right, table)


def find_spine(seen: SeenChest) -> Spine | None:
    """Find the spine: the bone that runs through every slice, unlike ribs and scapulae.

    At two densities, because contrast medium makes the heart as dense as soft bone.

    Returns
    -------
    Spine or None
        None where there is too little bone.
    """
    planes, rows, columns = extents(seen.lungs)
    pixel_cm2 = float(seen.spacing[1] * seen.spacing[2]) / 100
    reach_y, reach_x = (round(SPINE_RADIUS_MM / s) for s in seen.spacing[1:])
    first_row, first_column = max(0, rows[0] - reach_y), columns[0]
    inside = np.s_[
        planes[0] : planes[-1] + 1,
        first_row : rows[-1] + 1 + reach_y,
        first_column : columns[-1] + 1,
    ]
    middle = (rows[0] + rows[-1]) // 2 - first_row
    coarse, body = seen.coarse[inside], seen.body[inside]
    signs = []
    for hu, speck_cm2 in ((DENSE_BONE_HU, 0.15), (BONE_HU, 0.3)):
        share = ((coarse > hu) & body).mean(axis=0)
        bone = _sums_around(share, reach_y, reach_x) * pixel_cm2
        back, front = float(bone[middle:].max()), float(bone[:middle].max(initial=0))
        signs.append(float(np.clip(np.log2((back + speck_cm2) / (front + speck_cm2)), -2, 2)))
    if max(back, front) < SPINE_CM2:
        return None
    y, x = np.unravel_index(int(bone.argmax()), bone.shape)
    off_y, off_x = abs(y - middle) * 2 / len(rows), abs(2 * x / len(columns) - 1)
    aside = bool(off_y < 0.3 and off_x > 0.4)
    return Spine(int(y + first_row), int(x + first_column), back, front, sum(signs) / 2, aside)


def find_table(seen: SeenChest) -> str:
    """Find the table: a structure outside the body at the same position in nearly every slice.

    Returns
    -------
    str
        `behind`, `in front`, or empty where there is no table, or a structure on both sides.
    """
    planes, _, columns = extents(seen.lungs)
    chest = slice(planes[0], planes[-1] + 1)
    step_y, step_x = seen.spacing[1:].tolist()
    middle, half, reach = int(columns.mean()), int(110 / step_x), int(TABLE_REACH_MM / step_y)
    part = np.s_[chest, :, max(0, middle - half) : middle + half]
    solid = (seen.coarse[part] > TABLE_HU) & ~seen.body[part] & ~seen.inner[part]
    always = solid.mean(axis=0) > 0.9
    body = seen.body[part].mean(axis=0) > 0.5
    behind = before = 0
    for x in range(body.shape[1]):
        used = np.flatnonzero(body[:, x])
        if len(used):
            behind += bool(always[used[-1] + 1 : used[-1] + 1 + reach, x].any())
            before += bool(always[max(0, used[0] - reach) : used[0], x].any())
    if max(behind, before) * step_x < TABLE_MM or min(behind, before) * step_x > 0.3 * TABLE_MM:
        return ""
    return "behind" if behind > before else "in front"


def _sums_around(
    values: npt.NDArray[np.float64], reach_y: int, reach_x: int
) -> npt.NDArray[np.float64]:
    """Box sum around each pixel, by a summed-area table."""
    table = np.pad(values, ((1, 0), (1, 0))).cumsum(axis=0).cumsum(axis=1)
    rows, columns = (np.arange(n) for n in values.shape)
    low_y, high_y = np.maximum(rows - reach_y, 0), np.minimum(rows + reach_y + 1, len(rows))
    low_x, high_x = (
        np.maximum(columns - reach_x, 0),
        np.minimum(columns + reach_x + 1, len(columns)),
    )
    across = table[high_y] - table[low_y]
    return np.asarray(across[:, high_x] - across[:, low_x])


def _cropped(seen: SeenChest) -> SeenChest:
    """Crop to 30 mm around the lungs in y and x."""
    _, rows, columns = extents(seen.lungs)
    (low_y, high_y), (low_x, high_x) = (
        (max(0, int(used[0]) - round(30 / step)), int(used[-1]) + 1 + round(30 / step))
        for used, step in zip((rows, columns), seen.spacing[1:], strict=True)
    )
    return _each(seen, lambda array: array[:, low_y:high_y, low_x:high_x])


def _turned(seen: SeenChest, axis: int) -> SeenChest:
    """Flip one axis of a chest."""
    return _each(seen, lambda array: np.flip(array, axis))


def _each(seen: SeenChest, change: Callable[[npt.NDArray[Any]], npt.NDArray[Any]]) -> SeenChest:
    return replace(
        seen,
        coarse=change(seen.coarse),
        body=change(seen.body),
        inner=change(seen.inner),
        lungs=change(seen.lungs),
        outside=change(seen.outside),
    )


def _sides(lungs: npt.NDArray[Any], middle: int) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Right and left half, both indexed from the midline outwards."""
    return lungs[:, :, : middle + 1][:, :, ::-1], lungs[:, :, middle + 1 :]


def _recess_sign(seen: SeenChest, middle: int) -> float:
    """Position of the lowest 15 mm: posterior in whole lungs, between diaphragm and ribs."""
    rows = extents(seen.lungs)[1]
    centre, half = (rows[0] + rows[-1]) / 2, max(1.0, (rows[-1] - rows[0]) / 2)
    depths = []
    for side in _sides(seen.lungs, middle):
        area = side.sum(axis=(1, 2))
        if area.any():
            lowest = int(np.argmax(area > 0.01 * area.max()))
            y = np.nonzero(side[lowest : lowest + 6])[1]
            depths.append((float(y.mean()) - centre) / half)
    return float(np.clip(2 * np.mean(depths), -1, 1)) if depths else 0.0


def _head_feet(seen: SeenChest, middle: int) -> float:
    """Sum of four signs: trachea above, heart below, domes, narrow apices.

    0 where the scan cuts the lungs off: one end alone is inconclusive.
    """
    areas = seen.lungs.sum(axis=(1, 2))
    if max(areas[:2].max(), areas[-2:].max()) > CUT_SHARE * areas.max():
        return 0.0
    planes = extents(seen.lungs)[0]
    quarter, beyond = len(planes) // 4, int(40 / seen.spacing[0])
    above = _tube_mm(seen, middle, planes[-1] - quarter, planes[-1] + 1 + beyond)
    below = _tube_mm(seen, middle, planes[0] - beyond, planes[0] + quarter)
    trachea = float(np.clip((above - below) / 30, -1.5, 1.5))
    right, left = _sides(seen.lungs, middle)
    both = right.any(axis=2) & left.any(axis=2)
    gap = np.where(both, right.argmax(axis=2) + left.argmax(axis=2) + 1, 0).sum(axis=1)
    half = planes[0] + len(planes) // 2
    lower, upper = float(gap[planes[0] : half].sum()), float(gap[half : planes[-1] + 1].sum())
    heart = float(np.clip(np.log2((lower + 50) / (upper + 50)), -1, 1))
    step = max(1, int(0.12 * len(planes)))
    top, bottom = (_width_mm(seen, z) for z in (planes[-1] - step, planes[0] + step))
    narrow = float(np.clip((bottom - top) / 60, -1, 1))
    return trachea + heart + narrow + _dome_sign(right, left)


def _tube_mm(seen: SeenChest, middle: int, first: int, stop: int) -> float:
    """Length over which air of the size of a trachea lies near the midline."""
    rows = extents(seen.lungs)[1]
    half = round(45 / seen.spacing[2])
    crop = seen.coarse[
        max(0, first) : max(0, stop), rows[0] : rows[-1] + 1, max(0, middle - half) : middle + half
    ]
    pixel_cm2 = float(seen.spacing[1] * seen.spacing[2]) / 100
    count = 0
    for labels in label_slices(crop < AIR_HU) if len(crop) else ():
        sizes = np.bincount(labels.ravel()) * pixel_cm2
        for edge in (0, labels[0], labels[-1], labels[:, 0], labels[:, -1]):
            sizes[edge] = 0
        count += bool(((sizes > SMALLEST_CM2) & (sizes < LARGEST_CM2)).any())
    return count * float(seen.spacing[0])


def _width_mm(seen: SeenChest, z: int) -> float:
    """Width of both lungs together in a slice."""
    used = np.flatnonzero(seen.lungs[z].any(axis=0))
    return float((used[-1] - used[0]) * seen.spacing[2]) if len(used) else 0.0


def _dome_sign(right: Mask, left: Mask) -> float:
    """Whether base and top of each lung rise towards its middle: both are convex upwards."""
    slopes = []
    for side in (right, left):
        under = side.any(axis=0)
        if np.count_nonzero(under) < 50:
            continue
        depth = np.zeros(under.shape)
        inner: Mask = np.asarray(under)
        for _ in range(12):
            depth += inner
            inner = _eroded(inner)
        base = side.argmax(axis=0)[under]
        top = (len(side) - side[::-1].argmax(axis=0))[under]
        slopes += [_correlation(surface, depth[under]) for surface in (base, top)]
    return float(np.clip(2.5 * np.mean(slopes), -1, 1)) if slopes else 0.0


def _eroded(mask: Mask) -> Mask:
    padded = np.pad(mask, 1)
    across = padded[1:-1, :-2] & padded[1:-1, 2:]
    return np.asarray(mask & across & padded[:-2, 1:-1] & padded[2:, 1:-1])


def _correlation(a: npt.NDArray[np.int_], b: npt.NDArray[np.float64]) -> float:
    return float(np.corrcoef(a, b)[0, 1]) if a.std() > 0 and b.std() > 0 else 0.0


def _left_right(seen: SeenChest, y: int, x: int) -> float:
    """Sum of four signs: heart and aorta on the left, liver on the right and high.

    `y`, `x` are those of the spine, which is also the midline. 0 where a side is missing, or where
    aerated lung is incomplete below: consolidated lung may lie under it.
    """
    right, left = _sides(seen.lungs, x)
    planes = extents(seen.lungs)[0]
    if not judge_ends(seen.lungs[planes[0] : planes[-1] + 1], x).bottom:
        return 0.0
    domes = [_dome_height(side) for side in (right, left)]
    # The height of a base below the scan is unknown.
    reaches_end = seen.lungs[:2].any()
    dome = 0.0 if reaches_end else (domes[0] - domes[1]) * float(seen.spacing[0]) / 25
    return (
        _heart_sign(seen, domes, y, x)
        + _aorta_sign(seen, max(domes), y, x)
        + 0.5 * float(np.clip(dome, -1, 1))
        + 1.5 * _liver_sign(seen, x)
    )


def _dome_height(side: Mask) -> float:
    """Slice below which three quarters of the base of a lung lie."""
    return float(np.quantile(side.argmax(axis=0)[side.any(axis=0)], 0.75))


def _liver_sign(seen: SeenChest, x: int) -> float:
    """Compare the tissue under the domes: liver, or stomach, bowel and fat."""
    shares = []
    for coarse, side, patient in zip(
        _sides(seen.coarse, x),
        _sides(seen.lungs, x),
        _sides(seen.body | seen.inner, x),
        strict=True,
    ):
        under = side.any(axis=0)
        base = np.where(under, side.argmax(axis=0), -1)
        under &= (base > 3) & (base >= np.quantile(base[under], 0.4))
        depth = base - np.arange(len(side))[:, None, None]
        near, far = (round(mm / seen.spacing[0]) for mm in (9, 48))
        hu = coarse[(depth >= near) & (depth <= far) & under & patient]
        if hu.size * float(np.prod(seen.spacing)) < 30_000:
            return 0.0
        shares.append(float(np.mean((hu > -30) & (hu < 200))))
    return float(np.clip((shares[0] - shares[1]) / 0.15, -1, 1))


def _heart_sign(seen: SeenChest, domes: list[float], y: int, x: int) -> float:
    """Compare the distance of the lungs from the midline in front, above their domes: heart."""
    front = _rows(seen, y, -125, -45)
    reach = []
    for side, dome in zip(_sides(seen.lungs, x), domes, strict=True):
        top = int(extents(side)[0][-1])
        zone = side[int(dome + 6 / seen.spacing[0]) : int(dome + 0.5 * (top - dome)) + 1, front]
        seen_rows: Mask = np.asarray(zone.any(axis=2))
        wide = seen_rows.sum(axis=1) * seen.spacing[1] > 25
        if np.count_nonzero(wide) < 3:
            return 0.0
        inner = np.where(seen_rows, zone.argmax(axis=2), 0)[wide].sum(axis=1) / seen_rows[wide].sum(
            axis=1
        )
        reach.append(float(np.quantile(inner, 0.9)) * float(seen.spacing[2]))
    return float(np.clip((reach[1] - reach[0]) / 15, -1, 1))


def _aorta_sign(seen: SeenChest, dome: float, y: int, x: int) -> float:
    """Compare the distance of the lungs from the front of the spine: left, the aorta."""
    right, left = _sides(seen.lungs, x)
    top = int(extents(seen.lungs)[0][-1])
    zone = slice(int(dome + 0.1 * (top - dome)), int(dome + 0.75 * (top - dome)) + 1)
    rows = _rows(seen, y, -60, -15)
    right, left = right[zone, rows], left[zone, rows]
    both = right.any(axis=2) & left.any(axis=2)
    if np.count_nonzero(both) < 15:
        return 0.0
    further = (left.argmax(axis=2) + 1 - right.argmax(axis=2))[both].mean() / 2
    return float(np.clip(further * seen.spacing[2] / 5, -1, 1))


def _rows(seen: SeenChest, y: int, first_mm: float, last_mm: float) -> slice:
    """Rows between two distances behind the spine, in mm."""
    step = float(seen.spacing[1])
    return slice(max(0, y + int(first_mm / step)), max(0, y + int(last_mm / step)))
