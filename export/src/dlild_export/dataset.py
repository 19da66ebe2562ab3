"""The drawing of training patches from prepared cases."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dlild_export.prepare import prepared_files

_CLASSES = 6
_STEP = 2  # voxels between two remembered places of a class


class PatchSource:
    """Draws patches, so that every class is met often, wherever it is rare.

    Parameters
    ----------
    folder : pathlib.Path
        Prepared cases (`*.npz`).
    patch : int
        Edge of the cubic patches, voxels.
    seed : int
        Seed of the draw.
    """

    def __init__(self, folder: Path, patch: int, seed: int) -> None:
        self.files = prepared_files(folder)
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
