"""Run an evaluation: every case through the product, figures, and the report."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from dlild_client.errors import InputError
from dlild_export.evaluation.cases import EvaluationCase
from dlild_export.evaluation.document import About, Evaluation, to_json
from dlild_export.evaluation.floor import Floor, RealFloor, real_verdict, verdict
from dlild_export.evaluation.metrics import ALL_LESIONS, ALL_LUNG, compare
from dlild_export.evaluation.page import to_html
from dlild_export.evaluation.real import run_real
from dlild_export.evaluation.served import Served, score_volume
from dlild_export.evaluation.summary import CaseResult, CaseRun, Refusal, stratify, summarise
from dlild_export.evaluation.views import View, worst_views

Progress = Callable[[str], None]
"""Called with one line about each case that is done."""


def run_cases(
    cases: Iterable[EvaluationCase],
    served: Served,
    *,
    tolerance_mm: float = 2.0,
    progress: Progress | None = None,
) -> CaseRun:
    """Score cases as the product would, and compare each with its truth.

    Parameters
    ----------
    cases : iterable of EvaluationCase
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


def _run(
    case: EvaluationCase, served: Served, tolerance_mm: float
) -> tuple[CaseResult, tuple[View, ...]]:
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


def evaluate(
    served: Served,
    cases: Iterable[EvaluationCase],
    *,
    description: str,
    real: Sequence[Path] = (),
    planted_percent: Sequence[float] = (),
    texture: str = "plain",
    floor: Floor | None = None,
    real_floor: RealFloor | None = None,
    tolerance_mm: float = 2.0,
    progress: Callable[[str], None] | None = None,
) -> Evaluation:
    """Evaluate a network.

    Parameters
    ----------
    served : Served
        The network, its engine and contract.
    cases : iterable of EvaluationCase
        With a known truth.
    description : str
        Where the cases come from, for the report.
    real : sequence of pathlib.Path
        Real scans of healthy lungs.
    planted_percent : sequence of float
        DL-ILD to plant in each of them.
    texture : {'plain', 'measured'}
        How fine what is planted is.
    floor, real_floor : optional
        What must be reached; that of a release when left out.
    tolerance_mm : float
        Of the surface Dice.
    progress : callable, optional
        Called with a line about each scan that is done.

    Returns
    -------
    Evaluation
    """
    run = run_cases(cases, served, tolerance_mm=tolerance_mm, progress=progress)
    scans = run_real(
        real, served, planted_percent=planted_percent, texture=texture, progress=progress
    )
    summary = summarise(run.results) if run.results else None
    contract = served.contract
    return Evaluation(
        about=About(
            weights_sha256=served.digest,
            engine=served.engine,
            model=contract.model.name,
            version=contract.model.version,
            cases=description,
            tolerance_mm=tolerance_mm,
        ),
        run=run,
        summary=summary,
        strata=stratify(run.results),
        verdict=verdict(summary, floor, refused=len(run.refused)) if summary else None,
        real=scans,
        real_verdict=real_verdict(scans, real_floor) if real else None,
    )


def write_report(evaluation: Evaluation, served: Served, out: Path, *, failures: int = 4) -> Path:
    """Write `evaluation.json` and `evaluation.html`.

    Parameters
    ----------
    evaluation : Evaluation
    served : Served
        What was evaluated.
    out : pathlib.Path
        Folder; made if need be.
    failures : int
        Failure cases to show, of each kind.

    Returns
    -------
    pathlib.Path
        The page.
    """
    out.mkdir(parents=True, exist_ok=True)
    (out / "evaluation.json").write_text(to_json(evaluation), encoding="utf-8")
    page = out / "evaluation.html"
    page.write_text(to_html(evaluation, served.contract, failures=failures), encoding="utf-8")
    return page
