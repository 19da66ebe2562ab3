"""Weights to begin a training with: those of a checkpoint, or of a released ONNX file."""

from __future__ import annotations

import pickle
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from dlild_export.training.unet import HEALTHY_HU, LEVEL_HU, UNet, UNetConfig

_FIRST = {"lung_level": False, "relative_hu": False, "centre_hu": -374.0, "unit_hu": 650.0}
"""What checkpoints do not tell that are older than the choice: what the network sees."""

_FIRST_LEVEL = (-850.0, 100.0)
"""HU at which the level of the lung was 0, and HU to 1, when the network saw HU as `_FIRST`."""

_FIRST_WEIGHT, _FIRST_MEAN = "down.0.0.weight", "down.0.1.running_mean"


class WeightsError(ValueError):
    """A file of weights that cannot be used; the message names it and says why."""


def load_network(path: Path) -> UNet:
    """Load the weights of a checkpoint or of a released ONNX file, ready for inference.

    Parameters
    ----------
    path : pathlib.Path
        `checkpoint.pt` of a training, whose averaged weights are taken, or a `model.onnx`.

    Returns
    -------
    UNet
        In evaluation mode, on the CPU.

    Raises
    ------
    WeightsError
        The file is neither, or holds another network.
    """
    if not path.is_file():
        raise WeightsError(f"{path}: no such file")
    network = _from_onnx(path) if path.suffix == ".onnx" else _from_checkpoint(path)
    return network.eval()


def _from_checkpoint(path: Path) -> UNet:
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)
        network = UNet(UNetConfig(**_FIRST | stored["config"]["network"]))
        prefix = "module."
        network.load_state_dict(
            {k.removeprefix(prefix): v for k, v in stored["average"].items() if k != "n_averaged"}
        )
        _renew_level(network)
    except (OSError, RuntimeError, EOFError, KeyError, TypeError, pickle.UnpicklingError) as error:
        reason = str(error).splitlines()[0]
        raise WeightsError(f"{path}: no checkpoint of `dlild-export train`: {reason}") from None
    return network


def _from_onnx(path: Path) -> UNet:
    """Read the network back from its graph, in which batch normalisation has become a bias."""
    try:
        graph = onnx.load(str(path)).graph
        weights = {i.name: numpy_helper.to_array(i) for i in graph.initializer}
        convolutions, rises = (
            [
                [weights[name].astype(np.float32) for name in node.input[1:3]]
                for node in graph.node
                if node.op_type == kind
            ]
            for kind in ("Conv", "ConvTranspose")
        )
        network = UNet(_config_of(graph, weights, convolutions, len(rises)))
        _fill(network, convolutions, rises)
        _renew_level(network)
    except (OSError, ValueError, KeyError, IndexError, RuntimeError) as error:
        raise WeightsError(f"{path}: not an ONNX file of this U-Net: {error}") from None
    except Exception as error:
        # protobuf's own error has no base that could be named without importing its internals.
        if type(error).__name__ != "DecodeError":
            raise
        raise WeightsError(f"{path}: not an ONNX file: {error}") from None
    return network


def _config_of(
    graph: onnx.GraphProto,
    weights: dict[str, np.ndarray],
    convolutions: list[list[np.ndarray]],
    depth: int,
) -> UNetConfig:
    if depth < 1 or len(convolutions) != 4 * depth + 3:
        raise ValueError(f"{len(convolutions)} convolutions and {depth} transposed ones")
    # One exporter writes the window's bounds as nodes, another one beside the weights.
    constants = weights | {
        node.output[0]: numpy_helper.to_array(node.attribute[0].t)
        for node in graph.node
        if node.op_type == "Constant"
    }
    # Since version 3 a graph takes healthy lung off first, in whole numbers.
    origin = HEALTHY_HU if any(_casts_to_int32(node) for node in graph.node) else 0.0
    # The window is the last thing that HU go through; what moves them before has bounds of its own.
    window = [node for node in graph.node if node.op_type == "Clip"][-1]
    bounds = [float(constants[name]) + origin for name in window.input[1:]]
    after = {node.input[0]: node for node in graph.node if node.input}
    step, centre = after[window.output[0]], 0.0
    if step.op_type == "Sub":
        centre, step = float(constants[step.input[1]]), after[step.output[0]]
    if len(bounds) != 2 or step.op_type != "Div":
        raise ValueError("no window of HU")
    return UNetConfig(
        centre_hu=centre + origin,
        unit_hu=float(constants[step.input[1]]),
        lung_level=convolutions[0][0].shape[1] == 2,
        relative_hu=any(node.op_type == "Min" for node in graph.node),
        channels=tuple(convolutions[2 * level][0].shape[0] for level in range(depth + 1)),
        classes=convolutions[-1][0].shape[0],
        window_hu=(bounds[0], bounds[1]),
    )


def _casts_to_int32(node: onnx.NodeProto) -> bool:
    return node.op_type == "Cast" and node.attribute[0].i == onnx.TensorProto.INT32


