"""The served weights as a torch network, for the contenders that run on torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import torch
from torch import Tensor, nn

from dlild_export.serving.onnx import round_to_bf16
from dlild_export.training.start import load_network
from dlild_export.training.unet import UNet


def torch_network(path: Path) -> nn.Module:
    """Load the weights of the served ONNX file into torch: float32 HU in, probabilities out.

    Parameters
    ----------
    path : Path
        The ONNX file. Its convolutions have taken up the batch normalisation, so the network here
        has none either, which makes it faster, not slower.

    Returns
    -------
    Module
        (1, 1, z, y, x) to (1, classes, z, y, x).

    Raises
    ------
    WeightsError
        The file holds another network than that of `dlild_export.training.unet`.
    """
    network = load_network(path)
    round_to_bf16(network)  # folds the normalisation; what is served is rounded already
    return _Probabilities(network.requires_grad_(requires_grad=False))


class _Probabilities(nn.Module):
    def __init__(self, network: UNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, hu: Tensor) -> Tensor:
        return torch.softmax(self.network(hu), dim=1)


def check_same_network(network: nn.Module, path: Path, window: np.ndarray) -> float:
    """Run one window through torch and the ONNX file; return the largest difference.

    Raises
    ------
    ValueError
        They are not the same network.
    """
    runtime = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    expected = runtime.run(None, {"window": window})[0].astype(np.float32)
    with torch.inference_mode():
        found = network(torch.from_numpy(window.astype(np.float32))).numpy()
    largest = float(np.abs(found - expected).max())
    if largest > 5e-3:
        raise ValueError(f"torch and {path.name} differ by {largest:.4f}: not the same network")
    return largest
