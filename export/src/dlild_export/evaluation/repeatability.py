"""The same phantom patient scanned again: one thing at a time changes, or several together.

Anatomy and lesions are held. What may change between two scans of one patient:

============  ====================================================================================
noise         another noise of the same strength
kernel        from soft (-0.7) to sharp (1.0)
thickness     slices of 1 to 3 mm
position      up to half a voxel to the side, up to half a slice along the body
inspiration   lung volume 90 to 110 % of the first
============  ====================================================================================

`same protocol` lets noise, position and inspiration change: a scanner that is set alike. `all`
lets everything change.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from dlild_client.errors import InputError
from dlild_client.volume import Volume
from dlild_export.evaluation.cases import PATTERNS
from dlild_export.evaluation.document import plain
from dlild_export.evaluation.page import environment
from dlild_export.evaluation.pictures import spread
from dlild_export.evaluation.served import Served, score_volume
from dlild_export.evaluation.statistics import Repeatability, repeatability
from dlild_export.evaluation.summary import Refusal, severity_band, severity_bands
from dlild_export.phantom import (
    Acquisition,
    Patient,
    PhantomSpec,
    make_patient,
    random_spec,
    scan_patient,
)
from dlild_export.phantom.cases import phantom_name

THICKNESSES_MM = (1.0, 1.25, 1.5, 2.0, 2.5, 3.0)
SHARPNESS = (-0.7, 1.0)
INSPIRATION = (0.9, 1.1)
SEVERITY = (0.02, 0.60)

CONDITIONS: dict[str, frozenset[str]] = {
    "noise": frozenset({"noise"}),
    "kernel": frozenset({"kernel"}),
    "thickness": frozenset({"thickness"}),
    "position": frozenset({"position"}),
    "inspiration": frozenset({"inspiration"}),
    "same protocol": frozenset({"noise", "position", "inspiration"}),
    "all": frozenset({"noise", "kernel", "thickness", "position", "inspiration"}),
}
"""What changes under each condition."""

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Measurement:
    """One scan of one patient.

    Attributes
    ----------
    patient : str
    pattern : str
    condition : str
        Which of `CONDITIONS`.
    acquisition : Acquisition
    true_percent, dl_ild_percent : float
    """

    patient: str
    pattern: str
    condition: str
    acquisition: Acquisition
    true_percent: float
    dl_ild_percent: float


def patients(first_seed: int, count: int) -> list[PhantomSpec]:
    """Return patients whose severities are spread evenly over 2 to 60 %, patterns in turn."""
    severities = np.linspace(*SEVERITY, count) if count > 1 else [sum(SEVERITY) / 2]
    return [
        replace(
            random_spec(first_seed + i),
            pattern=PATTERNS[i % len(PATTERNS)],
            severity=float(severity),
            thickness_mm=THICKNESSES_MM[i % len(THICKNESSES_MM)],
        )
        for i, severity in enumerate(severities)
    ]


def reacquire(first: Acquisition, changes: frozenset[str], rng: np.random.Generator) -> Acquisition:
    """Draw another scan of the same patient.

    Parameters
    ----------
    first : Acquisition
        What stays unless it is to change.
    changes : frozenset of str
        What changes: names of the module's table.
    rng : numpy.random.Generator

    Returns
    -------
    Acquisition
    """
    # All are drawn, whether used or not, so that a condition differs from another in its changes
    # only.
    seed = int(rng.integers(2**31))
    sharpness, inspiration = float(rng.uniform(*SHARPNESS)), float(rng.uniform(*INSPIRATION))
    thickness_mm = float(rng.choice(THICKNESSES_MM))
    aside = rng.uniform(-1, 1, 3)
    drawn = first
    if "noise" in changes:
        drawn = replace(drawn, seed=seed)
    if "kernel" in changes:
        drawn = replace(drawn, sharpness=sharpness)
    if "thickness" in changes:
        drawn = replace(drawn, thickness_mm=thickness_mm)
    if "position" in changes:
        reach_mm = np.array([max(0.75, drawn.thickness_mm / 2), 0.75, 0.75])
        z, y, x = (aside * reach_mm).tolist()
        drawn = replace(drawn, shift_mm=(z, y, x))
    if "inspiration" in changes:
        drawn = replace(drawn, inspiration=inspiration)
    return drawn


def measure(
    specs: Iterable[PhantomSpec],
    served: Served,
    *,
    repeats: int,
    mask_of: Callable[[int], Path | None],
    progress: Callable[[str], None] | None = None,
) -> tuple[list[Measurement], list[Refusal]]:
    """Scan and score every patient `repeats` times under each condition.

    Parameters
    ----------
    specs : iterable of PhantomSpec
        Patients.
    served : Served
        The network, its engine and contract.
    repeats : int
        Scans for each condition.
    mask_of : callable
        From a seed to the lung mask that its patient takes its shape from, or None.
    progress : callable, optional
        Called with a line about each scan that is done.

    Returns
    -------
    measurements : list of Measurement
    refused : list of Refusal
        Scans that the client would not score.
    """
    found: list[Measurement] = []
    refused: list[Refusal] = []
    spacing_mm = served.contract.grid.spacing_mm[0]
    for spec in specs:
        patient = make_patient(spec, spacing_mm=spacing_mm, lung_mask=mask_of(spec.seed))
        for condition, acquisition in _scans(spec, repeats):
            line = f"{phantom_name(spec.seed)}, {condition}"
            try:
                found.append(_score(patient, condition, acquisition, served))
                line += f": DL-ILD {found[-1].dl_ild_percent:.2f} %"
            except InputError as error:
                refused.append(Refusal(line, str(error)))
                line += f": not scored: {error}"
            if progress:
                progress(line)
    return found, refused


def _scans(spec: PhantomSpec, repeats: int) -> Iterator[tuple[str, Acquisition]]:
    for condition, changes in CONDITIONS.items():
        rng = np.random.default_rng([spec.seed, 4])
        for _ in range(repeats):
            yield condition, reacquire(spec.acquisition, changes, rng)


def _score(
    patient: Patient, condition: str, acquisition: Acquisition, served: Served
) -> Measurement:
    contract = served.contract
    scan = scan_patient(patient, acquisition)
    scored = score_volume(Volume(scan.hu, contract.grid.spacing_mm), served.run, contract)
    return Measurement(
        patient=phantom_name(patient.spec.seed),
        pattern=str(patient.spec.pattern),
        condition=condition,
        acquisition=acquisition,
        true_percent=scan.dl_ild_percent,
        dl_ild_percent=scored.dl_ild_percent(contract),
    )


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
