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

These patients lie on voxels of 1.5 mm, and a kernel that sharpens those is no scanner's. Patients
of measured texture are scanned by kernels at their own resolution, and by slices with gaps, but
they do not breathe:

============  ====================================================================================
noise         another noise of the same strength; with slices that are thicker than the grid's,
              another position of theirs
kernel        from soft (point spread of 0.8 mm, noise of 15 HU) to sharp (0.45 mm, 90 HU)
thickness     contiguous slices of 1 to 3 mm
gaps          1 mm contiguous, every 10 mm, or in pairs every 10 mm
============  ====================================================================================

There `same protocol` is noise, and `all` lets noise, kernel and thickness change: gaps are a
condition of their own.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar

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
    Pattern,
    Phantom,
    PhantomSpec,
    make_patient,
    random_spec,
    scan_patient,
)
from dlild_export.phantom.cases import measured_name, phantom_name
from dlild_export.phantom.measured import (
    MeasuredSpec,
    Scan,
    draw_measured,
    make_measured,
    scan_measured,
)

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

MEASURED_SEVERITY = (0.02, 0.45)
KERNEL_BLUR_MM, KERNEL_NOISE_HU, KERNEL_PEAK_PER_MM = (0.8, 0.45), (15.0, 90.0), (0.22, 0.6)
"""Of a soft and of a sharp kernel (`dlild_export.phantom.measured.Scan`)."""
GAPS = ((1.0, None), (10.0, None), (10.0, 1.0))
"""Steps, and distance of the slices of a pair, mm."""

MEASURED_CONDITIONS: dict[str, frozenset[str]] = {
    "noise": frozenset({"noise"}),
    "kernel": frozenset({"kernel"}),
    "thickness": frozenset({"thickness"}),
    "gaps": frozenset({"gaps"}),
    "same protocol": frozenset({"noise"}),
    "all": frozenset({"noise", "kernel", "thickness"}),
}
"""The same for patients of measured texture."""

SCHEMA_VERSION = 1
Setting = TypeVar("Setting", Acquisition, Scan)


@dataclass(frozen=True)
class Measurement:
    """One scan of one patient.

    Attributes
    ----------
    patient : str
    pattern : str
    condition : str
        Which of `CONDITIONS`, or of `MEASURED_CONDITIONS`.
    changes : tuple of str
        What may change under it.
    acquisition : Acquisition or Scan
    true_percent, dl_ild_percent : float
    """

    patient: str
    pattern: str
    condition: str
    changes: tuple[str, ...]
    acquisition: Acquisition | Scan
    true_percent: float
    dl_ild_percent: float


def patients(first_seed: int, count: int) -> list[PhantomSpec]:
    """Return patients whose severities are spread evenly over 2 to 60 %, patterns in turn."""
    return [
        replace(
            random_spec(first_seed + i),
            pattern=PATTERNS[i % len(PATTERNS)],
            severity=severity,
            thickness_mm=THICKNESSES_MM[i % len(THICKNESSES_MM)],
        )
        for i, severity in enumerate(_spread(SEVERITY, count))
    ]


def _spread(bounds: tuple[float, float], count: int) -> list[float]:
    """Spread severities evenly; one alone lies in the middle."""
    return np.linspace(*bounds, count).tolist() if count > 1 else [sum(bounds) / 2]


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


def measured_patients(first_seed: int, count: int) -> list[MeasuredSpec]:
    """Return patients of measured texture: severities over 2 to 45 %, patterns in turn.

    Each is scanned first with contiguous slices and a kernel between soft and sharp.
    """
    specs = []
    for i, severity in enumerate(_spread(MEASURED_SEVERITY, count)):
        drawn = draw_measured(first_seed + i)
        thickness_mm = THICKNESSES_MM[i % len(THICKNESSES_MM)]
        specs.append(
            replace(
                drawn,
                body=replace(drawn.body, pattern=PATTERNS[i % len(PATTERNS)], severity=severity),
                scan=_with_kernel(
                    Scan(seed=drawn.scan.seed, thickness_mm=thickness_mm, step_mm=thickness_mm), 0.5
                ),
            )
        )
    return specs


def reacquire_measured(first: Scan, changes: frozenset[str], rng: np.random.Generator) -> Scan:
    """Draw another scan of the same patient of measured texture.

    Parameters
    ----------
    first : Scan
        What stays unless it is to change.
    changes : frozenset of str
        What changes: names of the module's second table.
    rng : numpy.random.Generator

    Returns
    -------
    Scan
    """
    seed, sharpness = int(rng.integers(2**31)), float(rng.random())
    thickness_mm = float(rng.choice(THICKNESSES_MM))
    step_mm, pairs_mm = GAPS[int(rng.integers(len(GAPS)))]
    drawn = first
    if "noise" in changes:
        drawn = replace(drawn, seed=seed)
    if "kernel" in changes:
        drawn = _with_kernel(drawn, sharpness)
    if "thickness" in changes:
        # A slice of twice the thickness catches twice the photons.
        noise_hu = drawn.noise_hu * (drawn.thickness_mm / thickness_mm) ** 0.5
        drawn = replace(drawn, thickness_mm=thickness_mm, step_mm=thickness_mm, noise_hu=noise_hu)
    if "gaps" in changes:
        drawn = replace(drawn, thickness_mm=1.0, step_mm=step_mm, pairs_mm=pairs_mm)
    return drawn


