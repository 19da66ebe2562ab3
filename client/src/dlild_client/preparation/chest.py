"""Estimates the extent of consolidated lung from the ribs and the shape of the aerated lung.

Consolidated lung has the HU of muscle and liver, so that a threshold misses it. But the ribs bound
the lungs on all sides, and a whole lung ends in a thin wedge behind the diaphragm below, and in a
dome above: where aerated lung ends bluntly, consolidated lung follows.

All arrays are coarse, (z, y, x), with z to the head and y to the back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Mask = npt.NDArray[np.bool_]

BONE_HU = 180
SPINE_MM = 35.0
"""Bone closer to the midline is spine or sternum, not the back of the ribs."""
WEDGE_SHARES = 0.05, 0.40
"""Areas of the slices that are judged, as fractions of the widest slice above them."""
WEDGE_FILL = 0.70
"""Share of its convex hull that the wedge of a whole lung fills at most: 0.16 to 0.63 in both lungs
of 20 masks, 11 scans and 2 phantoms; the rest of a lung that is solid below a plane fills 0.4 to
0.94."""


@dataclass(frozen=True)
class Ends:
    """Whether the aerated lungs of both sides are complete at each end.

    Below, `bottom` says whether they taper behind, and `hollow` whether the dome of the diaphragm
    hollows them there: it does not in most lungs that are solid below a plane, nor in a few whole
    ones, such as one with an atelectasis.
    """

    bottom: bool
    top: bool
    hollow: bool = True


def judge_ends(lungs: Mask, middle_x: float) -> Ends:
    """Judge whether aerated lungs are complete below and above.

    Parameters
    ----------
    lungs : ndarray of bool, shape (z, y, x)
        Aerated lungs, from their lowest slice to their highest, in slices of about 3 mm.
    middle_x : float
        Plane between the sides, in voxels.

    Returns
    -------
    Ends
        False also where one side is missing: it may be consolidated.

    Notes
    -----
    Below, a whole lung ends in the wedge between diaphragm and ribs, in the rear of the chest: one
    slice above its end it has at most 15 % of its widest slice, three slices above it 30 %. Solid
    lower lobes leave a blunt end, or one in front. What is left above a plane that falls to the
    back tapers behind too, but the dome of the diaphragm hollows a whole lung: there its slices are
    crescents. Above, in its dome, it has at most 25 and 45 %.
    """
    middle = round(middle_x)
    sides = (lungs[:, :, :middle], lungs[:, :, middle:])
    areas = [side.sum(axis=(1, 2)) for side in sides]
    widest = [int(a.max(initial=0)) for a in areas]
    if min(widest) < 0.2 * max(widest):
        return Ends(bottom=False, top=False)
    return Ends(
        bottom=all(
            _tapers(area, 0.15, 0.30) and _ends_behind(side)
            for side, area in zip(sides, areas, strict=True)
        ),
        top=all(_tapers(area[::-1], 0.25, 0.45) for area in areas),
        hollow=all(_is_hollow(side, area) for side, area in zip(sides, areas, strict=True)),
    )


def _tapers(area: npt.NDArray[np.int_], near: float, far: float) -> bool:
    """Whether areas grow slowly: fractions of the widest, one and three slices from the first."""
    first = _first_slice(area)
    shares = area[first : first + 4] / area.max()
    return len(shares) == 4 and bool(shares[1] <= near and shares[3] <= far)


def _first_slice(area: npt.NDArray[np.int_]) -> int:
    """First slice with more than 1 % of the widest area."""
    return int(np.argmax(area > 0.01 * area.max()))


def _ends_behind(side: Mask) -> bool:
    """Whether the lowest 15 mm lie behind the middle of this lung."""
    rows = np.flatnonzero(side.any(axis=(0, 2)))
    first = _first_slice(side.sum(axis=(1, 2)))
    y = np.nonzero(side[first : first + 5])[1]
    return bool((y.mean() - rows[0]) > 0.55 * (rows[-1] - rows[0]))


def _is_hollow(side: Mask, area: npt.NDArray[np.int_]) -> bool:
    """Whether the slices near the lower end are crescents round the dome of the diaphragm."""
    low, high = (share * area.max() for share in WEDGE_SHARES)
    below = np.arange(len(area)) < np.argmax(area)
    judged = np.flatnonzero(below & (area > low) & (area < high))
    fills = [area[z] / hull_area(side[z]) for z in judged]
    return not fills or bool(np.median(fills) <= WEDGE_FILL)


def hull_area(plane: Mask) -> float:
    """Area of the convex hull of the voxels of a slice, in voxels.

    By the monotone chain (Andrew, 1979) over the corners of the first and last voxel of each row.
    """
    rows = np.flatnonzero(plane.any(axis=1))
    first = np.argmax(plane[rows], axis=1)
    last = plane.shape[1] - np.argmax(plane[rows, ::-1], axis=1)
    corners = sorted(
        {
            (int(y) + edge, int(x))
            for y, *ends in zip(rows, first, last, strict=True)
            for x in ends
            for edge in (0, 1)
        }
    )
    hull = [*_chain(corners), *_chain(corners[::-1])]
    following = hull[1:] + hull[:1]
    return (
        abs(sum(float(a[0] * b[1] - a[1] * b[0]) for a, b in zip(hull, following, strict=True))) / 2
    )


def _chain(points: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return one side of the hull of sorted points, without its end."""
    chain: list[tuple[int, int]] = []
    for point in points:
        while len(chain) > 1 and _turn(chain[-2], chain[-1], point) <= 0:
            chain.pop()
        chain.append(point)
    return chain[:-1]