def _fill(
    network: UNet, convolutions: list[list[np.ndarray]], rises: list[list[np.ndarray]]
) -> None:
    *blocks, head = convolutions
    with torch.no_grad():
        for (weight, bias), (conv, norm) in zip(blocks, normalised(network), strict=True):
            _copy(conv.weight, weight)
            # Mean 0 and variance 1 - eps: the normalisation passes the convolution through.
            _copy(norm.running_mean, np.zeros_like(bias))
            _copy(norm.running_var, np.full_like(bias, 1 - norm.eps))
            _copy(norm.weight, np.ones_like(bias))
            _copy(norm.bias, bias)
        for module, values in zip((network.head, *network.rise), (head, *rises), strict=True):
            for name, value in zip(("weight", "bias"), values, strict=True):
                _copy(module.get_parameter(name), value)


def _copy(parameter: Tensor | None, values: np.ndarray) -> None:
    assert parameter is not None
    if parameter.shape != values.shape:
        raise ValueError(f"weights of shape {values.shape} stand where {tuple(parameter.shape)} go")
    parameter.copy_(torch.from_numpy(values.copy()))


def normalised(network: UNet) -> list[tuple[nn.Conv3d, nn.BatchNorm3d]]:
    """Return every convolution and the normalisation that follows it, in the graph's order."""
    pairs = []
    for block in (*network.down, *network.up):
        layers = list(block.children())
        pairs += [(layers[0], layers[1]), (layers[3], layers[4])]
    return pairs


def adopt(network: UNet, config: UNetConfig) -> UNet:
    """Return a network of another configuration's inputs, with the same weights.

    Parameters
    ----------
    network : UNet
        Trained; told the level of the lung, or not.
    config : UNetConfig
        What it is to become.

    Returns
    -------
    UNet
        Where only the level of the lung is new to it, or another scale, it computes the same until
        it is trained further, but for the rim of a window, beyond which a convolution sees the
        scale's 0. Relative HU it has to get used to.
    """
    before = network.config
    became = replace(
        before,
        lung_level=before.lung_level or config.lung_level,
        relative_hu=before.relative_hu or config.relative_hu,
        centre_hu=config.centre_hu,
        unit_hu=config.unit_hu,
    )
    weights = network.state_dict()
    _rescale(weights, 0, (before.centre_hu, before.unit_hu), (became.centre_hu, became.unit_hu))
    if became.lung_level and not before.lung_level:
        weights[_FIRST_WEIGHT] = torch.cat(
            (weights[_FIRST_WEIGHT], torch.zeros_like(weights[_FIRST_WEIGHT])), dim=1
        )
    adopted = UNet(became)
    adopted.load_state_dict(weights)
    return adopted.train(network.training)


def _renew_level(network: UNet) -> None:
    """Let a network that was trained on the level's first scale see it on today's."""
    seen = {"centre_hu": network.config.centre_hu, "unit_hu": network.config.unit_hu}
    if network.config.lung_level and seen.items() <= _FIRST.items():
        weights = network.state_dict()
        _rescale(weights, 1, _FIRST_LEVEL, (HEALTHY_HU, LEVEL_HU))
        network.load_state_dict(weights)


def _rescale(
    weights: dict[str, Tensor],
    channel: int,
    before: tuple[float, float],
    after: tuple[float, float],
) -> None:
    """Change the first convolution and its normalisation for an input on another scale.

    A scale is the HU at 0, and the HU to 1.
    """
    weight = weights[_FIRST_WEIGHT].clone()
    offset = (after[0] - before[0]) / before[1]
    weights[_FIRST_MEAN] = weights[_FIRST_MEAN] - offset * weight[:, channel].sum((1, 2, 3))
    weight[:, channel] *= after[1] / before[1]
    weights[_FIRST_WEIGHT] = weight


def restore_statistics(network: UNet, batches: Iterable[Tensor]) -> None:
    """Give batch normalisation its statistics back, without changing what the network computes.

    A network read from ONNX normalises with mean 0 and variance 1. In training, its batches'
    statistics would take their place and make it another network at the first step. So mean and
    variance are measured, and scale and bias changed to undo them.

    Parameters
    ----------
    network : UNet
        Read from an ONNX file; changed in place.
    batches : iterable of Tensor, shape (n, 1, z, y, x)
        HU of patches of the training.
    """
    pairs = normalised(network)
    sums = [torch.zeros(3, norm.num_features, dtype=torch.float64) for _, norm in pairs]

    def measure(total: Tensor) -> object:
        def hook(_: nn.Module, __: object, output: Tensor) -> None:
            flat = output.detach().double().movedim(1, 0).flatten(1)
            total[0] += flat.shape[1]
            total[1] += flat.sum(1)
            total[2] += flat.square().sum(1)

        return hook

    hooks = [
        conv.register_forward_hook(measure(total))  # type: ignore[arg-type]
        for (conv, _), total in zip(pairs, sums, strict=True)
    ]
    network.eval()
    with torch.inference_mode():
        for hu in batches:
            network(hu)
    for hook in hooks:
        hook.remove()
    with torch.no_grad():
        for (_, norm), (count, total, squares) in zip(pairs, sums, strict=True):
            mean = total / count
            variance = (squares / count - mean.square()).clamp_min(0)
            _copy(norm.bias, (norm.bias + mean).float().numpy())
            _copy(norm.weight, (variance + norm.eps).sqrt().float().numpy())
            _copy(norm.running_mean, mean.float().numpy())
            _copy(norm.running_var, variance.float().numpy())
