"""Take the bias out of the score: one number, added to the logits of all lesion classes.

A network trained on few steps is cautious at the rim of a lesion, and a cautious network measures
too little of it. The number that makes the volume of lesions right on average is found on cases
of the training, never on those of the evaluation.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from dlild_export.crop import box_of, pad_to_multiple
from dlild_export.labels import IGNORE
from dlild_export.prepare import prepared_files
from dlild_export.unet import UNet

FIRST_LESION = 2

_CANDIDATES = np.linspace(0.0, 2.0, 21)


def lesion_share(logits: np.ndarray, bias: float) -> tuple[int, int]:
    """Count lung and lesion voxels when a bias is added to the lesion classes.

    Parameters
    ----------
    logits : ndarray, shape (classes, …)
        Logits of the network.
    bias : float
        Added to the logits of the lesion classes.

    Returns
    -------
    lung, lesion : int
        Voxels of all lung, lesions included, and of all lesions.
    """
    lesion_logit = logits[FIRST_LESION:].max(axis=0) + bias
    lesion = lesion_logit > logits[:FIRST_LESION].max(axis=0)
    lung = lesion | (logits[1] > logits[0])
    return int(lung.sum()), int(lesion.sum())


def find_lesion_bias(
    network: UNet,
    folder: Path,
    *,
    count: int = 10,
    progress: Callable[[int], None] | None = None,
) -> float:
    """Find the bias that makes the mean DL-ILD of training cases right.

    Parameters
    ----------
    network : UNet
        Trained network, in evaluation mode.
    folder : pathlib.Path
        Cases of the training: `*.npz` with `hu` and `labels`, shape (z, y, x).
    count : int
        How many of them to look at, evenly spread.
    progress : callable, optional
        Called with the number of cases done.

    Returns
    -------
    float
        Between 0 and 2; 0 changes nothing.

    Raises
    ------
    FileNotFoundError
        The folder holds no cases.
    """
    files = prepared_files(folder)
    chosen = [files[i] for i in np.unique(np.linspace(0, len(files) - 1, count).astype(int))]
    errors = np.zeros(len(_CANDIDATES))
    for done, file in enumerate(chosen, start=1):
        hu, labels = _around_lungs(file, network.config.stride)
        with torch.inference_mode():
            window = torch.from_numpy(hu.astype(np.float32))[None, None]
            logits = network(window)[0].numpy()
        known = labels != IGNORE
        logits, labels = logits[:, known], labels[known]
        truth = 100 * (labels >= FIRST_LESION).sum() / (labels >= 1).sum()
        for place, bias in enumerate(_CANDIDATES):
            lung, lesion = lesion_share(logits, float(bias))
            errors[place] += 100 * lesion / max(lung, 1) - truth
        if progress:
            progress(done)
    return float(_CANDIDATES[np.argmin(np.abs(errors))])


def add_lesion_bias(network: UNet, bias: float) -> None:
    """Add a bias to the lesion classes, inside the network's last layer."""
    with torch.no_grad():
        last = network.head.bias
        assert last is not None
        last[FIRST_LESION:] += bias


def _around_lungs(file: Path, stride: int) -> tuple[np.ndarray, np.ndarray]:
    """HU and labels of the box of the lungs, with edges that the network takes."""
    with np.load(file) as stored:
        hu, labels = stored["hu"], stored["labels"]
    box = box_of(labels, margin=16)
    return pad_to_multiple(hu[box], stride, -1024), pad_to_multiple(labels[box], stride, 0)
