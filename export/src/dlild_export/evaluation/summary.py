"""From cases to figures: over all cases, and by severity, pattern and slice thickness."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from dlild_export.evaluation.metrics import ALL_LESIONS, Agreement, RegionScore
from dlild_export.evaluation.statistics import Estimate, ScoreAgreement, agree, mean
from dlild_export.evaluation.views import View

SEVERITY_EDGES_PERCENT = (5.0, 15.0, 30.0)
"""Bands of true DL-ILD; scans without any lesion are a band of their own."""

THICKNESS_EDGES_MM = (1.25, 2.0, 3.0)


@dataclass(frozen=True)
class CaseResult:
    """One case that was scored.

    Attributes
    ----------
    name : str
    pattern : str or None
    thickness_mm : float or None
    agreement : Agreement
        With the truth.
    flags : tuple of str
        Doubts of the client.
    windows : int
        Windows that the network saw.
    inference_s : float
    """

    name: str
    pattern: str | None
    thickness_mm: float | None
    agreement: Agreement
    flags: tuple[str, ...]
    windows: int
    inference_s: float

    @property
    def error_points(self) -> float:
        """Predicted minus true DL-ILD."""
        return self.agreement.dl_ild_percent - self.agreement.true_percent


@dataclass(frozen=True)
class Refusal:
    """A case that the product would not score, and its reason."""

    name: str
    reason: str


@dataclass(frozen=True)
class CaseRun:
    """What became of the cases.

    Attributes
    ----------
    results : tuple of CaseResult
    refused : tuple of Refusal
    views : mapping of str to tuple of View
        The worst slices of each scored case, by its name.
    """

    results: tuple[CaseResult, ...]
    refused: tuple[Refusal, ...]
    views: Mapping[str, tuple[View, ...]]


@dataclass(frozen=True)
class RegionSummary:
    """Agreement on one region over cases.

    Attributes
    ----------
    dice, surface_dice : Estimate
        Means over the cases whose truth holds the region.
    volume_error_ml, absolute_volume_error_ml : Estimate
        Means of predicted minus true volume, over the same cases.
    false_ml : Estimate
        Mean volume found in the cases whose truth holds none.
    pooled_dice : float
        Dice of all voxels of all cases together, those of false volumes too.
    """

    dice: Estimate
    surface_dice: Estimate
    volume_error_ml: Estimate
    absolute_volume_error_ml: Estimate
    false_ml: Estimate
    pooled_dice: float


@dataclass(frozen=True)
class Summary:
    """Figures over some cases: DL-ILD, and every region by its name."""

    score: ScoreAgreement
    regions: Mapping[str, RegionSummary]


def summarise(results: Sequence[CaseResult]) -> Summary:
    """Put the figures of cases together.

    Raises
    ------
    ValueError
        There are none.
    """
    if not results:
        raise ValueError("no case was scored: there is nothing to sum up")
    agreements = [r.agreement for r in results]
    return Summary(
        score=agree([a.true_percent for a in agreements], [a.dl_ild_percent for a in agreements]),
        regions={name: _region(name, agreements) for name in agreements[0].regions},
    )


def stratify(results: Sequence[CaseResult]) -> dict[str, dict[str, Summary]]:
    """Sum up by `severity`, `pattern` and `thickness`; cases where it is unknown are left out.

    Returns
    -------
    dict
        Stratum by name, in rising order, for each of the three.
    """
    kinds = {
        "severity": [(severity_band(r.agreement.true_percent), r) for r in results],
        "pattern": [(r.pattern, r) for r in results if r.pattern is not None],
        "thickness": [
            (thickness_band(r.thickness_mm), r) for r in results if r.thickness_mm is not None
        ],
    }
    orders = {"severity": severity_bands(), "pattern": None, "thickness": thickness_bands()}
    strata: dict[str, dict[str, Summary]] = {}
    for kind, named in kinds.items():
        names = orders[kind] or sorted({str(name) for name, _ in named})
        groups = {name: [r for other, r in named if other == name] for name in names}
        strata[kind] = {name: summarise(group) for name, group in groups.items() if group}
    return strata


def severity_bands() -> list[str]:
    """Names of the bands of severity, in rising order."""
    return ["no lesion", *_bands(SEVERITY_EDGES_PERCENT, "%")]


def severity_band(true_percent: float) -> str:
    """Name the band of severity of a true DL-ILD."""
    return severity_bands()[
        0 if true_percent == 0 else 1 + int(np.searchsorted(SEVERITY_EDGES_PERCENT, true_percent))
    ]


def thickness_bands() -> list[str]:
    """Names of the bands of slice thickness, in rising order."""
    return _bands(THICKNESS_EDGES_MM, "mm")


def thickness_band(thickness_mm: float) -> str:
    """Name the band of a slice thickness; the upper edge belongs to its band."""
    return thickness_bands()[int(np.searchsorted(THICKNESS_EDGES_MM, thickness_mm))]


def _bands(edges: tuple[float, ...], unit: str) -> list[str]:
    between = [f"over {low:g} to {high:g} {unit}" for low, high in pairwise(edges)]
    return [f"up to {edges[0]:g} {unit}", *between, f"over {edges[-1]:g} {unit}"]


def _region(name: str, agreements: Sequence[Agreement]) -> RegionSummary:
    scores = [a.regions[name] for a in agreements]
    present = [s for s in scores if s.truth_ml > 0]
    return RegionSummary(
        dice=mean([s.dice for s in present]),
        surface_dice=mean([s.surface_dice for s in present]),
        volume_error_ml=mean([s.error_ml for s in present]),
        absolute_volume_error_ml=mean([abs(s.error_ml) for s in present]),
        false_ml=mean([s.predicted_ml for s in scores if s.truth_ml == 0]),
        pooled_dice=_pooled(scores),
    )


def _pooled(scores: Sequence[RegionScore]) -> float:
    if not any(s.truth_ml for s in scores):
        return float("nan")
    both = sum(s.dice * (s.truth_ml + s.predicted_ml) for s in scores if s.truth_ml)
    return both / sum(s.truth_ml + s.predicted_ml for s in scores)


def worst(results: Iterable[CaseResult], count: int) -> list[CaseResult]:
    """Pick failure cases: the worst by DL-ILD error, then the worst by lesion Dice.

    Returns
    -------
    list of CaseResult
        Up to `count` of each kind, none twice; the largest error first.
    """
    known = list(results)
    by_error = sorted(known, key=lambda r: -abs(r.error_points))[:count]
    ill = [r for r in known if r.agreement.regions[ALL_LESIONS].truth_ml > 0]
    by_dice = sorted(ill, key=lambda r: r.agreement.regions[ALL_LESIONS].dice)[:count]
    return by_error + [r for r in by_dice if r not in by_error]
