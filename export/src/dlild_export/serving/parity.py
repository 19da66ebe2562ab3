"""The parity gate: every engine gives the same DL-ILD on whole scans, or nothing is released.

Windows, blending and labels are those of `dlild_export.serving.sliding`, so of the server. All
engines get the same windows; the first one listed is the reference. Windows of nothing but air and
nothing but soft tissue are run as well: there an engine may divide by 0, and what is not a number
has no label, so that no score shows it.
"""

from __future__ import annotations

import json
import math
import os
import platform
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dlild_client.contract import Contract
from dlild_client.contract.score import score_labels
from dlild_client.preparation.grid import to_grid
from dlild_client.reading.read import read_volume
from dlild_client.volume import Volume
from dlild_export.serving.engines import Engine, Window
from dlild_export.serving.sliding import Labels, Network, Windows, blend, plan_scan

LIMIT_POINTS = 0.05
"""Largest difference in DL-ILD that passes, in percentage points."""
DICE_LOSS = 0.005
"""How much the mean Dice of the lesions may fall below the reference's, where truth is known."""

LIMIT_PROBABILITY = 0.1
"""Largest difference of a probability that passes in a window of one value of HU."""

CONSTANT_WINDOWS = {"air": -1024.0, "soft tissue": 40.0}
"""HU of the windows that hold one value."""

SCHEMA = 1

Progress = Callable[[str], None]
Probabilities = npt.NDArray[np.floating]

DEFAULT_SEEDS = (9_000_000, 9_000_001, 9_000_002)
"""Phantoms that no training and no evaluation uses."""
DEFAULT_MEASURED = (1_700_002,)
"""The same of measured texture: bf16 was off by 0.076 point there (version 7), and far less on the
others."""


@dataclass(frozen=True)
class Row:
    """One engine on one scan.

    Attributes
    ----------
    scan, engine, precision, note : str
        Which scan, and which engine.
    dl_ild_percent : float
        DL-ILD that it gives; NaN where it finds no lung.
    difference : float
        From the reference, in points.
    labels_differ_percent : float
        Share of the lung voxels (of either) that have another label than the reference gives.
    seconds : float
        For the whole scan, blending included, the loading of the engine not.
    finite : bool
        Whether every probability of every window is a number.
    limit_points : float
        Largest difference that passes.
    lesion_dice : float or None
        Of all lesions against the truth; None where that is not known, or holds no lesion.
    """

    scan: str
    engine: str
    precision: str
    note: str
    dl_ild_percent: float
    difference: float
    labels_differ_percent: float
    seconds: float
    finite: bool = True
    limit_points: float = LIMIT_POINTS
    lesion_dice: float | None = None

    @property
    def passes(self) -> bool:
        """Whether the difference is within the limit; where there is no lung, it is not."""
        return self.finite and abs(self.difference) <= self.limit_points

    @property
    def failure(self) -> str:
        """Say what does not pass."""
        name = f"{self.engine} {self.precision} on {self.scan}"
        if not self.finite:
            return f"{name}: some probabilities are not numbers"
        return (
            f"{name}: DL-ILD {self.dl_ild_percent:.2f} differs by {self.difference:+.2f} points, "
            f"at most {self.limit_points} pass"
        )


@dataclass(frozen=True)
class ConstantRow:
    """One engine on a window that holds one value of HU.

    Attributes
    ----------
    window : str
        Key of `CONSTANT_WINDOWS`.
    engine, precision : str
        Which engine.
    difference : float
        Largest difference of a probability from the reference; NaN where one is not a number.
    """

    window: str
    engine: str
    precision: str
    difference: float

    @property
    def passes(self) -> bool:
        """Whether every probability is a number, and near the reference's."""
        return self.difference <= LIMIT_PROBABILITY

    @property
    def failure(self) -> str:
        """Say what does not pass."""
        name = f"{self.engine} {self.precision} on a window of {self.window}"
        if math.isnan(self.difference):
            return f"{name}: some probabilities are not numbers"
        return (
            f"{name}: a probability differs by {self.difference:.3f}, "
            f"at most {LIMIT_PROBABILITY} pass"
        )


