"""The floor: what a network must reach before it may be released."""

from __future__ import annotations

import math
from dataclasses import dataclass

from dlild_export.evaluation.metrics import ALL_LESIONS, ALL_LUNG
from dlild_export.evaluation.real import RealRun
from dlild_export.evaluation.summary import Summary


@dataclass(frozen=True, kw_only=True)
class Floor:
    """Least agreement, over all cases.

    Attributes
    ----------
    lung_dice, lesion_dice : float
        Mean Dice of all lung, and of all lesions.
    class_dice : float
        Mean Dice of every single class of lung.
    mean_absolute_error, bias : float
        Of DL-ILD, in points; the bias stays below it in either direction.
    cases : int
        Fewer cases prove nothing.
    """

    lung_dice: float = 0.97
    lesion_dice: float = 0.80
    class_dice: float = 0.60
    mean_absolute_error: float = 1.5
    bias: float = 0.5
    cases: int = 24


@dataclass(frozen=True)
class FloorTarget:
    """A target of the floor and the figure found; NaN where no case gives one."""

    name: str
    rule: str
    value: float
    met: bool

    @property
    def found(self) -> str:
        """The value as tables show it."""
        if math.isnan(self.value):
            return "none"
        return f"{self.value:.3f}" if "." in self.rule else f"{self.value:.0f}"


@dataclass(frozen=True)
class Verdict:
    """Every target; `met` only where all of them are."""

    targets: tuple[FloorTarget, ...]

    @property
    def met(self) -> bool:
        """Whether every target is met."""
        return all(target.met for target in self.targets)

    def missed(self) -> str:
        """Name the targets that are missed, with their values, in one line."""
        return "; ".join(
            f"{t.name} is {t.found}, must be {t.rule}" for t in self.targets if not t.met
        )


def verdict(summary: Summary, floor: Floor | None = None, *, refused: int = 0) -> Verdict:
    """Hold a summary against the floor.

    Parameters
    ----------
    summary : Summary
        Over all cases.
    floor : Floor, optional
        That of a release, when left out.
    refused : int
        Cases that could not be scored at all: none may be.

    Returns
    -------
    Verdict
        A figure without a value (a class that no case holds, no lung found) is not met.
    """
    f = floor or Floor()
    dice = {name: region.dice.value for name, region in summary.regions.items()}
    classes = [name for name in dice if name not in {ALL_LUNG, ALL_LESIONS}]
    score = summary.score
    return Verdict(
        (
            _at_least("cases scored", score.cases, f.cases, "{:d}"),
            _below("cases not scored", refused, 1, "{:d}"),
            _at_least("Dice, all lung", dice[ALL_LUNG], f.lung_dice),
            _at_least("Dice, all lesions", dice[ALL_LESIONS], f.lesion_dice),
            *(_at_least(f"Dice, class {name}", dice[name], f.class_dice) for name in classes),
            _at_most(
                "DL-ILD, mean absolute error",
                score.mean_absolute_error.value,
                f.mean_absolute_error,
            ),
            _below("DL-ILD, size of the bias", abs(score.bias.value), f.bias),
        )
    )


def _at_least(name: str, value: float, limit: float, form: str = "{:.2f}") -> FloorTarget:
    return _target(name, f"at least {form.format(limit)}", value, value >= limit)


def _at_most(name: str, value: float, limit: float) -> FloorTarget:
    return _target(name, f"at most {limit:.1f}", value, value <= limit)


def _below(name: str, value: float, limit: float, form: str = "{:.1f}") -> FloorTarget:
    return _target(name, f"below {form.format(limit)}", value, value < limit)


def _target(name: str, rule: str, value: float, met: bool) -> FloorTarget:
    return FloorTarget(name, rule, float(value), met and not math.isnan(value))


@dataclass(frozen=True, kw_only=True)
class RealFloor:
    """What each real scan of healthy lungs must reach.

    Attributes
    ----------
    dl_ild_percent : float
        DL-ILD stays below it.
    lung_difference_percent : float
        Lung volume against the threshold's, in either direction.
    planted_error : float
        Error of DL-ILD with planted lesions, in points.
    """

    dl_ild_percent: float = 3.0
    lung_difference_percent: float = 5.0
    planted_error: float = 3.0


def real_verdict(real: RealRun, floor: RealFloor | None = None) -> Verdict:
    """Hold every real scan against the floor; one that could not be scored is not met."""
    f = floor or RealFloor()
    targets = [
        FloorTarget(f"{r.name}, {r.reason}", "scored", math.nan, False) for r in real.refused
    ]
    for result in real.results:
        difference = abs(result.lung_difference_percent)
        targets += [
            _below(f"{result.name}: DL-ILD", result.dl_ild_percent, f.dl_ild_percent),
            _at_most(
                f"{result.name}: lung volume, difference in %",
                difference,
                f.lung_difference_percent,
            ),
        ]
        targets += [
            _at_most(
                f"{result.name}: error with {p.true_percent:.0f} % planted ({p.pattern})",
                abs(p.error_points),
                f.planted_error,
            )
            for p in result.planted
        ]
    return Verdict(tuple(targets))