def _with_kernel(scan: Scan, sharpness: float) -> Scan:
    """Set the kernel: 0 is soft, 1 sharp; thicker slices have less noise than those of 1.25 mm."""
    blur_mm, noise_hu, peak = (
        low + sharpness * (high - low)
        for low, high in (KERNEL_BLUR_MM, KERNEL_NOISE_HU, KERNEL_PEAK_PER_MM)
    )
    noise_hu *= min(1.0, (1.25 / scan.thickness_mm) ** 0.5)
    return replace(scan, blur_mm=blur_mm, noise_hu=noise_hu, noise_peak_per_mm=peak)


@dataclass(frozen=True, kw_only=True)
class Subject(Generic[Setting]):
    """A phantom patient who is scanned again and again.

    Attributes
    ----------
    name : str
        How reports call the patient.
    pattern : Pattern
        Of the disease.
    seed : int
        Of the further scans.
    first : Acquisition or Scan
        The first scan.
    conditions : mapping of str to frozenset of str
        What changes under each condition.
    reacquire : callable
        Draws another scan from the first, what changes, and a generator.
    scanner : callable
        From the edge of a voxel, mm, to what scans the patient: make one patient, scan it often.
    """

    name: str
    pattern: Pattern
    seed: int
    first: Setting
    conditions: Mapping[str, frozenset[str]]
    reacquire: Callable[[Setting, frozenset[str], np.random.Generator], Setting]
    scanner: Callable[[float], Callable[[Setting], Phantom]]

    def scans(self, repeats: int, spacing_mm: float) -> Iterator[tuple[str, Setting, Phantom]]:
        """Yield condition, acquisition and scan, `repeats` times under each condition."""
        scan = self.scanner(spacing_mm)
        for condition, changes in self.conditions.items():
            rng = np.random.default_rng([self.seed, 4])
            for _ in range(repeats):
                acquisition = self.reacquire(self.first, changes, rng)
                yield condition, acquisition, scan(acquisition)


def plain_subject(spec: PhantomSpec, lung_mask: Path | None = None) -> Subject[Acquisition]:
    """Return a patient on voxels of the grid."""
    return Subject(
        name=phantom_name(spec.seed),
        pattern=spec.pattern,
        seed=spec.seed,
        first=spec.acquisition,
        conditions=CONDITIONS,
        reacquire=reacquire,
        scanner=lambda spacing_mm: partial(
            scan_patient, make_patient(spec, spacing_mm=spacing_mm, lung_mask=lung_mask)
        ),
    )


def measured_subject(spec: MeasuredSpec, lung_mask: Path | None = None) -> Subject[Scan]:
    """Return a patient of measured texture."""
    return Subject(
        name=measured_name(spec.body.seed),
        pattern=spec.body.pattern,
        seed=spec.body.seed,
        first=spec.scan,
        conditions=MEASURED_CONDITIONS,
        reacquire=reacquire_measured,
        scanner=lambda spacing_mm: partial(
            scan_measured, make_measured(spec, spacing_mm=spacing_mm, lung_mask=lung_mask)
        ),
    )


def draw_subjects(
    first_seed: int, count: int, *, measured: bool, mask_of: Callable[[int], Path | None]
) -> list[Subject[Any]]:
    """Draw patients of one texture.

    Parameters
    ----------
    first_seed, count : int
        Seed of the first, the others follow.
    measured : bool
        Whether their lungs have the measured texture.
    mask_of : callable
        From a seed to the lung mask that its patient takes its shape from, or None.
    """
    if measured:
        return [
            measured_subject(spec, mask_of(spec.body.seed))
            for spec in measured_patients(first_seed, count)
        ]
    return [plain_subject(spec, mask_of(spec.seed)) for spec in patients(first_seed, count)]


def measure(
    subjects: Iterable[Subject[Any]],
    served: Served,
    *,
    repeats: int,
    progress: Callable[[str], None] | None = None,
) -> tuple[list[Measurement], list[Refusal]]:
    """Scan and score every patient `repeats` times under each condition.

    Parameters
    ----------
    subjects : iterable of Subject
        Patients.
    served : Served
        The network, its engine and contract.
    repeats : int
        Scans for each condition.
    progress : callable, optional
        Called with a line about each scan that is done.

    Returns
    -------
    measurements : list of Measurement
    refused : list of Refusal
        Scans that the client would not score.
    """
    contract = served.contract
    spacing_mm = contract.grid.spacing_mm
    found: list[Measurement] = []
    refused: list[Refusal] = []
    for subject in subjects:
        for condition, acquisition, scan in subject.scans(repeats, spacing_mm[0]):
            line = f"{subject.name}, {condition}"
            try:
                scored = score_volume(Volume(scan.hu, spacing_mm), served.run, contract)
            except InputError as error:
                refused.append(Refusal(line, str(error)))
                line += f": not scored: {error}"
            else:
                dl_ild_percent = scored.dl_ild_percent(contract)
                found.append(
                    Measurement(
                        patient=subject.name,
                        pattern=str(subject.pattern),
                        condition=condition,
                        changes=tuple(sorted(subject.conditions[condition])),
                        acquisition=acquisition,
                        true_percent=scan.dl_ild_percent,
                        dl_ild_percent=dl_ild_percent,
                    )
                )
                line += f": DL-ILD {dl_ild_percent:.2f} %"
            if progress:
                progress(line)
    return found, refused


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
    for name in dict.fromkeys(m.condition for m in measurements):
        chosen = [m for m in measurements if m.condition == name]
        bands = {band: [m for m in chosen if _band(m, chosen) == band] for band in severity_bands()}
        truth = repeatability(_groups(chosen, "true_percent"))
        conditions.append(
            Condition(
                name=name,
                changes=chosen[0].changes,
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