@dataclass(frozen=True)
class Parity:
    """The figures of all engines on all scans.

    Attributes
    ----------
    weights_sha256 : str
        Of the ONNX file.
    machine : str
        What the seconds were taken on.
    rows : tuple of Row
        By scan, then by engine; the first of a scan is the reference.
    constant : tuple of ConstantRow
        By engine, then by window.
    limit_points : float
        Largest difference that passes.
    """

    weights_sha256: str
    machine: str
    rows: tuple[Row, ...]
    constant: tuple[ConstantRow, ...] = ()
    limit_points: float = LIMIT_POINTS

    @property
    def passes(self) -> bool:
        """Whether something was compared, and all of it is within the limit."""
        return bool(self.rows) and not self.failures()

    def failures(self) -> list[str]:
        """Name what is beyond the limit, one text a row."""
        judged: list[Row | ConstantRow] = [*self.rows, *self.constant]
        (reference, expected), *others = [*self.mean_dice().items()] or [("", 0.0)]
        return [row.failure for row in judged if not row.passes] + [
            f"{engine}: mean Dice of the lesions {dice:.3f}, of {reference} {expected:.3f}: at "
            f"most {DICE_LOSS} less pass"
            for engine, dice in others
            if dice < expected - DICE_LOSS
        ]

    def mean_dice(self) -> dict[str, float]:
        """Return the mean Dice of the lesions of each engine, the reference first."""
        found: dict[str, list[float]] = {}
        for row in self.rows:
            if row.lesion_dice is not None:
                found.setdefault(f"{row.engine} {row.precision}", []).append(row.lesion_dice)
        return {name: float(np.mean(values)) for name, values in found.items()}

    def to_json(self) -> str:
        """Return all figures, with the verdict, as JSON text; NaN becomes null."""
        rows, constant = (
            [_without_nan(asdict(row)) | {"passes": row.passes} for row in part]
            for part in (self.rows, self.constant)
        )
        fields = {
            "schema": SCHEMA,
            "weights_sha256": self.weights_sha256,
            "machine": self.machine,
            "limit_points": self.limit_points,
            "mean_lesion_dice": self.mean_dice(),
            "passes": self.passes,
            "rows": rows,
            "constant": constant,
        }
        return json.dumps(fields, indent=2, allow_nan=False) + "\n"

    def to_markdown(self) -> str:
        """Return the table for the model card."""
        lines = [
            "| scan | engine | DL-ILD, % | difference, points | other labels, % of lung | s |",
            "|---|---|---|---|---|---|",
        ]
        for row in self.rows:
            engine = f"{row.engine} {row.precision}" + (f", {row.note}" if row.note else "")
            lines.append(
                f"| {row.scan} | {engine} | {row.dl_ild_percent:.2f} | {row.difference:+.3f} "
                f"| {row.labels_differ_percent:.3f} | {row.seconds:.1f} |"
            )
        if self.constant:
            largest = max(row.difference for row in self.constant)
            names = " and ".join(CONSTANT_WINDOWS)
            lines += ["", f"Windows of {names}: probabilities differ by {largest:.4f} at most."]
        return "\n".join(lines) + "\n"


def measure_parity(
    engines: Sequence[Engine],
    scans: Mapping[str, Volume],
    contract: Contract,
    weights_sha256: str,
    progress: Progress | None = None,
    *,
    limit_points: float = LIMIT_POINTS,
    truths: Mapping[str, Labels] | None = None,
) -> Parity:
    """Run every engine over every scan.

    Parameters
    ----------
    engines : sequence of Engine
        The first is the reference.
    scans : mapping of str to Volume
        HU on the model grid, by a name that identifies no patient.
    contract : Contract
        Windows and classes.
    weights_sha256 : str
        Of the ONNX file, for the record.
    progress : callable, optional
        Called with what is about to run.
    limit_points : float
        Largest difference in DL-ILD that passes.
    truths : mapping of str to ndarray of uint8, optional
        True labels on the model grid, shape (z, y, x), of scans where they are known.

    Returns
    -------
    Parity

    Raises
    ------
    InputError
        A scan without lungs.
    """
    planned = {name: plan_scan(grid, contract) for name, grid in scans.items()}
    references: dict[str, Labels] = {}
    rows: dict[str, list[Row]] = {name: [] for name in planned}
    even: dict[str, Probabilities] = {}
    constant: list[ConstantRow] = []
    for engine in engines:
        run = _Checked(engine.load())
        for name, windows in planned.items():
            if progress:
                progress(f"{engine.name} {engine.precision}, {name}")
            labels, seconds = _timed(run, windows)
            reference = references.setdefault(name, labels)
            row = _row(name, engine, labels, reference, seconds, contract)
            dice = None
            if truths and name in truths:
                dice = _lesion_dice(labels, truths[name], windows, contract)
            rows[name].append(
                replace(row, finite=run.finite, limit_points=limit_points, lesion_dice=dice)
            )
        constant += _constant_rows(engine, run, contract, even)
    in_order = tuple(row for name in planned for row in rows[name])
    return Parity(weights_sha256, describe_machine(), in_order, tuple(constant), limit_points)


