"""How well the served network finds lungs and lesions in phantoms it has never seen."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime

from dlild_export.crop import box_of, pad_to_multiple
from dlild_export.onnx_export import INPUT, OUTPUT
from dlild_export.phantom import Phantom, make_phantom, random_spec
from dlild_export.phantoms import mask_for

_EDGE_MULTIPLE = 8


@dataclass(frozen=True)
class Score:
    """Agreement of a prediction with a phantom's truth.

    Attributes
    ----------
    seed : int
        Seed of the phantom.
    lung_dice, lesion_dice : float
        Dice of all lung classes together, and of all lesion classes together. Lesion Dice is NaN
        where the phantom has no lesion.
    dl_ild_percent, true_percent : float
        DL-ILD as predicted, and as it is.
    """

    seed: int
    lung_dice: float
    lesion_dice: float
    dl_ild_percent: float
    true_percent: float


def dice(first: np.ndarray, second: np.ndarray) -> float:
    """Return the Dice coefficient of two masks, NaN where both are empty (Dice 1945)."""
    total = int(first.sum()) + int(second.sum())
    return 2 * int((first & second).sum()) / total if total else float("nan")


def predict(session: onnxruntime.InferenceSession, hu: np.ndarray) -> np.ndarray:
    """Return the most likely class of every voxel, the whole volume in one window.

    Parameters
    ----------
    session : onnxruntime.InferenceSession
        The served network.
    hu : ndarray, shape (z, y, x)
        HU on the grid.

    Returns
    -------
    ndarray of uint8, shape (z, y, x)
    """
    window = pad_to_multiple(hu, _EDGE_MULTIPLE, -1024).astype(np.float16)[None, None]
    probabilities = session.run([OUTPUT], {INPUT: window})[0][0]
    z, y, x = hu.shape
    labels: np.ndarray = probabilities.argmax(axis=0).astype(np.uint8)[:z, :y, :x]
    return labels


def evaluate(
    weights: Path, seeds: range, *, lung_masks: list[Path] | None = None
) -> Iterator[Score]:
    """Score the network on phantoms of the given seeds.

    Parameters
    ----------
    weights : pathlib.Path
        The ONNX file.
    seeds : range
        Seeds that the training has not seen.
    lung_masks : list of pathlib.Path, optional
        Masks of real lungs for every second phantom.

    Yields
    ------
    Score
    """
    session = onnxruntime.InferenceSession(str(weights), providers=["CPUExecutionProvider"])
    for seed in seeds:
        phantom = make_phantom(random_spec(seed), lung_mask=mask_for(seed, lung_masks or []))
        yield score(phantom, predict(session, phantom.hu[_lungs_box(phantom)]), seed)


def _lungs_box(phantom: Phantom) -> tuple[slice, ...]:
    return box_of(phantom.labels, margin=16)


def score(phantom: Phantom, predicted: np.ndarray, seed: int) -> Score:
    """Compare a prediction on the box of the lungs with the phantom's truth."""
    truth = phantom.labels[_lungs_box(phantom)]
    lung, lesion = predicted >= 1, predicted >= 2
    return Score(
        seed=seed,
        lung_dice=dice(lung, truth >= 1),
        lesion_dice=dice(lesion, truth >= 2) if (truth >= 2).any() else float("nan"),
        dl_ild_percent=100 * int(lesion.sum()) / max(int(lung.sum()), 1),
        true_percent=phantom.dl_ild_percent,
    )


def summarise(scores: list[Score]) -> dict[str, float]:
    """Return means over the phantoms; lesion Dice over those that have lesions.

    Parameters
    ----------
    scores : list of Score
        What `evaluate` yielded.

    Returns
    -------
    dict of str to float
        `dl_ild_bias` is predicted minus true, in points; `dl_ild_mae` the mean absolute error.
    """
    errors = np.array([s.dl_ild_percent - s.true_percent for s in scores])
    return {
        "phantoms": float(len(scores)),
        "lung_dice": float(np.mean([s.lung_dice for s in scores])),
        "lesion_dice": float(np.nanmean([s.lesion_dice for s in scores])),
        "dl_ild_mae": float(np.abs(errors).mean()),
        "dl_ild_bias": float(errors.mean()),
    }
