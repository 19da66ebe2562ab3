"""The drawing of training patches: a pure function of seed, step and index."""

from __future__ import annotations

from dataclasses import astuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from dlild_client.contract.classes import Label
from dlild_export.data.labels import IGNORE
from dlild_export.training.augment import Augment
from dlild_export.training.cases import CLASSES, ArrayCache, TrainingCase
from dlild_export.training.config import TrainConfig

_COARSE = 2  # voxels between two remembered ones of a class
_VOXELS = 20_000  # remembered of a class and case; enough to be anywhere in it
_ANYWHERE, _LUNG, _SURFACE, _LESION = range(4)
_SURFACE = CLASSES  # index of the voxels on the surface, behind those of the classes

# Step of the training, and index of the patch in the batch of all processes.
Key = tuple[int, int]


class PatchSource(Dataset[tuple[Tensor, Tensor]]):
    """Draws patches, so that every class is met often, wherever it is rare.

    Nothing is remembered from one draw to the next. So a training that goes on after a kill, or
    that is shared by several processes, meets the same patches as one that does neither.

    Parameters
    ----------
    cases : list of TrainingCase
        To draw from.
    config : TrainConfig
        Its `seed`, `stages`, `sampling` and `augmentation`.
    """

    def __init__(self, cases: list[TrainingCase], config: TrainConfig) -> None:
        self.cases, self.config = cases, config
        self._arrays = ArrayCache(config.cache_gb * 1e9)
        self._voxels = []
        for case in cases:
            self._voxels.append(find_voxels(self._arrays.get(case.path)[1]))
        self._augment = Augment(config.augmentation)
        shares = np.array(astuple(config.sampling))
        self._shares = shares / shares.sum()
        # Cases that have a class or surface at all.
        self._having = [
            [i for i, voxels in enumerate(self._voxels) if len(voxels[kind])]
            for kind in range(CLASSES + 1)
        ]
        self._lesions = [n for n in range(Label.GROUND_GLASS, CLASSES) if self._having[n]]

    def __getitem__(self, key: Key) -> tuple[Tensor, Tensor]:
        """Draw one patch.

        Parameters
        ----------
        key : tuple of int
            Step, and index of the patch within it.

        Returns
        -------
        hu : Tensor of float32, shape (1, patch, patch, patch)
            HU.
        labels : Tensor of uint8, shape (1, patch, patch, patch)
            Class of every voxel, or 255 where it is not known.
        """
        rng = np.random.default_rng([self.config.seed, *key])
        number, centre = self._choose(rng)
        patch = self.config.stage(key[0]).patch
        hu, labels = self._arrays.get(self.cases[number].path)
        size = self._augment.size(patch, rng)
        start = centre + rng.integers(-patch // 8, patch // 8 + 1, 3) - size // 2
        return self._augment(
            torch.from_numpy(_cut(hu, start, size, -1024).astype(np.float32))[None],
            torch.from_numpy(_cut(labels, start, size, 0).astype(np.uint8))[None],
            patch,
            rng,
        )

    def case(self, key: Key) -> TrainingCase:
        """Return the case that a patch comes from."""
        rng = np.random.default_rng([self.config.seed, *key])
        return self.cases[self._choose(rng)[0]]

    def _choose(self, rng: np.random.Generator) -> tuple[int, np.ndarray]:
        """Choose a case, and the voxel that the patch goes round."""
        kind = int(rng.choice(4, p=self._shares))
        if kind == _LESION and self._lesions:
            group = int(rng.choice(self._lesions))
        else:
            group = _SURFACE if kind == _SURFACE else 1
        having = self._having[group]
        if kind == _ANYWHERE or not having:
            number = int(rng.integers(len(self.cases)))
            return number, rng.integers(self.cases[number].shape)
        number = having[rng.integers(len(having))]
        voxels = self._voxels[number][group]
        coarse = tuple(-(-n // _COARSE) for n in self.cases[number].shape)
        voxel = np.unravel_index(voxels[rng.integers(len(voxels))], coarse)
        return number, np.array(voxel) * _COARSE


def find_voxels(labels: np.ndarray) -> list[np.ndarray]:
    """Remember where the classes are, and the surface of the lungs, on every second voxel.

    Parameters
    ----------
    labels : ndarray of uint8, shape (z, y, x)
        Truth.

    Returns
    -------
    list of ndarray of int32
        Flat indices into `labels[::2, ::2, ::2]`, at most 20 000 evenly chosen: one array a
        class, and a last one for voxels of lung or lesion that touch a voxel outside the lungs.
    """
    small = np.ascontiguousarray(labels[::_COARSE, ::_COARSE, ::_COARSE])
    masks = [small == label for label in range(CLASSES)]
    outside = small == 0
    touching = np.zeros_like(outside)
    for axis in range(3):
        here, there = (
            np.moveaxis(a, axis, 0) for a in (touching, outside)
        )  # views: writing to `here` writes to `touching`
        here[1:] |= there[:-1]
        here[:-1] |= there[1:]
    masks.append(touching & ~outside & (small != IGNORE))
    return [_thin(np.flatnonzero(mask).astype(np.int32)) for mask in masks]


def _thin(voxels: np.ndarray) -> np.ndarray:
    if len(voxels) <= _VOXELS:
        return voxels
    return voxels[np.linspace(0, len(voxels) - 1, _VOXELS).astype(np.int64)]


def _cut(volume: np.ndarray, start: np.ndarray, size: int, padding: int) -> np.ndarray:
    """Cut a cube out of a volume, padded where it reaches over the edge."""
    low = np.maximum(start, 0)
    high = np.maximum(np.minimum(start + size, volume.shape), low)
    cube = np.full((size, size, size), padding, volume.dtype)
    target = tuple(slice(a, b) for a, b in zip(low - start, high - start, strict=True))
    cube[target] = volume[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
    return cube
