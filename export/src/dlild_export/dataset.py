"""A set of phantoms on disk, and the drawing of training patches from it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict
from pathlib import Path

import numpy as np

from dlild_export.phantom import PhantomSpec, make_phantom

_CLASSES = 6
_STEP = 2  # voxels between two remembered places of a class


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


class PatchSource:
    """Draws patches, so that every class is met often, wherever it is rare.

    Parameters
    ----------
    folder : pathlib.Path
        What `write_phantoms` wrote.
    patch : int
        Edge of the cubic patches, voxels.
    seed : int
        Seed of the draw.
    """

    def __init__(self, folder: Path, patch: int, seed: int) -> None:
        self.files = phantom_files(folder)
        self.patch = patch
        self.rng = np.random.default_rng(seed)
        self._scans: list[tuple[np.ndarray, np.ndarray, list[np.ndarray]]] = []
        for file in self.files:
            with np.load(file) as stored:
                hu, labels = stored["hu"], stored["labels"]
            small = labels[::_STEP, ::_STEP, ::_STEP]
            places = [np.flatnonzero(small == label).astype(np.int32) for label in range(_CLASSES)]
            self._scans.append((hu, labels, places))

    def draw(self) -> tuple[np.ndarray, np.ndarray]:
        """Draw one patch.

        Returns
        -------
        hu : ndarray of float32, shape (patch, patch, patch)
            HU.
        labels : ndarray of int64, shape (patch, patch, patch)
            Class of every voxel.
        """
        hu, labels, places = self._scans[self.rng.integers(len(self._scans))]
        centre = self._centre(labels.shape, places)
        start = centre - self.patch // 2 + self.rng.integers(-8, 9, 3)
        hu_patch = _cut(hu, start, self.patch, -1024).astype(np.float32)
        label_patch = _cut(labels, start, self.patch, 0).astype(np.int64)
        if self.rng.random() < 0.5:
            hu_patch, label_patch = hu_patch[:, :, ::-1], label_patch[:, :, ::-1]
        if self.rng.random() < 0.05:
            hu_patch, label_patch = hu_patch[:, ::-1], label_patch[:, ::-1]
        hu_patch = hu_patch * self.rng.uniform(0.97, 1.03) + self.rng.uniform(-20, 20)
        if self.rng.random() < 0.2:
            extra = self.rng.uniform(5, 40)
            hu_patch = hu_patch + extra * self.rng.standard_normal(hu_patch.shape, np.float32)
        return np.ascontiguousarray(hu_patch, np.float32), np.ascontiguousarray(label_patch)

    def _centre(self, shape: tuple[int, ...], places: list[np.ndarray]) -> np.ndarray:
        """Anywhere, in the lungs, or in a lesion class, a third of the time each."""
        lesions = [p for p in places[2:] if len(p)]
        kind = self.rng.integers(3)
        if kind == 0:
            return np.array([self.rng.integers(n) for n in shape])
        if kind == 1 or not lesions:
            chosen = places[1] if len(places[1]) else lesions[0]
        else:
            chosen = lesions[self.rng.integers(len(lesions))]
        small = tuple(-(-n // _STEP) for n in shape)
        return np.array(np.unravel_index(chosen[self.rng.integers(len(chosen))], small)) * _STEP


def _cut(volume: np.ndarray, start: np.ndarray, size: int, padding: int) -> np.ndarray:
    """Cut a cube out of a volume, padded where it reaches over the edge."""
    low = np.maximum(start, 0)
    high = np.minimum(start + size, volume.shape)
    high = np.maximum(high, low)
    cube = np.full((size, size, size), padding, volume.dtype)
    target = tuple(slice(a, b) for a, b in zip(low - start, high - start, strict=True))
    cube[target] = volume[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
    return cube
