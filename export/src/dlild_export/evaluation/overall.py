"""The whole of an evaluation: cases and real scans through the network, and the report of both."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from dlild_export.evaluation.cases import Case
from dlild_export.evaluation.document import About, Evaluation, to_json
from dlild_export.evaluation.floor import Floor, RealFloor, real_verdict, verdict
from dlild_export.evaluation.page import to_html
from dlild_export.evaluation.real import run_real
from dlild_export.evaluation.run import run_cases
from dlild_export.evaluation.served import Served
from dlild_export.evaluation.summary import stratify, summarise


def evaluate(
    served: Served,
    cases: Iterable[Case],
    *,
    description: str,
    real: Sequence[Path] = (),
    planted_percent: Sequence[float] = (),
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
    cases : iterable of Case
        With a known truth.
    description : str
        Where the cases come from, for the report.
    real : sequence of pathlib.Path
        Real scans of healthy lungs.
    planted_percent : sequence of float
        DL-ILD to plant in each of them.
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
    scans = run_real(real, served, planted_percent=planted_percent, progress=progress)
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
