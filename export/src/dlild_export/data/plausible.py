"""Does a labelled scan make sense? What can be seen without knowing the truth, and no more.

A scan is looked at in voxels of 3 mm, turned to the body's axes (z to the head, y to the back, x to
the left). Lungs are what a threshold finds; labels are held against them as they are and turned
round. A scan that is turned round together with its labels is seen by its spine, which lies behind
the lungs, and by the lungs' apices, which are narrower than their bases. A mirrored one is not
seen: heart and liver lie too variously in ill people to say it with certainty.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from dlild_client.contract import Contract
from dlild_client.volume import Volume
from dlild_export.data.faults import Fault, Kind
from dlild_export.data.labels import IGNORE
from dlild_export.data.scans import LabelledScan

Mask = npt.NDArray[np.bool_]

STEP_MM = 3.0
LUNG_HU = -500.0
LEAST_LUNG_ML = 200.0
"""Less labelled or visible lung than this is none."""

TURNED_GAIN = 0.03
"""Labels that cover more of the visible lung by this share when turned round are turned round. On
phantoms of all severities labels cover 0.96 to 1, turned left to right at least 0.04 less."""

LEAST_RECALL = 0.6
"""Share of the visible lung that must be labelled as lung: the labels may leave out airways."""

DENSEST_LUNG_HU = -400.0
THINNEST_CONSOLIDATION_HU = -700.0
"""Thin sheets of consolidation in thick slices measure -600 HU; aerated lung lies below this."""

EXCHANGED_HU = 30.0
"""Ground-glass that is less dense than lung by more than this is not ground-glass."""

LEAST_CLASS_ML = 5.0
SOFT_TISSUE_HU = (-150.0, 150.0)
NEAR_MM = 15.0
SPECK_ML, LOBES_ML = 0.5, 300.0
"""Lesions between these sizes, with no lung near them, lie outside the lungs. Larger ones may be a
white lung."""


@dataclass(frozen=True)
class View:
    """A labelled scan in coarse voxels along the body's axes.

    Attributes
    ----------
    hu : ndarray of float32, shape (z, y, x)
    labels : ndarray of uint8, shape (z, y, x)
    lungs : ndarray of bool, shape (z, y, x)
        Aerated lung, by threshold.
    origin_mm : ndarray, shape (3,)
        Patient coordinates (x, y, z) of the first voxel.
    """

    hu: npt.NDArray[np.float32]
    labels: npt.NDArray[np.uint8]
    lungs: Mask
    origin_mm: npt.NDArray[np.float64]

    def ml(self, mask: Mask) -> float:
        """Volume of a mask."""
        return float(mask.sum()) * STEP_MM**3 / 1000


def look_at(scan: LabelledScan) -> View:
    """Pick every voxel of a 3 mm lattice, centred on the scan, from image and labels."""
    volume = scan.volume
    corners = np.stack(np.meshgrid(*([0, n - 1] for n in volume.shape), indexing="ij"), -1)
    points = volume.points_mm(corners.reshape(-1, 3))
    low, high = points.min(axis=0), points.max(axis=0)
    count = np.maximum(1, np.floor((high - low) / STEP_MM).astype(int) + 1)
    origin = (low + high) / 2 - (count - 1) * STEP_MM / 2
    indices, inside = _indices(volume, origin, count)
    hu = np.where(inside, volume.array[indices], -1024).astype(np.float32)
    labels = np.where(inside, scan.labels[indices], 0).astype(np.uint8)
    return View(hu, labels, _aerated_lungs(hu), origin)


def _indices(
    volume: Volume, origin: npt.NDArray[np.float64], count: npt.NDArray[np.int_]
) -> tuple[tuple[npt.NDArray[np.intp], ...], Mask]:
    """Voxel of the scan nearest to each lattice point (z, y, x), and whether there is one."""
    to_index = np.linalg.inv(np.asarray(volume.direction) * np.asarray(volume.spacing_mm))
    axes = [o + STEP_MM * np.arange(n) for o, n in zip(origin, count, strict=True)]
    z, y, x = np.meshgrid(axes[2], axes[1], axes[0], indexing="ij", sparse=True)
    offset = np.asarray(volume.origin_mm)
    found = []
    inside = np.ones((len(axes[2]), len(axes[1]), len(axes[0])), bool)
    for axis, (row, size) in enumerate(zip(to_index, volume.shape, strict=True)):
        position = row[0] * (x - offset[0]) + row[1] * (y - offset[1]) + row[2] * (z - offset[2])
        if axis == 0:
            position = volume.slice_indices(position * volume.spacing_mm[0])
        index = np.rint(position).astype(np.intp)
        inside &= (index >= 0) & (index < size)
        found.append(np.clip(index, 0, size - 1))
    return tuple(found), inside


def _aerated_lungs(hu: npt.NDArray[np.float32]) -> Mask:
    """Air that the body encloses, slice by slice, in pieces as large as a lung."""
    air = ndimage.gaussian_filter(hu, 0.6) < LUNG_HU
    in_plane = np.zeros((3, 3, 3), bool)
    in_plane[1] = True
    pieces, _ = ndimage.label(air, in_plane)
    edges = [pieces[:, [0, -1]].ravel(), pieces[:, :, [0, -1]].ravel()]
    outside = np.zeros(int(pieces.max()) + 1, bool)
    outside[np.concatenate(edges)] = True
    outside[0] = True
    inner = ndimage.binary_opening(~outside[pieces])
    pieces, count = ndimage.label(inner)
    if not count:
        return np.zeros_like(air)
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0
    lungs: Mask = (sizes > 0.1 * sizes.max())[pieces]
    return lungs


def judge(view: View, contract: Contract, *, image: str, label: str, case: str) -> list[Fault]:
    """List what is wrong with a scan and its labels.

    Parameters
    ----------
    view : View
        What `look_at` gave.
    contract : Contract
        The classes.
    image, label : str
        Files, for messages.
    case : str
        Name of the case.

    Returns
    -------
    list of Fault
    """
    if view.ml(view.lungs) < LEAST_LUNG_ML:
        reason = (
            f"{view.ml(view.lungs):.0f} mL of air below {LUNG_HU:.0f} HU within a body: no lungs, "
            "or values that are not HU"
        )
        return [Fault(Kind.NOT_HU, image, reason, case)]
    # Dense disease hides lung from the threshold; where the labels are right they show its form.
    lungs = view.lungs | np.isin(view.labels, contract.lung_labels)
    faults = [Fault(k, image, r, case) for k, r in _scan_faults(view, lungs)]
    faults += [Fault(k, label, r, case) for k, r in _label_faults(view, contract)]
    return faults


def _scan_faults(view: View, lungs: Mask) -> list[tuple[Kind, str]]:
    found = []
    body = view.hu[view.hu > -300]
    if body.size:
        tissue = float(np.median(body))
        if not SOFT_TISSUE_HU[0] <= tissue <= SOFT_TISSUE_HU[1]:
            found.append((Kind.NOT_HU, f"soft tissue has a median of {tissue:.0f} HU, not about 0"))
    if _spine_in_front(view.hu, lungs):
        reason = "the spine lies in front of the lungs: the scan is turned front to back"
        found.append((Kind.FLIPPED, reason))
    if _upside_down(lungs):
        reason = "the lungs are wider at the top than at the bottom: the scan is upside down"
        found.append((Kind.FLIPPED, reason))
    return found


def _spine_in_front(hu: npt.NDArray[np.float32], lungs: Mask) -> bool:
    """Midline bone in front of nearly all lung, and hardly any behind it."""
    z, y, x = np.nonzero(lungs)
    front, back = np.quantile(y, [0.1, 0.9])
    middle, reach = 0.5 * (x.min() + x.max()), 35 / STEP_MM
    column = slice(max(0, int(middle - reach)), int(middle + reach) + 1)
    bone = hu[z.min() : z.max() + 1, :, column] > 180
    in_front, behind = bone[:, : int(front)].sum(), bone[:, int(back) + 1 :].sum()
    return bool(in_front * STEP_MM**3 > 20_000 and in_front > 3 * behind)


def _upside_down(lungs: Mask) -> bool:
    """Compare the outer width of both lungs near their two ends."""
    z = np.flatnonzero(lungs.any(axis=(1, 2)))
    height = len(z)
    if height * STEP_MM < 120:
        return False  # half lungs: an end of the scan is not an end of the lungs
    top = _outer_width(lungs[z[int(0.85 * height)] : z[int(0.95 * height)]])
    bottom = _outer_width(lungs[z[int(0.05 * height)] : z[int(0.15 * height)]])
    return bool(bottom > 0 and top > 1.4 * bottom)


def _outer_width(lungs: Mask) -> float:
    across = [np.flatnonzero(plane.any(axis=0)) for plane in lungs]
    widths = [np.ptp(x) for x in across if len(x)]
    return float(np.median(widths)) if widths else 0.0


def _label_faults(view: View, contract: Contract) -> list[tuple[Kind, str]]:
    labelled = np.isin(view.labels, contract.lung_labels)
    if view.ml(labelled) < LEAST_LUNG_ML:
        reason = f"{view.ml(labelled):.0f} mL of lung are labelled, lesions included: an empty mask"
        return [(Kind.EMPTY, reason)]
    covered = labelled | (view.labels == IGNORE)
    turned = _turned(covered, view.lungs)
    if turned:
        return [(Kind.FLIPPED, turned)]
    recall = _share(view.lungs, covered)
    if recall < LEAST_RECALL:
        reason = (
            f"only {100 * recall:.0f} % of the lung that the image shows is labelled as lung; lung "
            "without lesion needs a label too"
        )
        return [(Kind.MISPLACED, reason)]
    return _density_faults(view, contract) + _stray_lesions(view, contract)


def _turned(covered: Mask, lungs: Mask) -> str | None:
    """Say how labels must be turned to fit the lungs, None where they fit as they are."""
    given = _share(lungs, covered)
    ways: dict[str, Callable[[Mask], Mask]] = {
        "left to right": lambda m: m[:, :, ::-1],
        "front to back": lambda m: m[:, ::-1],
        "upside down": lambda m: m[::-1],
        "left to right and front to back": lambda m: m[:, ::-1, ::-1],
        "left to right and upside down": lambda m: m[::-1, :, ::-1],
        "front to back and upside down": lambda m: m[::-1, ::-1],
        "along all three axes": lambda m: m[::-1, ::-1, ::-1],
    }
    if covered.shape[1] == covered.shape[2]:
        ways["with rows and columns exchanged"] = lambda m: m.swapaxes(1, 2)
    fits = {name: _share(lungs, turn(covered)) for name, turn in ways.items()}
    best = max(fits, key=lambda name: fits[name])
    if fits[best] - given <= TURNED_GAIN or fits[best] < LEAST_RECALL:
        return None
    return (
        f"turned {best} they cover {100 * fits[best]:.0f} % of the lung that the image shows, as "
        f"they are {100 * given:.0f} %"
    )


def _share(lungs: Mask, covered: Mask) -> float:
    return float((lungs & covered).sum() / lungs.sum())


def _density_faults(view: View, contract: Contract) -> list[tuple[Kind, str]]:
    """Compare classes by their median HU: what is mislabelled has the density of something else."""
    medians: dict[str, float] = {}
    for kind in contract.classes:
        here = view.labels == kind.label
        if view.ml(here) >= LEAST_CLASS_ML:
            medians[kind.name] = float(np.median(view.hu[here]))
    found = []
    lung = medians.get("lung")
    if lung is not None and lung > DENSEST_LUNG_HU:
        reason = f"voxels labelled lung have a median of {lung:.0f} HU, which is not aerated lung"
        found.append((Kind.MISPLACED, reason))
    haze = medians.get("ground_glass")
    if lung is not None and haze is not None and haze < lung - EXCHANGED_HU:
        reason = (
            f"voxels labelled ground_glass have a median of {haze:.0f} HU, below {lung:.0f} HU of "
            "those labelled lung: are the names exchanged?"
        )
        found.append((Kind.MISPLACED, reason))
    solid = medians.get("consolidation")
    if solid is not None and solid < THINNEST_CONSOLIDATION_HU:
        reason = f"voxels labelled consolidation have a median of {solid:.0f} HU, which is aerated"
        found.append((Kind.MISPLACED, reason))
    return found


def _stray_lesions(view: View, contract: Contract) -> list[tuple[Kind, str]]:
    lesions = np.isin(view.labels, contract.lesion_labels)
    healthy = np.isin(view.labels, contract.lung_labels) & ~lesions
    pieces, count = ndimage.label(lesions, np.ones((3, 3, 3)))
    if not count:
        return []
    far: Any = ndimage.distance_transform_edt(~(view.lungs | healthy)) * STEP_MM > NEAR_MM
    numbers = np.arange(1, count + 1)
    reach = ndimage.minimum(far.astype(np.uint8), pieces, numbers)
    size_ml = np.bincount(pieces.ravel(), minlength=count + 1)[1:] * STEP_MM**3 / 1000
    stray = numbers[(np.asarray(reach) > 0) & (size_ml >= SPECK_ML) & (size_ml < LOBES_ML)]
    if not len(stray):
        return []
    largest = int(stray[np.argmax(size_ml[stray - 1])])
    centre = np.argwhere(pieces == largest).mean(axis=0)[::-1] * STEP_MM + view.origin_mm
    position = ", ".join(f"{v:.0f}" for v in centre)
    reason = (
        f"{size_ml[stray - 1].sum():.0f} mL of lesion in {len(stray)} piece(s) further than "
        f"{NEAR_MM:.0f} mm from any lung, the largest at ({position}) mm (x, y, z)"
    )
    return [(Kind.LESION_OUTSIDE, reason)]
