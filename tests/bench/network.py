"""The served weights as a torch network, for the contenders that run on torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from dlild_export.unet import UNet, UNetConfig


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
    ValueError
        The network of `dlild_export.unet` is not the one in the file.
    """
    network = UNet(_config(path)).eval()
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.BatchNorm3d):
                setattr(module, name, nn.Identity())
    layers = [m for m in _in_order(network) if isinstance(m, nn.Conv3d | nn.ConvTranspose3d)]
    weights = _weights(path)
    if len(layers) != len(weights):
        raise ValueError(f"{path}: {len(weights)} convolutions, the network has {len(layers)}")
    for layer, (kernel, bias) in zip(layers, weights, strict=True):
        layer.weight = nn.Parameter(torch.from_numpy(kernel), requires_grad=False)
        layer.bias = nn.Parameter(torch.from_numpy(bias), requires_grad=False)
    return _Probabilities(network)


class _Probabilities(nn.Module):
    def __init__(self, network: UNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, hu: Tensor) -> Tensor:
        return torch.softmax(self.network(hu), dim=1)


def _in_order(network: UNet) -> list[nn.Module]:
    """Layers in the order in which they run, which is that of the file."""
    blocks: list[nn.Module] = list(network.down)
    for rise, block in zip(network.rise, network.up, strict=True):
        blocks += [rise, block]
    return [layer for block in (*blocks, network.head) for layer in block.modules()]


def _config(path: Path) -> UNetConfig:
    weights = [kernel for kernel, _ in _weights(path)]
    levels = sum(kernel.shape[2] == 2 for kernel in weights) + 1
    return UNetConfig(
        channels=tuple(kernel.shape[0] for kernel in weights[: 2 * levels : 2]),
        classes=weights[-1].shape[0],
    )


def _weights(path: Path) -> list[tuple[np.ndarray, np.ndarray]]:
    graph = onnx.load(str(path)).graph
    values = {tensor.name: numpy_helper.to_array(tensor).copy() for tensor in graph.initializer}
    return [
        (values[node.input[1]], values[node.input[2]])
        for node in graph.node
        if node.op_type in {"Conv", "ConvTranspose"}
    ]


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
