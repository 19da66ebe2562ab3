"""A set of phantoms on disk."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict
from pathlib import Path

import numpy as np

from dlild_export.phantom import PhantomSpec, make_phantom


def write_phantoms(
    folder: Path,
    specs: list[PhantomSpec],
    *,
    lung_masks: list[Path],
    spacing_mm: float,
    workers: int,
) -> Iterator[int]:
    """Make phantoms, those that are not there yet, and say when each is done.

    Parameters
    ----------
    folder : pathlib.Path
        Gets `SEED.npz` per phantom: `hu` int16 and `labels` uint8, shape (z, y, x), and `spec`.
    specs : list of PhantomSpec
        What to make; the seeds name the files.
    lung_masks : list of pathlib.Path
        Masks of real lungs; every second phantom takes its shape from one of them.
    spacing_mm : float
        Edge of a voxel.
    workers : int
        Processes to make them with.

    Yields
    ------
    int
        Seed of a phantom that is on disk now.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(workers) as pool:
        jobs = [
            pool.submit(_write_one, folder, spec, mask_for(spec.seed, lung_masks), spacing_mm)
            for spec in specs
        ]
        for job in as_completed(jobs):
            yield job.result()


def mask_for(seed: int, lung_masks: list[Path]) -> Path | None:
    """Return the mask that a phantom takes its shape from: every second one does, in turn."""
    return lung_masks[seed // 2 % len(lung_masks)] if lung_masks and seed % 2 else None


def _write_one(folder: Path, spec: PhantomSpec, lung_mask: Path | None, spacing_mm: float) -> int:
    path = folder / f"{spec.seed:06d}.npz"
    if path.exists():
        return spec.seed
    phantom = make_phantom(spec, spacing_mm=spacing_mm, lung_mask=lung_mask)
    unfinished = path.with_name(f"unfinished-{spec.seed}.npz")
    np.savez(unfinished, hu=phantom.hu, labels=phantom.labels, spec=json.dumps(asdict(spec)))
    unfinished.rename(path)
    return spec.seed


def phantom_files(folder: Path) -> list[Path]:
    """Return the phantoms in a folder, in the order of their seeds; none is an error."""
    files = sorted(folder.glob("[0-9]*.npz"))
    if not files:
        raise FileNotFoundError(f"no phantoms in {folder}: make them with `dlild-export phantoms`")
    return files
