"""Take the bias out of the score: one number a class, added to its logits.

A network trained on few steps is cautious: it measures too little of a class that is easily taken
for another. The numbers that make the volume of every class right are found here, on cases that
the training has not seen if there are any (on its own it is less cautious), and never on those of
the evaluation.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from dlild_client.contract import Contract
from dlild_client.contract.labels import SURE, label_voxels
from dlild_export.data.crop import box_of, pad_to_multiple
from dlild_export.data.labels import IGNORE
from dlild_export.data.prepare import prepared_files
from dlild_export.serving.sliding import Network
from dlild_export.training.unet import UNet

_VOXELS = 100_000  # looked at of a case: its volumes are then right to about 1 %
_LEAST = 6e-8  # smallest probability that FP16 holds
_ROUNDS, _STEP = 80, 0.5
_WIDEST = 3.0  # no bias goes further: what needs more needs training

LogProbabilities = npt.NDArray[np.float32]


def find_class_biases(
    run: Network,
    folder: Path,
    *,
    contract: Contract,
    stride: int,
    count: int = 40,
    progress: Callable[[int], None] | None = None,
) -> tuple[float, ...]:
    """Find the biases that make the volume of every class right on some cases.

    Parameters
    ----------
    run : callable
        The network as it is served, on one window.
    folder : pathlib.Path
        Prepared cases: `*.npz` with `hu` and `labels`, shape (z, y, x).
    contract : Contract
        Classes, and the rule by which voxels are labelled.
    stride : int
        Voxels that a window's edges must be a multiple of.
    count : int
        How many of them to look at, evenly spread.
    progress : callable, optional
        Called with the number of cases done.

    Returns
    -------
    tuple of float
        One a class; 0 for the first, what lies outside the lungs.

    Raises
    ------
    FileNotFoundError
        The folder holds no cases.
    """
    files = prepared_files(folder)
    chosen = [files[i] for i in np.unique(np.linspace(0, len(files) - 1, count).astype(int))]
    samples = []
    for done, file in enumerate(chosen, start=1):
        samples.append(_sample(run, *_around_lungs(file, stride)))
        if progress:
            progress(done)
    return match_volumes(samples, contract)


def match_volumes(
    samples: list[tuple[LogProbabilities, npt.NDArray[np.uint8]]], contract: Contract
) -> tuple[float, ...]:
    """Find the biases with which every class is predicted as often as it is true.

    Parameters
    ----------
    samples : list of tuple
        Of every case: logarithms of the probabilities, shape (classes, voxels), and the truth,
        shape (voxels,).
    contract : Contract
        Classes, and the rule by which voxels are labelled.

    Returns
    -------
    tuple of float
        One a class, at most 3 either way; 0 for the first, and for one that is nowhere true.
    """
    classes = len(samples[0][0])
    true = np.sum([np.bincount(truth, minlength=classes) for _, truth in samples], axis=0)
    met = true > 0
    biases = np.zeros(classes, dtype=np.float32)
    for _ in range(_ROUNDS):
        predicted = np.sum(
            [_count_called(logs + biases[:, None], contract) for logs, _ in samples], axis=0
        )
        biases[met] += _STEP * np.log(true[met] / np.maximum(predicted[met], 1))
        biases = np.clip(biases - biases[0], -_WIDEST, _WIDEST) * met
    return tuple(round(float(bias), 3) for bias in biases)


def _count_called(logs: LogProbabilities, contract: Contract) -> npt.NDArray[np.int64]:
    """Voxels that the rule of the contract gives to each class."""
    values = np.exp(logs)
    labels, _ = label_voxels(
        values, contract.classes, contract.score.labels, sure=SURE * values.sum(axis=0)
    )
    return np.bincount(labels, minlength=len(values))


def add_class_biases(network: UNet, biases: tuple[float, ...]) -> None:
    """Add a bias to every class, inside the network's last layer."""
    with torch.no_grad():
        last = network.head.bias
        assert last is not None
        last += torch.tensor(biases, dtype=last.dtype)


def _sample(
    run: Network, hu: np.ndarray, labels: np.ndarray
) -> tuple[LogProbabilities, npt.NDArray[np.uint8]]:
    """Run the network, and keep an even share of the voxels that may be lung."""
    probabilities = run(hu[None, None].astype(np.float16))[0].reshape(-1, labels.size)
    truth = labels.ravel()
    # Air and muscle that the network is sure of would only fill the memory.
    open_ = np.flatnonzero((truth != IGNORE) & ((truth > 0) | (probabilities[0] < 1)))
    kept = open_[:: max(1, len(open_) // _VOXELS)]
    return np.log(np.maximum(probabilities[:, kept].astype(np.float32), _LEAST)), truth[kept]


def _around_lungs(file: Path, stride: int) -> tuple[np.ndarray, np.ndarray]:
    """HU and labels of the box of the lungs, with edges that the network takes."""
    with np.load(file) as stored:
        hu, labels = stored["hu"], stored["labels"]
    box = box_of(labels, margin=16)
    return pad_to_multiple(hu[box], stride, -1024), pad_to_multiple(labels[box], stride, 0)
