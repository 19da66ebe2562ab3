"""Real scans of healthy lungs: held against a threshold, and against lesions planted in them.

The lesions of a real scan are unknown. But where there are none, a threshold with filled vessels
(`dlild_export.data.threshold`: windpipe and main bronchi are taken out) knows the lungs, DL-ILD
should be near 0, and lesions planted in these lungs are known to the voxel.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from dlild_client.contract import Contract
from dlild_client.errors import InputError
from dlild_client.preparation.grid import to_grid
from dlild_client.reading.read import read_volume
from dlild_client.volume import Volume
from dlild_export.data.threshold import NoLungsError, threshold_lungs
from dlild_export.evaluation.cases import PATTERNS
from dlild_export.evaluation.metrics import ALL_LESIONS, ALL_LUNG, Mask, compare
from dlild_export.evaluation.served import Served, score_volume
from dlild_export.evaluation.summary import Refusal
from dlild_export.evaluation.views import View, worst_views
from dlild_export.phantom import Pattern
from dlild_export.phantom.cases import PLANTERS


@dataclass(frozen=True)
class PlantedResult:
    """A real scan with lesions planted: how much was planted, and how much was measured."""

    pattern: str
    true_percent: float
    dl_ild_percent: float
    lesion_dice: float
    lung_dice: float
    views: tuple[View, ...]

    @property
    def error_points(self) -> float:
        """Measured minus planted DL-ILD."""
        return self.dl_ild_percent - self.true_percent


@dataclass(frozen=True)
class RealResult:
    """A real scan.

    Attributes
    ----------
    name : str
        `scan 1` is the first that was given: folder names may name patients.
    dl_ild_percent : float
    lung_ml, threshold_ml : float
        Lungs, lesions included, as the network and as the threshold find them.
    thickness_mm : float or None
    flags : tuple of str
        Doubts of the client.
    views : tuple of View
    planted : tuple of PlantedResult
    """

    name: str
    dl_ild_percent: float
    lung_ml: float
    threshold_ml: float
    thickness_mm: float | None
    flags: tuple[str, ...]
    views: tuple[View, ...]
    planted: tuple[PlantedResult, ...]

    @property
    def lung_difference_percent(self) -> float:
        """Lung volume of the network against that of the threshold."""
        return 100 * (self.lung_ml / self.threshold_ml - 1)


@dataclass(frozen=True)
class RealRun:
    """What became of the real scans."""

    results: tuple[RealResult, ...] = ()
    refused: tuple[Refusal, ...] = ()


def run_real(
    scans: Sequence[Path],
    served: Served,
    *,
    planted_percent: Sequence[float] = (),
    texture: str = "plain",
    progress: Callable[[str], None] | None = None,
) -> RealRun:
    """Score real scans of healthy lungs, as they are and with lesions planted.

    Parameters
    ----------
    scans : sequence of pathlib.Path
        DICOM folders or image files.
    served : Served
        The network, its engine and contract.
    planted_percent : sequence of float
        DL-ILD to plant, one after the other, each in another pattern.
    texture : {'plain', 'measured'}
        How fine what is planted is.
    progress : callable, optional
        Called with a line about each scan that is done.

    Returns
    -------
    RealRun
        A scan that cannot be scored is listed, and never ends the run.
    """
    results: list[RealResult] = []
    refused: list[Refusal] = []
    for index, path in enumerate(scans):
        name = f"scan {index + 1}"
        try:
            grid = to_grid(read_volume(path), served.contract)
            results.append(_run(name, grid, served, _planting(index, planted_percent), texture))
            line = describe(results[-1])
        except (InputError, NoLungsError) as error:
            refused.append(Refusal(name, str(error)))
            line = f"{name}: not scored: {error}"
        if progress:
            progress(line)
    return RealRun(tuple(results), tuple(refused))


def describe(result: RealResult) -> str:
    """Say in one line how a scan went."""
    line = (
        f"{result.name}: DL-ILD {result.dl_ild_percent:.1f} %, lung {result.lung_ml:.0f} mL "
        f"({result.lung_difference_percent:+.1f} % of the threshold's)"
    )
    planted = ", ".join(f"{p.true_percent:.0f} % as {p.dl_ild_percent:.1f}" for p in result.planted)
    return f"{line}; planted {planted}" if planted else line


def _planting(index: int, percents: Sequence[float]) -> list[tuple[Pattern, float, int]]:
    """Pattern, DL-ILD and seed of what is planted in one scan; patterns take turns."""
    return [
        (PATTERNS[(index + turn) % len(PATTERNS)], percent, 100 * index + turn)
        for turn, percent in enumerate(percents)
    ]


def _run(
    name: str,
    grid: Volume,
    served: Served,
    planting: Sequence[tuple[Pattern, float, int]],
    texture: str,
) -> RealResult:
    contract = served.contract
    lungs = threshold_lungs(grid.array, grid.spacing_mm[0])
    scored = score_volume(grid, served.run, contract)
    return RealResult(
        name=name,
        dl_ild_percent=scored.dl_ild_percent(contract),
        lung_ml=scored.volume_ml(contract.lung_labels),
        threshold_ml=float(lungs.sum()) * grid.voxel_volume_mm3 / 1000,
        thickness_mm=grid.series.slice_thickness_mm,
        flags=scored.flags,
        views=worst_views(grid.array, None, scored.labels, contract, grid.spacing_mm),
        planted=tuple(_plant(grid, lungs, served, texture, *what) for what in planting),
    )


def _plant(
    grid: Volume,
    lungs: Mask,
    served: Served,
    texture: str,
    pattern: Pattern,
    percent: float,
    seed: int,
) -> PlantedResult:
    contract: Contract = served.contract
    hu, truth = PLANTERS[texture](grid, lungs, pattern=pattern, severity=percent / 100, seed=seed)
    scored = score_volume(grid.with_array(hu), served.run, contract)
    found = compare(truth, scored.labels, contract, grid.spacing_mm)
    return PlantedResult(
        pattern=str(pattern),
        true_percent=found.true_percent,
        dl_ild_percent=found.dl_ild_percent,
        lesion_dice=found.regions[ALL_LESIONS].dice,
        lung_dice=found.regions[ALL_LUNG].dice,
        views=worst_views(hu, truth, scored.labels, contract, grid.spacing_mm),
    )
