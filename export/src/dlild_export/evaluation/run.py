"""An evaluation: every case through the network, and what all of them say together."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from dlild_client.errors import InputError
from dlild_export.evaluation.cases import Case
from dlild_export.evaluation.metrics import ALL_LESIONS, ALL_LUNG, compare
from dlild_export.evaluation.score import score_volume
from dlild_export.evaluation.served import Served
from dlild_export.evaluation.summary import CaseResult
from dlild_export.evaluation.views import View, worst_views

Progress = Callable[[str], None]
"""Called with one line about each case that is done."""


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


def run_cases(
    cases: Iterable[Case],
    served: Served,
    *,
    tolerance_mm: float = 2.0,
    progress: Progress | None = None,
) -> CaseRun:
    """Score cases as the product would, and compare each with its truth.

    Parameters
    ----------
    cases : iterable of Case
        Taken one at a time; only figures and two slices of each are kept.
    served : Served
        The network, its engine and contract.
    tolerance_mm : float
        Of the surface Dice.
    progress : callable, optional

    Returns
    -------
    CaseRun
        A case that the client refuses is listed, and never ends the run.
    """
    results: list[CaseResult] = []
    refused: list[Refusal] = []
    views: dict[str, tuple[View, ...]] = {}
    for case in cases:
        try:
            result, views[case.name] = _run(case, served, tolerance_mm)
        except InputError as error:
            refused.append(Refusal(case.name, str(error)))
            line = f"{case.name}: not scored: {error}"
        else:
            results.append(result)
            line = describe(result)
        if progress:
            progress(line)
    return CaseRun(tuple(results), tuple(refused), views)


def describe(result: CaseResult) -> str:
    """Say in one line how a case went."""
    agreement = result.agreement
    lesions = agreement.regions[ALL_LESIONS].dice
    line = (
        f"{result.name}: DL-ILD {agreement.dl_ild_percent:.1f} % (true "
        f"{agreement.true_percent:.1f} %), Dice of all lung {agreement.regions[ALL_LUNG].dice:.3f}"
    )
    return line if math.isnan(lesions) else f"{line}, of all lesions {lesions:.3f}"


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


def _run(case: Case, served: Served, tolerance_mm: float) -> tuple[CaseResult, tuple[View, ...]]:
    contract = served.contract
    scored = score_volume(case.grid, served.run, contract)
    if scored.grid.shape != case.truth.shape:
        raise InputError(
            f"truth has shape {case.truth.shape} and spacing {case.grid.spacing_mm} mm, the "
            f"contract's grid {scored.grid.shape} and {contract.grid.spacing_mm} mm"
        )
    spacing_mm = contract.grid.spacing_mm
    try:
        agreement = compare(case.truth, scored.labels, contract, spacing_mm, tolerance_mm)
    except ValueError as error:
        raise InputError(str(error)) from None
    result = CaseResult(
        name=case.name,
        pattern=case.pattern,
        thickness_mm=case.thickness_mm,
        agreement=agreement,
        flags=scored.flags,
        windows=scored.windows,
        inference_s=scored.inference_s,
    )
    views = worst_views(scored.grid.array, case.truth, scored.labels, contract, spacing_mm)
    return result, views
