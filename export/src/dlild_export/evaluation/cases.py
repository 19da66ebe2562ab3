"""Cases of an evaluation: the release's plan of phantoms, datasets, and which were trained on."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from dlild_client.contract import Contract
from dlild_client.errors import InputError, UnreadableFileError
from dlild_client.volume import Volume
from dlild_export.data.prepare import prepare, prepared_files, read_info
from dlild_export.evaluation.metrics import Labels
from dlild_export.phantom import Pattern, PhantomSpec, make_phantom, random_spec
from dlild_export.phantom.cases import labelled_measured, mask_for, measured_name, phantom_name
from dlild_export.phantom.measured import draw_measured
from dlild_export.serving.onnx import CHECKPOINT
from dlild_export.training.cases import CaseError, check_values, load_arrays

FIRST_SEED = 1_000_000
"""Seeds from here on are never trained on."""
FIRST_MEASURED_SEED = 1_600_000
"""The same of phantoms of measured texture."""
MEASURED_CASES = 24

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
    return [_spec(first_seed + index, *shapes[shape]) for index, shape in enumerate(order.tolist())]


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


@dataclass(frozen=True, eq=False)
class EvaluationCase:
    """One scan whose truth is known.

    Attributes
    ----------
    name : str
        Of the file or the seed; names no patient.
    grid : Volume
        HU on the model grid.
    truth : ndarray of uint8, shape (z, y, x)
        Labels of the contract, 255 where there is no label.
    pattern : str or None
        Disease pattern, where it is known.
    thickness_mm : float or None
        Slice thickness, where it is known.
    """

    name: str
    grid: Volume
    truth: Labels
    pattern: str | None = None
    thickness_mm: float | None = None


def phantom_cases(
    specs: Iterable[PhantomSpec], contract: Contract, lung_masks: list[Path]
) -> Iterator[EvaluationCase]:
    """Make phantoms, one after the other.

    Parameters
    ----------
    specs : iterable of PhantomSpec
    contract : Contract
        Spacing of the grid.
    lung_masks : list of pathlib.Path
        Masks of real lungs for every second phantom.

    Yields
    ------
    EvaluationCase
    """
    edge_mm = _cube_edge_mm(contract)
    for spec in specs:
        mask = mask_for(spec.seed, lung_masks)
        phantom = make_phantom(spec, spacing_mm=edge_mm, lung_mask=mask)
        yield EvaluationCase(
            name=phantom_name(spec.seed),
            grid=Volume(phantom.hu, contract.grid.spacing_mm),
            truth=phantom.labels,
            pattern=str(spec.pattern),
            thickness_mm=spec.thickness_mm,
        )


def _cube_edge_mm(contract: Contract) -> float:
    """Edge of a voxel of the model grid; `InputError` where it is no cube."""
    spacing_mm = contract.grid.spacing_mm
    if len(set(spacing_mm)) != 1:
        raise InputError(f"phantoms have cubic voxels, the contract's grid has {spacing_mm} mm")
    return spacing_mm[0]


def measured_cases(
    seeds: Iterable[int], contract: Contract, lung_masks: list[Path]
) -> Iterator[EvaluationCase]:
    """Make phantoms of measured texture, drawn from all patients and scanners, one by one.

    Parameters
    ----------
    seeds : iterable of int
    contract, lung_masks
        As in `phantom_cases`.

    Yields
    ------
    EvaluationCase
    """
    edge_mm = _cube_edge_mm(contract)
    for seed in seeds:
        spec = draw_measured(seed)
        scan = labelled_measured(spec, mask_for(seed, lung_masks), edge_mm)
        yield EvaluationCase(
            name=measured_name(seed),
            grid=scan.volume,
            truth=scan.labels,
            pattern=str(spec.body.pattern),
            thickness_mm=spec.scan.thickness_mm,
        )


@dataclass(frozen=True)
class StoredCase:
    """A prepared scan on disk: an NPZ file with `hu`, `labels` and `info`.

    Attributes
    ----------
    path : pathlib.Path
    name : str
    about : mapping
        What the file says of itself.
    """

    path: Path
    name: str
    about: Mapping[str, Any]

    @classmethod
    def open(cls, path: Path) -> StoredCase:
        """Read what a prepared scan says of itself, not its voxels.

        Raises
        ------
        UnreadableFileError
            The file is not such a scan; the message names it.
        """
        try:
            about = dict(read_info(path))
        except (OSError, ValueError, TypeError, KeyError, EOFError, zipfile.BadZipFile) as error:
            reason = f"{path.name}: what it says of itself cannot be read: {error}"
            raise UnreadableFileError(f"{reason}; prepare the dataset again") from None
        return cls(path, str(about.get("name", path.stem)), about)

    def read(self, contract: Contract) -> EvaluationCase:
        """Read the scan and its truth.

        Raises
        ------
        CaseError
            The file is not a scan with its truth; the message names it.
        """
        hu, truth = load_arrays(self.path)
        if hu.ndim != 3 or hu.shape != truth.shape:
            raise CaseError(
                f"{self.path}: hu has shape {hu.shape} and labels {truth.shape}; both must be "
                "(z, y, x)"
            )
        check_values(self.path, hu, truth)
        thickness = self.about.get("thickness_mm", self.about.get("slice_step_mm"))
        pattern = self.about.get("pattern")
        return EvaluationCase(
            name=self.name,
            grid=Volume(np.asarray(hu, np.int16), contract.grid.spacing_mm),
            truth=np.asarray(truth, np.uint8),
            pattern=None if pattern is None else str(pattern),
            thickness_mm=None if thickness is None else float(thickness),
        )


def dataset_files(
    dataset: Path,
    work: Path,
    contract: Contract,
    *,
    overrides: Mapping[str, str] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[Path]:
    """Find the scans of a dataset, prepared where they are not yet.

    Parameters
    ----------
    dataset : pathlib.Path
        A folder of prepared NPZ files, or a dataset in a layout of `dlild_export.data.layout`.
    work : pathlib.Path
        Folder for what has to be prepared.
    contract : Contract
        Grid and classes.
    overrides : mapping of str to str, optional
        Their label names to ours.
    progress : callable, optional
        Called with the scans prepared, and all of them.

    Returns
    -------
    list of pathlib.Path

    Raises
    ------
    DatasetError
        It is no dataset, or one with faults.
    UnreadableFileError
        There is no such folder.
    """
    if not dataset.is_dir():
        raise UnreadableFileError(
            f"{dataset}: no such folder; leave it out to evaluate on phantoms"
        )
    if any(dataset.glob("*.npz")):
        return prepared_files(dataset)
    return prepare(dataset, work, contract=contract, overrides=overrides, progress=progress)


@dataclass(frozen=True)
class Unseen:
    """Cases that the network has not been trained on.

    Attributes
    ----------
    cases : tuple of StoredCase
    trained_on : int or None
        Cases left out because they were trained on; None where the weights do not record it.
    """

    cases: tuple[StoredCase, ...]
    trained_on: int | None

    def describe(self, dataset: str) -> str:
        """Say in words which cases of a dataset these are."""
        count = f"{len(self.cases)} scan{'s' if len(self.cases) != 1 else ''} of {dataset}"
        if self.trained_on is None:
            return f"{count}; the weights do not record whether they were trained on these"
        return f"{count}; {self.trained_on} more were trained on and left out"


def trained_cases(weights: Path) -> frozenset[str] | None:
    """Return the names of the cases that a run was trained on.

    Parameters
    ----------
    weights : pathlib.Path
        Run, checkpoint, or an ONNX file that may lie beside its checkpoint.

    Returns
    -------
    frozenset of str, or None
        None where there is no checkpoint, or it does not say.
    """
    checkpoint = weights / CHECKPOINT if weights.is_dir() else weights
    if checkpoint.suffix == ".onnx":
        checkpoint = checkpoint.with_name(CHECKPOINT)
    if not checkpoint.is_file():
        return None
    import torch  # noqa: PLC0415

    stored = torch.load(checkpoint, map_location="cpu", weights_only=True)
    names = stored.get("cases")
    return None if names is None else frozenset(str(name) for name in names)


def only_unseen(cases: Sequence[StoredCase], trained: frozenset[str] | None) -> Unseen:
    """Leave out the cases that were trained on.

    Parameters
    ----------
    cases : sequence of StoredCase
    trained : frozenset of str or None
        From `trained_cases`.

    Returns
    -------
    Unseen

    Raises
    ------
    InputError
        None is left.
    """
    if trained is None:
        return Unseen(tuple(cases), None)
    left = tuple(case for case in cases if case.name not in trained)
    if not left:
        raise InputError(
            f"all {len(cases)} cases were trained on: evaluate on others, hold some out of the "
            "training, or give --with-trained"
        )
    return Unseen(left, len(cases) - len(left))


def refuse_trained(names: Sequence[str], trained: frozenset[str] | None) -> None:
    """Refuse phantoms that a network has been trained on.

    Raises
    ------
    InputError
        With the first of them.
    """
    seen = [name for name in names if trained and name in trained]
    if seen:
        raise InputError(
            f"{len(seen)} of the phantoms were trained on ({seen[0]} is one): give another "
            "--first-seed"
        )
