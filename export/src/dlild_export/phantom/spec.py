"""What a phantom is made of: the knobs, and how they are drawn at random."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np


class Pattern(StrEnum):
    """Disease pattern: where lesions lie and which classes they are made of."""

    NONE = "none"
    UIP = "uip"  # basal, subpleural reticulation and honeycombing
    NSIP = "nsip"  # basal ground-glass with reticulation, sparing the subpleural rim
    ORGANISING = "organising"  # patchy consolidation with a ground-glass halo
    MIXED = "mixed"  # all classes anywhere, so that no class is learnt by its position


@dataclass(frozen=True, kw_only=True)
class Acquisition:
    """One scan of a patient: scanner, position and breath.

    Attributes
    ----------
    seed : int
        Seed of the noise.
    thickness_mm : float
        Slice thickness and slice distance.
    noise_hu : float
        Standard deviation of the noise on the grid.
    sharpness : float
        Reconstruction kernel: below 0 smooths, above 0 enhances edges, 0 is neutral.
    motion_mm : float
        How far the lower lungs move up while they are scanned.
    shift_mm : tuple of float
        Position of the patient on the grid (z, y, x).
    inspiration : float
        Volume of the lungs relative to the patient's own; below 1 is shallower breath.
    """

    seed: int
    thickness_mm: float = 1.5
    noise_hu: float = 20.0
    sharpness: float = 0.0
    motion_mm: float = 0.0
    shift_mm: tuple[float, float, float] = (0.0, 0.0, 0.0)
    inspiration: float = 1.0

    def __post_init__(self) -> None:
        """Refuse what no scan can be."""
        if not 0.3 <= self.thickness_mm <= 10.0:
            raise ValueError(f"thickness_mm is {self.thickness_mm}, give 0.3 to 10 mm")
        if not 0.5 <= self.inspiration <= 1.5:
            raise ValueError(f"inspiration is {self.inspiration}, give 0.5 to 1.5")
        if not 0.0 <= self.noise_hu <= 500.0:
            raise ValueError(f"noise_hu is {self.noise_hu}, give 0 to 500 HU")


@dataclass(frozen=True, kw_only=True)
class PhantomSpec:
    """One phantom patient and one acquisition; equal specs give equal phantoms.

    Attributes
    ----------
    seed : int
        Seed of everything that is not fixed by the other attributes.
    pattern : Pattern
        Disease pattern.
    severity : float
        Share of the lung that is lesion, 0 … 0.9: the true DL-ILD is 100 times this.
    lung_hu : float
        Mean HU of healthy lung between the vessels; higher in expiration.
    dependent_hu : float
        Rise of HU from the front of the lung to its back, by gravity (not a lesion).
    emphysema : float
        Share of the lung that is emphysema (not a lesion).
    atelectasis_plates : int
        Plates of collapsed lung above the diaphragm (not a lesion).
    nodules : int
        Round solid nodules of 4 to 22 mm (not a lesion).
    blood_hu : float
        HU of heart and vessels: about 40 without contrast medium, 100 … 300 with it.
    prone : bool
        Gravity pulls towards the front.
    thickness_mm : float
        Slice thickness and slice distance of the acquisition.
    noise_hu : float
        Standard deviation of the noise on the grid.
    sharpness : float
        Reconstruction kernel: below 0 smooths, above 0 enhances edges, 0 is neutral.
    motion_mm : float
        How far the lower lungs move up while they are scanned (not a lesion).
    """

    seed: int
    pattern: Pattern = Pattern.NONE
    severity: float = 0.0
    lung_hu: float = -860.0
    dependent_hu: float = 50.0
    emphysema: float = 0.0
    atelectasis_plates: int = 0
    nodules: int = 0
    blood_hu: float = 40.0
    prone: bool = False
    thickness_mm: float = 1.5
    noise_hu: float = 20.0
    sharpness: float = 0.0
    motion_mm: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what no phantom can be made of."""
        if not 0.0 <= self.severity <= 0.9:
            raise ValueError(f"severity is {self.severity}, give a share between 0 and 0.9")
        if self.severity > 0 and self.pattern is Pattern.NONE:
            raise ValueError(f"severity is {self.severity} but pattern is 'none': name a pattern")
        if not 0.0 <= self.emphysema <= 0.9:
            raise ValueError(f"emphysema is {self.emphysema}, give a share between 0 and 0.9")
        if not -1000.0 <= self.lung_hu <= -450.0:
            raise ValueError(f"lung_hu is {self.lung_hu}, give -1000 to -450 HU")
        if min(self.atelectasis_plates, self.nodules) < 0:
            raise ValueError("atelectasis_plates and nodules count things: give 0 or more")
        _ = self.acquisition

    @property
    def acquisition(self) -> Acquisition:
        """The scan that the spec asks for."""
        return Acquisition(
            seed=self.seed,
            thickness_mm=self.thickness_mm,
            noise_hu=self.noise_hu,
            sharpness=self.sharpness,
            motion_mm=self.motion_mm,
        )


def random_spec(
    seed: int,
    *,
    healthy_share: float = 0.2,
    lung_hu: tuple[float, float] = (-950.0, -740.0),
) -> PhantomSpec:
    """Draw a phantom from the whole range of patients and scanners that we expect.

    Parameters
    ----------
    seed : int
        Seed of the draw, and of the phantom.
    healthy_share : float
        Probability of a phantom without any lesion.
    lung_hu : tuple of float
        Range of the mean HU of healthy lung.

    Returns
    -------
    PhantomSpec
        Severity is spread evenly over 0.01 … 0.6 among the ill.
    """
    rng = np.random.default_rng([seed, 1])
    ill = rng.random() >= healthy_share
    patterns = (Pattern.UIP, Pattern.NSIP, Pattern.ORGANISING, Pattern.MIXED)
    contrast = rng.random() < 0.35
    return PhantomSpec(
        seed=seed,
        pattern=patterns[rng.choice(4, p=[0.25, 0.2, 0.2, 0.35])] if ill else Pattern.NONE,
        severity=float(rng.uniform(0.01, 0.6)) if ill else 0.0,
        lung_hu=float(rng.uniform(*lung_hu)),
        dependent_hu=float(rng.uniform(0, 150)),
        emphysema=float(rng.uniform(0.05, 0.4)) if rng.random() < 0.3 else 0.0,
        blood_hu=float(rng.uniform(90, 320)) if contrast else float(rng.uniform(25, 60)),
        prone=bool(rng.random() < 0.1),
        thickness_mm=float(rng.choice([0.6, 1.0, 1.25, 1.5, 2.0, 2.5, 3.0, 5.0, 8.0])),
        noise_hu=float(np.exp(rng.uniform(np.log(5), np.log(60)))),
        sharpness=float(rng.uniform(-0.7, 1.0)),
        atelectasis_plates=int(rng.integers(1, 5)) if rng.random() < 0.4 else 0,
        nodules=int(rng.integers(1, 6)) if rng.random() < 0.3 else 0,
        motion_mm=float(rng.uniform(1, 6)) if rng.random() < 0.2 else 0.0,
    )