class _Checked:
    """An engine whose probabilities are checked for being numbers, window by window."""

    def __init__(self, run: Network) -> None:
        self._run = run
        self.finite = True

    def __call__(self, window: Window) -> Probabilities:
        probabilities = self._run(window)
        self.finite = self.finite and bool(np.isfinite(probabilities).all())
        return probabilities


def _constant_rows(
    engine: Engine, run: Network, contract: Contract, references: dict[str, Probabilities]
) -> Iterator[ConstantRow]:
    shape = (1, 1, *contract.windows.minimum)
    for name, hu in CONSTANT_WINDOWS.items():
        found = run(np.full(shape, hu, np.float16)).astype(np.float32)
        away = np.abs(found - references.setdefault(name, found)).max()
        # A difference from what is no number is none either.
        difference = float(away) if np.isfinite(found).all() else math.nan
        yield ConstantRow(name, engine.name, engine.precision, difference)


def describe_machine() -> str:
    """Name the processor and how many cores of it this process may use."""
    name = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:  # noqa: PTH123 - no file of ours
            names = [line.split(":", 1)[1].strip() for line in file if "model name" in line]
    except OSError:
        names = []
    return f"{names[0] if names else name}, {len(os.sched_getaffinity(0))} cores"


def _timed(run: _Checked, windows: Windows) -> tuple[Labels, float]:
    # The first window of a shape compiles kernels: that is the warm-up's time, not the scan's.
    run(np.zeros((1, 1, *windows.plan.shape), dtype=np.float16))
    run.finite = True
    began = time.perf_counter()
    labels = blend(run, windows)
    return labels, time.perf_counter() - began


def _row(
    scan: str,
    engine: Engine,
    labels: Labels,
    reference: Labels,
    seconds: float,
    contract: Contract,
) -> Row:
    percent = score_labels(labels, contract.classes)
    lungs = contract.lung_labels
    lung = np.isin(labels, lungs) | np.isin(reference, lungs)
    differ = (labels != reference) & lung
    return Row(
        scan=scan,
        engine=engine.name,
        precision=engine.precision,
        note=engine.note,
        dl_ild_percent=percent,
        difference=percent - score_labels(reference, contract.classes),
        labels_differ_percent=100.0 * int(differ.sum()) / max(int(lung.sum()), 1),
        seconds=seconds,
    )


def _lesion_dice(
    labels: Labels, truth: Labels, windows: Windows, contract: Contract
) -> float | None:
    """Dice of all lesions within the lung box; None where the truth holds none."""
    box = windows.box
    part = truth[tuple(slice(a, b) for a, b in zip(box.start, box.stop, strict=True))]
    found = np.isin(labels[tuple(slice(0, n) for n in part.shape)], contract.lesion_labels)
    true = np.isin(part, contract.lesion_labels)
    return float(2 * (found & true).sum() / (found.sum() + true.sum())) if true.any() else None


def _without_nan(fields: dict[str, Any]) -> dict[str, Any]:
    return {
        name: None if isinstance(value, float) and math.isnan(value) else value
        for name, value in fields.items()
    }


def gather_scans(
    phantoms: Iterable[int],
    folders: Iterable[Path],
    contract: Contract,
    measured: Iterable[int] = (),
) -> dict[str, Volume]:
    """Make phantoms and read real scans, on the model grid.

    Parameters
    ----------
    phantoms : iterable of int
        Seeds.
    folders : iterable of pathlib.Path
        DICOM folders or image files.
    contract : Contract
        Grid.
    measured : iterable of int
        Seeds of phantoms of measured texture.

    Returns
    -------
    dict of str to Volume
        By a name that leads to no patient: the seed, or the start of the scan's digest.

    Raises
    ------
    InputError
        A folder without a chest CT.
    """
    from dlild_export.phantom import make_phantom, random_spec  # noqa: PLC0415
    from dlild_export.phantom.cases import labelled_measured, measured_name  # noqa: PLC0415
    from dlild_export.phantom.measured import draw_measured  # noqa: PLC0415

    scans = {}
    for seed in phantoms:
        phantom = make_phantom(random_spec(seed))
        spacing = (phantom.spacing_mm, phantom.spacing_mm, phantom.spacing_mm)
        scans[f"phantom {seed}"] = to_grid(Volume(phantom.hu, spacing), contract)
    for seed in measured:
        found = labelled_measured(draw_measured(seed), None, contract.grid.spacing_mm[0])
        scans[measured_name(seed)] = to_grid(found.volume, contract)
    for folder in folders:
        volume = read_volume(folder)
        digest = (volume.series.digest or "").removeprefix("sha256:")
        scans[f"scan {digest[:8]}"] = to_grid(volume, contract)
    return scans
