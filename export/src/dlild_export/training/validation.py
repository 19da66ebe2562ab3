"""How a network does on held-out cases, while it is trained."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from monai.inferers.utils import sliding_window_inference
from torch import nn

from dlild_export.data.crop import box_of
from dlild_export.data.labels import IGNORE
from dlild_export.training.cases import CLASSES, ArrayCache, TrainingCase
from dlild_export.training.config import mixed_precision

_MARGIN = 16  # voxels round the lungs
_OVERLAP = 0.25


@dataclass(frozen=True)
class Validation:
    """Agreement with the truth of held-out cases.

    Attributes
    ----------
    dice : tuple of float
        Of every class, over the voxels of all cases together; NaN where none has the class.
    lung_dice, lesion_dice : float
        Of lung with lesions, and of all lesions.
    dl_ild_mae, dl_ild_bias : float
        Mean absolute and mean error of DL-ILD, percentage points.
    """

    dice: tuple[float, ...]
    lung_dice: float
    lesion_dice: float
    dl_ild_mae: float
    dl_ild_bias: float


def validate(
    network: nn.Module,
    cases: list[TrainingCase],
    arrays: ArrayCache,
    *,
    window: int,
    device: torch.device,
    bf16: bool,
) -> Validation:
    """Score a network on cases, window by window round the lungs.

    Parameters
    ----------
    network : torch.nn.Module
        HU to logits; left in the mode that it came in.
    cases : list of TrainingCase
        Held out.
    arrays : ArrayCache
        Gives their voxels.
    window : int
        Edge of the cubic windows, voxels.
    device : torch.device
        Where the network is.
    bf16 : bool
        Compute as in the training.
    """
    training = network.training
    network.eval()
    counts = []
    precision = mixed_precision(device, wanted=bf16)
    for case in cases:
        hu, labels = arrays.get(case.path)
        box = box_of((labels > 0) & (labels != IGNORE), margin=_MARGIN)
        with torch.inference_mode(), precision:
            logits = sliding_window_inference(
                torch.from_numpy(hu[box].astype(np.float32))[None, None],
                (window,) * 3,
                sw_batch_size=1,
                predictor=network,
                overlap=_OVERLAP,
                mode="gaussian",
                padding_mode="constant",
                cval=-1024,
                sw_device=device,
                device=torch.device("cpu"),
            )
        counts.append(confusion(labels[box], logits[0].argmax(dim=0).numpy()))
    network.train(training)
    return summarise(counts)


def confusion(truth: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Count voxels by true class (rows) and predicted class (columns), where truth is known."""
    known = truth != IGNORE
    pairs = truth[known].astype(np.int64) * CLASSES + predicted[known]
    return np.bincount(pairs, minlength=CLASSES**2).reshape(CLASSES, CLASSES)


def summarise(counts: list[np.ndarray]) -> Validation:
    """Return the agreement that the cases' confusion matrices show.

    Parameters
    ----------
    counts : list of ndarray, shape (classes, classes)
        Voxels by true (rows) and predicted (columns) class; one a case.
    """
    total = np.sum(counts, axis=0)
    errors = [_percent(matrix.sum(axis=0)) - _percent(matrix.sum(axis=1)) for matrix in counts]
    return Validation(
        dice=tuple(_dice(total, slice(c, c + 1)) for c in range(CLASSES)),
        lung_dice=_dice(total, slice(1, None)),
        lesion_dice=_dice(total, slice(2, None)),
        dl_ild_mae=float(np.mean(np.abs(errors))),
        dl_ild_bias=float(np.mean(errors)),
    )


def _dice(matrix: np.ndarray, classes: slice) -> float:
    both = matrix[classes, classes].sum()
    sizes = matrix[classes].sum() + matrix[:, classes].sum()
    return float(2 * both / sizes) if sizes else float("nan")


def _percent(volumes: np.ndarray) -> float:
    """DL-ILD of the volumes of the classes."""
    return float(100 * volumes[2:].sum() / max(volumes[1:].sum(), 1))
