"""Which phantoms a network is judged on: the fixed plan of a release."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from dlild_export.phantom import Pattern, PhantomSpec, random_spec

FIRST_SEED = 1_000_000
"""Seeds from here on are never trained on."""

PATTERNS = (Pattern.UIP, Pattern.NSIP, Pattern.ORGANISING, Pattern.MIXED)
THICKNESSES_MM = (1.0, 1.5, 2.0, 3.0, 5.0)
SEVERITY_EDGES = (0.01, 0.12, 0.24, 0.36, 0.48, 0.60)
HEALTHY_THICKNESSES_MM = (1.0, 2.0, 3.0, 5.0)


def release_plan(first_seed: int = FIRST_SEED) -> list[PhantomSpec]:
    """Return the 24 phantoms that a release is judged on.

    Twenty are ill: each of the four patterns once in each of five bands of severity, from 1 to
    60 %. Thicknesses lie on these as a Latin square, so that every pattern meets all five, and
    every band of severity four of them. Four are healthy, one for each of four thicknesses. Where
    in its band a severity lies, and everything else about patient and scanner, is drawn by seed.

    Parameters
    ----------
    first_seed : int
        Seed of the first; the others follow.

    Returns
    -------
    list of PhantomSpec
        Shuffled by the first seed, so that the first few are a fair sample too.
    """
    shapes: list[tuple[Pattern, int | None, float]] = [
        (pattern, band, THICKNESSES_MM[(row + band) % len(THICKNESSES_MM)])
        for row, pattern in enumerate(PATTERNS)
        for band in range(len(SEVERITY_EDGES) - 1)
    ]
    shapes += [(Pattern.NONE, None, thickness) for thickness in HEALTHY_THICKNESSES_MM]
    order = np.random.default_rng([first_seed, 2]).permutation(len(shapes))
    return [_spec(first_seed + place, *shapes[shape]) for place, shape in enumerate(order.tolist())]


def random_plan(first_seed: int, count: int) -> list[PhantomSpec]:
    """Return phantoms drawn from the whole range of patients and scanners."""
    return [random_spec(seed) for seed in range(first_seed, first_seed + count)]


def _spec(seed: int, pattern: Pattern, band: int | None, thickness_mm: float) -> PhantomSpec:
    severity = 0.0
    if band is not None:
        low, high = SEVERITY_EDGES[band : band + 2]
        severity = float(np.random.default_rng([seed, 3]).uniform(low, high))
    drawn = random_spec(seed)
    return replace(drawn, pattern=pattern, severity=severity, thickness_mm=thickness_mm)
