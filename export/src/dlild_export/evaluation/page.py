"""An evaluation as one HTML page that opens offline: pictures and styles are inside."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from dlild_client.contract import Contract
from dlild_export.evaluation.document import Evaluation
from dlild_export.evaluation.metrics import ALL_LESIONS, ALL_LUNG, regions_of
from dlild_export.evaluation.pictures import bland_altman, case_picture, scatter
from dlild_export.evaluation.real import RealResult
from dlild_export.evaluation.statistics import Estimate
from dlild_export.evaluation.summary import CaseResult, worst


@dataclass(frozen=True)
class Picture:
    """A picture of a case with the words over it; `address` is a `data:` address."""

    title: str
    detail: str
    address: str
    columns: tuple[str, ...]


def to_html(evaluation: Evaluation, contract: Contract, *, failures: int = 4) -> str:
    """Return the text of `evaluation.html`.

    Parameters
    ----------
    evaluation : Evaluation
    contract : Contract
        Titles and colours of the classes.
    failures : int
        Cases to show, of each kind.
    """
    return (
        environment()
        .get_template("evaluation.html.j2")
        .render(
            e=evaluation,
            titles=_titles(contract),
            lesions=[c for c in contract.classes if c.lesion],
            lung_colour=next(
                (c.colour for c in contract.classes if c.lung and not c.lesion), (0,) * 3
            ),
            plots=_plots(evaluation.run.results, evaluation),
            failures=[
                _failure(r, evaluation, contract) for r in worst(evaluation.run.results, failures)
            ],
            real=[picture for r in evaluation.real.results for picture in _real(r, contract)],
            all_lung=ALL_LUNG,
            all_lesions=ALL_LESIONS,
        )
    )


def environment() -> Environment:
    """Return the templates, with filters that write figures."""
    made = Environment(
        loader=PackageLoader("dlild_export.evaluation"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"number": number, "interval": interval, "plusminus": signed}
    return made


def number(value: float, decimals: int = 2) -> str:
    """Write a figure; a dash where it has no value."""
    if not math.isfinite(value):
        return "\N{EN DASH}"
    text = f"{value:.{decimals}f}".replace("-", "\N{MINUS SIGN}")
    return text if float(f"{value:.{decimals}f}") else f"{0:.{decimals}f}"


def signed(value: float, decimals: int = 2) -> str:
    """Write a figure with its sign."""
    text = number(value, decimals)
    return f"+{text}" if math.isfinite(value) and float(f"{value:.{decimals}f}") > 0 else text


def interval(estimate: Estimate, decimals: int = 2) -> str:
    """Write the interval of an estimate; nothing where it has none."""
    if not math.isfinite(estimate.low):
        return ""
    return f"{number(estimate.low, decimals)} to {number(estimate.high, decimals)}"


def _titles(contract: Contract) -> dict[str, str]:
    named = {c.name: c.title for c in contract.classes}
    unions = {ALL_LUNG: "All lung, lesions included", ALL_LESIONS: "All lesions"}
    return {name: unions.get(name) or named[name] for name in regions_of(contract)}


def _plots(results: Sequence[CaseResult], evaluation: Evaluation) -> dict[str, str]:
    known = [r for r in results if math.isfinite(r.agreement.dl_ild_percent)]
    if not known or evaluation.summary is None:
        return {}
    true = [r.agreement.true_percent for r in known]
    measured = [r.agreement.dl_ild_percent for r in known]
    groups = [r.pattern or "unknown pattern" for r in known]
    return {
        "scatter": scatter(true, measured, groups),
        "bland_altman": bland_altman(true, measured, groups, evaluation.summary.score.limits),
    }


def _failure(result: CaseResult, evaluation: Evaluation, contract: Contract) -> Picture:
    agreement = result.agreement
    about = [result.pattern or "", f"{result.thickness_mm:g} mm" if result.thickness_mm else ""]
    lesion = agreement.regions[ALL_LESIONS].dice
    return Picture(
        title=", ".join(part for part in (result.name, *about) if part),
        detail=(
            f"DL-ILD {number(agreement.dl_ild_percent, 1)} %, true "
            f"{number(agreement.true_percent, 1)} % ({signed(result.error_points, 1)} points); "
            f"Dice of all lung {number(agreement.regions[ALL_LUNG].dice, 3)}, of all lesions "
            f"{number(lesion, 3)}"
        ),
        address=case_picture(evaluation.run.views[result.name], contract),
        columns=("CT", "truth", "prediction"),
    )


def _real(result: RealResult, contract: Contract) -> list[Picture]:
    pictures = [
        Picture(
            title=f"{result.name}, as it is",
            detail=f"DL-ILD {number(result.dl_ild_percent, 1)} %",
            address=case_picture(result.views, contract),
            columns=("CT", "prediction"),
        )
    ]
    if result.planted:
        p: Any = max(result.planted, key=lambda planted: abs(planted.error_points))
        pictures.append(
            Picture(
                title=f"{result.name}, {p.true_percent:.0f} % planted ({p.pattern}), the worst",
                detail=(
                    f"DL-ILD {number(p.dl_ild_percent, 1)} %, Dice of all lesions "
                    f"{number(p.lesion_dice, 3)}"
                ),
                address=case_picture(p.views, contract),
                columns=("CT", "truth", "prediction"),
            )
        )
    return pictures
