"""nnU-Net's own sliding window round our network: what a group that runs nnU-Net waits for."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from bench.support.contenders import EDGE, percent
from bench.support.scan import MeasuredScan
from torch import nn

STEP = 0.5
"""Share of its edge that a tile moves by: nnU-Net's default."""


def nnunet(
    network: nn.Module, hu: np.ndarray, scan: MeasuredScan, packages: Path
) -> Callable[[], float]:
    """nnU-Net's predictor on prepared HU, its labels, and DL-ILD.

    Tiles that overlap by half and Gaussian weights, as nnU-Net has them by default. Without its
    mirroring, which takes eight times as long: the network was not trained for it.

    Parameters
    ----------
    network : Module
        (1, 1, z, y, x) to (1, classes, z, y, x).
    hu : ndarray of float32, shape (z, y, x)
    scan : MeasuredScan
        Whose classes the network has.
    packages : Path
        Folder with what `requirements/nnunet.txt` lists.

    Returns
    -------
    callable
        Scores the scan once and returns DL-ILD in percent.

    Raises
    ------
    ModuleNotFoundError
        nnU-Net is not there.
    """
    # nnU-Net complains on standard output where its folders are not named.
    for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        os.environ.setdefault(name, str(packages))
    sys.path.append(str(packages))
    prediction = import_module("nnunetv2.inference.predict_from_raw_data")
    predictor = prediction.nnUNetPredictor(
        tile_step_size=STEP,
        use_gaussian=True,
        use_mirroring=False,
        perform_everything_on_device=False,
        device=torch.device("cpu"),
        allow_tqdm=False,
    )
    predictor.network = network
    predictor.configuration_manager = SimpleNamespace(patch_size=(EDGE,) * 3)
    predictor.label_manager = SimpleNamespace(num_segmentation_heads=len(scan.contract.classes))
    image = torch.from_numpy(hu)[None]

    return lambda: percent(predictor.predict_sliding_window_return_logits(image), scan)
