"""Densitometry: statistics of the HU of the lung, beside the score.

They need no network but its lung mask, and the literature has them: so a reader sees when index and
density disagree. They are measured on the voxels as they were scanned, not on the model grid, whose
averaging changes the tails of the histogram.

==========================  ========================================================================
mean lung density           mean HU
SD, skewness, kurtosis      moments of the histogram; 0 and 3 for a normal distribution [1]_
percentiles                 the smallest HU at or below which q % of the voxels lie; the 15th: [2]_
high-attenuation area       share of voxels above -600 and up to -250 HU [3]_
low-attenuation area        share of voxels below -950 HU [4]_
lung mass                   sum of (HU + 1000) / 1000 g/mL x volume of the voxel [5]_
==========================  ========================================================================

References
----------
.. [1] A. C. Best et al., Quantitative CT indexes in idiopathic pulmonary fibrosis: relationship
   with physiologic impairment, Radiology 228 (2003) 407-414.
.. [2] D. G. Parr et al., Validation of computed tomographic lung densitometry for monitoring
   emphysema in alpha1-antitrypsin deficiency, Thorax 61 (2006) 485-490.
.. [3] D. J. Lederer et al., Cigarette smoking is associated with subclinical parenchymal lung
   disease: the MESA-Lung study, Am J Respir Crit Care Med 180 (2009) 407-414.
.. [4] P. A. Gevenois et al., Comparison of computed density and macroscopic morphometry in
   pulmonary emphysema, Am J Respir Crit Care Med 152 (1995) 653-657.
.. [5] H. O. Coxson et al., A quantification of the lung surface area in emphysema using computed
   tomography, Am J Respir Crit Care Med 159 (1999) 851-856.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dlild_client.contract import Contract
from dlild_client.contract.score import SLICE_LUNG_MM2, ZONES, zone_planes
from dlild_client.flags import Flag
from dlild_client.preparation.native import labelled_box, sample, stack_of
from dlild_client.slabs import pieces
from dlild_client.volume import Volume

LOWEST_HU, HIGHEST_HU = -1024, 3071
"""Range of the histogram; what lies beyond counts as its ends."""
HIGH_ATTENUATION_HU = (-600, -250)
"""Voxels above the first and up to the second."""
LOW_ATTENUATION_HU = -950
DISAGREE_PERCENT, DISAGREE_RATIO = 15.0, 3.0
"""Index and high-attenuation area disagree where one is at least the first, and more than this many
times the other. Vessels and walls of airways alone give 4 to 6 %."""
PERCENTILES = (5, 10, 15, 50, 90, 95)

Histogram = npt.NDArray[np.float64]

_BINS = HIGHEST_HU - LOWEST_HU + 1
_HU = np.arange(LOWEST_HU, HIGHEST_HU + 1, dtype=np.float64)
_REGIONS = 9  # thirds of the height, by right halves of a plane
_VOXELS_AT_ONCE = 1 << 19  # what is made of them stays in the cache


@dataclass(frozen=True)
class LungDensity:
    """Densitometry of the lung, or of a zone; None where it has no voxel.

    Attributes
    ----------
    volume_ml : float
        Of the scanned voxels in the mask; differs from that on the model grid by what its voxels
        round.
    mean_hu, sd_hu, skewness, kurtosis : float or None
    percentiles_hu : mapping of str to int or None
        Keys are the percentages of `PERCENTILES`.
    high_attenuation_percent, low_attenuation_percent : float or None
    mass_g : float
    """

    volume_ml: float
    mean_hu: float | None
    sd_hu: float | None
    skewness: float | None
    kurtosis: float | None
    percentiles_hu: Mapping[str, int | None]
    high_attenuation_percent: float | None
    low_attenuation_percent: float | None
    mass_g: float


@dataclass(frozen=True)
class Densitometry:
    """Densitometry of all lung, lesions included, and of its zones."""

    lung: LungDensity
    zones: Mapping[str, LungDensity]


def measure_density(native: Volume, labels: Volume, contract: Contract) -> Densitometry:
    """Measure the density of the lung on the scanned voxels.

    Parameters
    ----------
    native : Volume
        HU as they were scanned; `PreparedScan.native`.
    labels : Volume
        Label map on the model grid. A scanned voxel belongs to the lung, and to a zone, as the
        nearest voxel of the grid does.
    contract : Contract
        Labels that count as lung.

    Returns
    -------
    Densitometry
    """
    regions = _histograms(native, labels, contract)
    voxel_ml = native.voxel_volume_mm3 / 1000
    by_third = regions.reshape(3, 3, _BINS)
    right = by_third[:, 2] + by_third[:, 1] / 2
    left = by_third[:, 0] + by_third[:, 1] / 2
    return Densitometry(
        describe(regions.sum(axis=0), voxel_ml),
        {
            name: describe(histogram, voxel_ml)
            for name, histogram in zip(ZONES, (*right, *left), strict=True)
        },
    )


def find_disagreement(dl_ild_percent: float, density: Densitometry) -> tuple[Flag, ...]:
    """Flag a score that the density of the lung contradicts.

    Both are shares of the same lung, but not of the same voxels: fine reticulation and faint
    ground-glass lie below -600 HU, consolidation above -250, vessels between. So only gross
    disagreement is flagged: `DISAGREE_PERCENT`, `DISAGREE_RATIO`.
    """
    high = density.lung.high_attenuation_percent
    if high is None:
        return ()
    least, most = sorted((dl_ild_percent, high))
    if most < DISAGREE_PERCENT or most <= DISAGREE_RATIO * least:
        return ()
    return (
        Flag(
            "density_disagrees",
            dl_ild_percent=dl_ild_percent,
            high_attenuation_percent=high,
            mean_hu=density.lung.mean_hu,
        ),
    )


def describe(histogram: Histogram, voxel_ml: float) -> LungDensity:
    """Describe a histogram of HU.

    Parameters
    ----------
    histogram : ndarray, shape (HIGHEST_HU - LOWEST_HU + 1,)
        Voxels of each HU; fractions count.
    voxel_ml : float
        Volume of a voxel.

    Returns
    -------
    LungDensity
    """
    count = float(histogram.sum())
    mass_g = float((histogram * (_HU + 1000)).sum() / 1000 * voxel_ml)
    if not count:
        empty = dict.fromkeys(map(str, PERCENTILES))
        return LungDensity(0.0, None, None, None, None, empty, None, None, mass_g)
    mean = float((histogram * _HU).sum() / count)
    second, third, fourth = (
        float((histogram * (_HU - mean) ** power).sum() / count) for power in (2, 3, 4)
    )
    below = np.cumsum(histogram)
    low, high = HIGH_ATTENUATION_HU
    spread = second > 0
    return LungDensity(
        volume_ml=count * voxel_ml,
        mean_hu=mean,
        sd_hu=second**0.5,
        skewness=third / second**1.5 if spread else None,
        kurtosis=fourth / second**2 if spread else None,
        percentiles_hu={
            str(q): LOWEST_HU + int(np.searchsorted(below, q / 100 * count)) for q in PERCENTILES
        },
        high_attenuation_percent=_percent(histogram, (low < _HU) & (high >= _HU)),
        low_attenuation_percent=_percent(histogram, _HU < LOW_ATTENUATION_HU),
        mass_g=mass_g,
    )


def _percent(histogram: Histogram, chosen: npt.NDArray[np.bool_]) -> float:
    return float(100 * histogram[chosen].sum() / histogram.sum())


def _histograms(native: Volume, labels: Volume, contract: Contract) -> Histogram:
    """Histograms of HU by third of the height and right halves of the plane, shape (9, bins)."""
    regions = sample(labels.with_array(_regions(labels, contract)), stack_of(native))
    slices, rows, columns = regions.box
    weights = _slice_weights(native)[slices]
    out = np.zeros((_REGIONS + 1) * _BINS)
    first_bins = np.arange(_REGIONS + 1) * _BINS - LOWEST_HU
    even = bool((weights == 1).all())
    for start, piece in pieces(native.array[slices]):
        inside = piece[:, rows, columns]
        group = max(1, _VOXELS_AT_ONCE // max(1, inside[0].size)) if even else 1
        for first in range(0, len(inside), group):
            hu = inside[first : first + group]
            at = regions.array[start + first : start + first + len(hu)]
            lung = at > 0
            index = np.clip(hu[lung], LOWEST_HU, HIGHEST_HU) + first_bins[at[lung]]
            out += np.bincount(index, minlength=len(out)) * weights[start + first]
    return out.reshape(_REGIONS + 1, _BINS)[1:]


def _regions(labels: Volume, contract: Contract) -> npt.NDArray[np.uint8]:
    """Region of each voxel of the grid, from 1; 0 outside the lung."""
    out = np.zeros(labels.shape, dtype=np.uint8)
    first, stop = labelled_box(labels.array)
    box = tuple(slice(a, b) for a, b in zip(first, stop, strict=True))
    lung = np.isin(labels.array[box], contract.lung_labels)
    least = SLICE_LUNG_MM2 / (labels.spacing_mm[1] * labels.spacing_mm[2])
    thirds, right_halves = zone_planes(lung.sum(axis=1, dtype=np.int32), least)
    region = (1 + 3 * thirds[:, None] + right_halves[None, :]).astype(np.uint8)
    np.multiply(lung, region[:, None, :], out=out[box])
    return out


def _slice_weights(native: Volume) -> npt.NDArray[np.float64]:
    """Length that each slice stands for, over the mean step: 1 where the steps are even."""
    if native.slice_positions_mm is None:
        return np.ones(len(native.array))
    steps = np.diff(native.slice_positions_mm)
    halves = np.concatenate([steps[:1], steps, steps[-1:]]) / 2
    return np.asarray((halves[1:] + halves[:-1]) / native.spacing_mm[0], dtype=np.float64)