def _turn(a: tuple[int, int], b: tuple[int, int], c: tuple[int, int]) -> int:
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])


@dataclass(frozen=True)
class Ribs:
    """Outer faces of the outermost bone of the rib cage, in coarse voxels."""

    front: float
    back: float
    right: float
    left: float


def find_ribs(
    coarse: npt.NDArray[np.float32], body: Mask, middle_x: float, spacing_x: float
) -> Ribs | None:
    """Find the faces of the rib cage in the lower part of the chest, below the shoulder blades.

    Parameters
    ----------
    coarse : ndarray, shape (z, y, x)
        HU of the slices to search.
    body : ndarray of bool, shape (z, y, x)
    middle_x : float
        Plane between the sides, in voxels.
    spacing_x : float
        In mm.

    Returns
    -------
    Ribs or None
        None where too little bone is visible. Quantiles over the slices: 40 % to the sides, so that
        a scapula in some of them does not count; 10 % in front and behind.
    """
    bone = (coarse > BONE_HU) & body
    columns = _seen_along(bone, 1)
    x = np.arange(bone.shape[2]) + 0.5
    lateral = np.abs(x - middle_x) * spacing_x > SPINE_MM
    right, left = (columns[:, lateral & side] for side in (x < middle_x, x > middle_x))
    both = right.any(axis=1) & left.any(axis=1)
    if np.count_nonzero(both) < 5:
        return None
    columns, rows = columns[both], _seen_along(bone[both], 2)
    behind = _seen_along(bone[both][:, :, lateral], 2)
    width, height = columns.shape[1], rows.shape[1]
    return Ribs(
        front=float(np.quantile(np.argmax(rows, axis=1), 0.1)),
        back=float(np.quantile(height - np.argmax(behind[:, ::-1], axis=1), 0.9)),
        right=float(np.quantile(np.argmax(columns, axis=1), 0.4)),
        left=float(np.quantile(width - np.argmax(columns[:, ::-1], axis=1), 0.6)),
    )


def _seen_along(bone: Mask, axis: int) -> Mask:
    return np.asarray(bone.any(axis=axis), dtype=np.bool_)
