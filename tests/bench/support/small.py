"""Small scans with known scores: a chest of a half or a third of its size, lesions elsewhere."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from bench.support.scan import REPOSITORY, measured_scan, network_path

from dlild_client.contract import Contract
from dlild_client.contract.schema import Shape
from dlild_client.preparation.prepare import PreparedScan, prepare
from dlild_client.results.result import Result
from dlild_client.volume import Volume
from dlild_export.serving.configs import write_configs
from engine import Engine, int8_beside
from scan import OpenScan

AERATED_HU = (-950, -700)
DENSER_HU = 350
HALF, THIRD = (64, 80, 80), (40, 56, 40)
"""Largest windows, of which a chest of a half or a third of its size needs four."""


@dataclass(frozen=True)
class Answer:
    """What one version of the network makes of a scan, by the same engine in this process.

    Attributes
    ----------
    dl_ild_percent : float
    labels : ndarray of uint8, shape (z, y, x)
        Label map of the box.
    """

    dl_ild_percent: float
    labels: np.ndarray


@dataclass(frozen=True)
class SmallScan:
    """A volume, its windows, and what a right server makes of it.

    Attributes
    ----------
    volume : Volume
    prepared : PreparedScan
    answers : dict of int to Answer
        By version.
    """

    volume: Volume
    prepared: PreparedScan
    answers: dict[int, Answer]

    def fault_of(self, result: Result) -> str:
        """Say what is wrong with a result; nothing where it is right for the version it names."""
        prepared, version = self.prepared, result.model.version
        if version not in self.answers:
            return f"version {version} answered, must be of {sorted(self.answers)}"
        right = self.answers[version]
        if abs(result.dl_ild_percent - right.dl_ild_percent) > 0.01:
            return f"DL-ILD {result.dl_ild_percent:.4f}, must be {right.dl_ild_percent:.4f}"
        ends = (min(b, n) for b, n in zip(prepared.box.stop, prepared.grid.shape, strict=True))
        box = tuple(slice(a, b) for a, b in zip(prepared.box.start, ends, strict=True))
        found = result.labels.array[box]
        differ = float(np.mean(found != right.labels[tuple(slice(n) for n in found.shape)]))
        return f"{differ:.2%} of the labels differ" if differ > 1e-5 else ""


def small_repository(
    place: Path, window: tuple[int, int, int] = HALF, source: Path = REPOSITORY
) -> Path:
    """Copy a model repository with smaller windows, so that a small scan has several.

    Parameters
    ----------
    place : Path
        Folder to make it in.
    window : tuple of int
        The largest window, (z, y, x) in voxels: for scans of half the size, or of a third.
    source : Path
        The repository to copy; this project's by default.

    Returns
    -------
    Path
        The repository.
    """
    copied = place / "model_repository"
    shutil.copytree(source, copied)
    contract = json.loads((copied / "contract.json").read_text("utf-8"))
    least = [min(a, b) for a, b in zip(contract["windows"]["minimum"], window, strict=True)]
    contract["windows"] |= {
        "minimum": least, "maximum": window, "maximum_voxels": math.prod(window)
    }  # fmt: skip
    # As people write it: a release leaves all of the text but the model as it was.
    (copied / "contract.json").write_text(json.dumps(contract, indent=2), "utf-8")
    write_configs(copied)
    return copied


def earlier_version(repository: Path, served: int) -> int:
    """The version before the served one, whose weights a repository still holds."""
    kept = (int(folder.name) for folder in (repository / "ild_unet").glob("[0-9]*"))
    return max(number for number in kept if number < served)


def small_scans(
    count: int,
    contract: Contract,
    earlier: tuple[int, ...] = (),
    steps: Sequence[Shape] = ((2, 2, 2),),
    source: Path = REPOSITORY,
) -> list[SmallScan]:
    """Make scans of a part of the voxels along every axis, with scores that differ.

    Parameters
    ----------
    count : int
        How many.
    contract : Contract
        What to prepare them by; its version answers.
    earlier : tuple of int
        Versions that may answer as well.
    steps : sequence of tuple of int
        Of how many voxels one is taken, along z, y and x; the scans have them in turn.
    source : Path
        The repository whose networks answer; this project's by default.

    Returns
    -------
    list of SmallScan
    """
    served = contract.model.version
    paths = {number: network_path(source, number) for number in (served, *earlier)}
    engines = {number: Engine(path, int8=int8_beside(path)) for number, path in paths.items()}
    with measured_scan() as whole:
        chest = whole.prepared.grid.array
    scans = []
    for place in range(count):
        hu = chest[tuple(slice(None, None, step) for step in steps[place % len(steps)])].copy()
        lung = (hu > AERATED_HU[0]) & (hu < AERATED_HU[1])
        ill = slice(len(hu) * place // count // 2, len(hu) * (place + 1) // count)
        hu[ill][lung[ill]] += DENSER_HU
        volume = Volume(hu, contract.grid.spacing_mm)
        prepared = prepare(volume, contract)
        answers = {n: score_in_process(prepared, e, contract) for n, e in engines.items()}
        scans.append(SmallScan(volume, prepared, answers))
    scores = sorted(scan.answers[served].dl_ild_percent for scan in scans)
    assert min(np.diff(scores)) > 0.1, f"scores {scores} are too near to be told apart"
    return scans


def score_in_process(prepared: PreparedScan, engine: Engine, contract: Contract) -> Answer:
    """Score the windows without a server: same engine, same blending, one process."""
    scan = OpenScan(
        prepared.box.shape,
        prepared.plan.shape,
        len(prepared.plan.origins),
        contract.grid.voxel_volume_mm3,
        contract,
    )
    for index, (origin, window) in enumerate(prepared.windows(contract.hu.padding)):
        scan.add(engine.infer(window[None, None])[0], origin, index)
    score = scan.finish()
    return Answer(score.dl_ild_percent, score.labels)
