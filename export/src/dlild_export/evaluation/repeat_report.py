"""The report of repeatability: one page and one JSON file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dlild_export.evaluation.document import plain
from dlild_export.evaluation.page import environment
from dlild_export.evaluation.pictures import spread
from dlild_export.evaluation.reacquire import CONDITIONS, Measurement
from dlild_export.evaluation.repeats import Repeatability, repeatability
from dlild_export.evaluation.run import Refusal
from dlild_export.evaluation.served import Served
from dlild_export.evaluation.summary import severity_band, severity_bands

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Condition:
    """What one condition does to DL-ILD.

    Attributes
    ----------
    name : str
    changes : tuple of str
        What changes from scan to scan.
    measured : Repeatability
        Over all patients.
    bands : dict of str to Repeatability
        By severity.
    truth_within_sd : float
        The same of the truth: what re-sampling the phantom itself moves, near 0.
    mean_error : float
        Measured minus true, in points.
    """

    name: str
    changes: tuple[str, ...]
    measured: Repeatability
    bands: dict[str, Repeatability]
    truth_within_sd: float
    mean_error: float


def sum_up(measurements: Sequence[Measurement]) -> list[Condition]:
    """Sum up measurements by condition, and within it by severity."""
    conditions = []
    for name, changes in CONDITIONS.items():
        chosen = [m for m in measurements if m.condition == name]
        if not chosen:
            continue
        bands = {band: [m for m in chosen if _band(m, chosen) == band] for band in severity_bands()}
        truth = repeatability(_groups(chosen, "true_percent"))
        conditions.append(
            Condition(
                name=name,
                changes=tuple(sorted(changes)),
                measured=repeatability(_groups(chosen, "dl_ild_percent")),
                bands={
                    band: repeatability(_groups(group, "dl_ild_percent"))
                    for band, group in bands.items()
                    if group
                },
                truth_within_sd=truth.within_sd.value,
                mean_error=float(np.mean([m.dl_ild_percent - m.true_percent for m in chosen])),
            )
        )
    return conditions


def write_repeatability(
    measurements: Sequence[Measurement],
    refused: Sequence[Refusal],
    served: Served,
    description: str,
    out: Path,
) -> Path:
    """Write `repeatability.json` and `repeatability.html`.

    Parameters
    ----------
    measurements : sequence of Measurement
    refused : sequence of Refusal
        Scans that could not be scored.
    served : Served
        What was tried.
    description : str
        Patients and scans, in words.
    out : pathlib.Path
        Folder; made if need be.

    Returns
    -------
    pathlib.Path
        The page.
    """
    conditions = sum_up(measurements)
    model = served.contract.model
    about: dict[str, Any] = {
        "weights_sha256": served.digest,
        "engine": served.engine,
        "model": model.name,
        "version": model.version,
        "cases": description,
    }
    out.mkdir(parents=True, exist_ok=True)
    document = {
        "schema_version": SCHEMA_VERSION,
        "about": about,
        "conditions": conditions,
        "measurements": [asdict(m) for m in measurements],
        "not_scored": list(refused),
        "research_use_only": True,
    }
    text = json.dumps(plain(document), indent=2, allow_nan=False) + "\n"
    (out / "repeatability.json").write_text(text, encoding="utf-8")
    page = out / "repeatability.html"
    template = environment().get_template("repeatability.html.j2")
    page.write_text(
        template.render(
            about=about,
            conditions=conditions,
            bands=[b for b in severity_bands() if any(b in c.bands for c in conditions)],
            whole=next((c for c in conditions if c.name == "all"), None),
            alike=next((c for c in conditions if c.name == "same protocol"), None),
            plot=spread(
                [
                    (m.patient, m.true_percent, m.dl_ild_percent)
                    for m in measurements
                    if m.condition == "all"
                ]
            ),
            refused=refused,
        ),
        encoding="utf-8",
    )
    return page


def _groups(measurements: Sequence[Measurement], field: str) -> list[list[float]]:
    names = sorted({m.patient for m in measurements})
    return [[getattr(m, field) for m in measurements if m.patient == name] for name in names]


def _band(measurement: Measurement, chosen: Sequence[Measurement]) -> str:
    """Band of the patient: the mean truth of its scans, which may move by a voxel or two."""
    own = [m.true_percent for m in chosen if m.patient == measurement.patient]
    return severity_band(float(np.mean(own)))
