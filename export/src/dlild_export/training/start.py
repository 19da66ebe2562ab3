"""Weights to begin a training with: those of a checkpoint, or of a released ONNX file."""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from dlild_export.data.digest import sha256
from dlild_export.training.provenance import NETWORK, network_config, read_metadata
from dlild_export.training.unet import DENSITY_UNIT_HU, HEALTHY_HU, UNet, UNetConfig

_FIRST_SCALE = (-374.0, 650.0)
"""`centre_hu` and `unit_hu` of the networks that saw the lung's density on its first scale."""

_FIRST_DENSITY = (-850.0, 100.0)
"""HU at which the lung's own density was 0 on that scale, and HU to 1."""

_WITHOUT_METADATA = {
    "e02de9f14aed44f5dd312f342bb51e3fc42d0910a6d2141610d8e91ebb66dbfa": UNetConfig(
        centre_hu=-374.0, unit_hu=650.0, lung_density=False, relative_hu=False
    ),
    "9d252c5c2a027919ca29cf0879882829e88c62a9d338590da88555c0d62d8260": UNetConfig(
        centre_hu=-374.0, unit_hu=650.0, relative_hu=False
    ),
    "f2213084d5ad1b547f650b87d0654c3155f902c19a7617e2a01d6e187f9ec22a": UNetConfig(),
    "1954b7419a89119908106a1d4bfdc40ca1fd54b17af4d333f77e3f2ee5f0725b": UNetConfig(),
}
"""Configurations of versions 1 to 4, released before the ONNX file carried them, by SHA-256."""

_CUBE_VOXELS = (
    *((0, 0, 0), (1, 1, 1), (0, 1, 1), (1, 0, 0)),
    *((1, 0, 1), (0, 1, 0), (1, 1, 0), (0, 0, 1)),
)
"""Of a cube of 2 voxels, each beside the one opposite to it: two see most of the cube."""

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
        network = UNet(network_config(stored["config"]["network"]))
        prefix = "module."
        network.load_state_dict(
            {k.removeprefix(prefix): v for k, v in stored["average"].items() if k != "n_averaged"}
        )
        _rescale_density(network)
    except (OSError, RuntimeError, EOFError, KeyError, TypeError, pickle.UnpicklingError) as error:
        reason = str(error).splitlines()[0]
        raise WeightsError(f"{path}: no checkpoint of `dlild-export train`: {reason}") from None
    return network


def _from_onnx(path: Path) -> UNet:
    """Read the network back from its graph, in which batch normalisation has become a bias."""
    try:
        model = onnx.load(str(path))
        weights = {i.name: numpy_helper.to_array(i) for i in model.graph.initializer}
        convolutions, upsampling = (
            [
                [weights[name].astype(np.float32) for name in node.input[1:3]]
                for node in model.graph.node
                if node.op_type == kind
            ]
            for kind in ("Conv", "ConvTranspose")
        )
        network = UNet(_config_of(path, model))
        _fill(network, convolutions, upsampling)
        _rescale_density(network)
    except (OSError, ValueError, KeyError, IndexError, TypeError, RuntimeError) as error:
        raise WeightsError(f"{path}: not an ONNX file of this U-Net: {error}") from None
    except Exception as error:
        # protobuf's own error has no base that could be named without importing its internals.
        if type(error).__name__ != "DecodeError":
            raise
        raise WeightsError(f"{path}: not an ONNX file: {error}") from None
    return network


def _config_of(path: Path, model: onnx.ModelProto) -> UNetConfig:
    """Return the configuration that the file carries, or that of a version without metadata."""
    texts = read_metadata(model)
    if NETWORK in texts:
        return network_config(json.loads(texts[NETWORK]))
    digest = sha256(path)
    if digest not in _WITHOUT_METADATA:
        raise ValueError(
            f"its metadata have no {NETWORK}; if it is of this U-Net, export its checkpoint again "
            "(`dlild-export onnx`)"
        )
    return _WITHOUT_METADATA[digest]


def _fill(
    network: UNet, convolutions: list[list[np.ndarray]], upsampling: list[list[np.ndarray]]
) -> None:
    blocks, upsampling = list(convolutions), list(upsampling)
    # The head is the last of its kind: transposed after a space-to-depth.
    head = (upsampling if network.halved else blocks).pop()
    with torch.no_grad():
        for (weight, bias), (conv, norm) in zip(blocks, normalised(network), strict=True):
            _copy(conv.weight, weight)
            # Mean 0 and variance 1 - eps: the normalisation passes the convolution through.
            _copy(norm.running_mean, np.zeros_like(bias))
            _copy(norm.running_var, np.full_like(bias, 1 - norm.eps))
            _copy(norm.weight, np.ones_like(bias))
            _copy(norm.bias, bias)
        for module, values in zip(
            (network.head, *network.upsampling), (head, *upsampling), strict=True
        ):
            for name, value in zip(("weight", "bias"), values, strict=True):
                _copy(module.get_parameter(name), value)


def _copy(parameter: Tensor | None, values: np.ndarray) -> None:
    assert parameter is not None
    if parameter.shape != values.shape:
        raise ValueError(f"weights of shape {values.shape} stand where {tuple(parameter.shape)} go")
    parameter.copy_(torch.from_numpy(values.copy()))


def normalised(network: UNet) -> list[tuple[nn.Conv3d, nn.BatchNorm3d]]:
    """Return every convolution and the normalisation that follows it, in the graph's order."""
    first, *deeper = network.down
    between = [network.narrowing] if network.narrowing else []
    pairs = []
    for block in (first, *between, *deeper, *network.up):
        layers = list(block.children())
        pairs += list(zip(layers[::3], layers[1::3], strict=True))
    return pairs


def adopt(network: UNet, config: UNetConfig) -> UNet:
    """Return a network of another configuration's inputs or first level, with the same weights.

    Parameters
    ----------
    network : UNet
        Trained; sees the lung's own density, or not.
    config : UNetConfig
        What it is to become.

    Returns
    -------
    UNet
        Where only the lung's own density is new to it, or another scale, it computes the same until
        it is trained further, but for the rim of a window, beyond which a convolution sees the
        scale's 0. Relative HU it has to get used to. With another first level (`stem`) the
        convolutions of that level and the head are new, drawn at random; the first one of a
        space-to-depth begins with the filters that were at full resolution.
    """
    before = network.config
    became = replace(
        before,
        lung_density=before.lung_density or config.lung_density,
        relative_hu=before.relative_hu or config.relative_hu,
        stem=config.stem,
        stem_channels=config.stem_channels,
        centre_hu=config.centre_hu,
        unit_hu=config.unit_hu,
        evidence_passes=config.evidence_passes,
        evidence_on_cubes=config.evidence_on_cubes,
    )
    weights = network.state_dict()
    _rescale(weights, 0, (before.centre_hu, before.unit_hu), (became.centre_hu, became.unit_hu))
    if became.lung_density and not before.lung_density:
        weights[_FIRST_WEIGHT] = torch.cat(
            (weights[_FIRST_WEIGHT], torch.zeros_like(weights[_FIRST_WEIGHT])), dim=1
        )
    adopted = UNet(became)
    if (became.stem, became.stem_channels) != (before.stem, before.stem_channels):
        first, drawn = first_level(weights), adopted.state_dict()
        if not network.halved and adopted.halved:
            _place_filters(drawn, weights)
        weights = drawn | {name: value for name, value in weights.items() if name not in first}
    adopted.load_state_dict(weights)
    return adopted.train(network.training)


def first_level(names: Iterable[str]) -> set[str]:
    """Return those names of a network's weights that are the first level's, and the head's.

    Parameters
    ----------
    names : iterable of str
        As in `state_dict()`. No two kinds of first level (`stem`) share the weights of theirs.
    """
    names = list(names)
    last = max(int(name.split(".")[1]) for name in names if name.startswith("up."))
    first = ("down.0.", "narrowing.", f"upsampling.{last}.", f"up.{last}.", "head.")
    return {name for name in names if name.startswith(first)}


def _place_filters(drawn: dict[str, Tensor], weights: Mapping[str, Tensor]) -> None:
    """Begin the convolution of a space-to-depth with the filters that were at full resolution.

    One of 4 x 4 x 4 with a stride of 2 can hold what filters of 3 x 3 x 3 compute at any of a
    cube's 8 voxels, with their normalisation: at as many of them as there are channels for.
    """
    count = len(weights[_FIRST_WEIGHT])
    for number, (z, y, x) in enumerate(_CUBE_VOXELS[: len(drawn[_FIRST_WEIGHT]) // count]):
        channels = slice(number * count, (number + 1) * count)
        filters = torch.zeros_like(drawn[_FIRST_WEIGHT][channels])
        filters[..., z : z + 3, y : y + 3, x : x + 3] = weights[_FIRST_WEIGHT]
        drawn[_FIRST_WEIGHT][channels] = filters
        for name in ("weight", "bias", "running_mean", "running_var"):
            drawn[f"down.0.1.{name}"][channels] = weights[f"down.0.1.{name}"]


def _rescale_density(network: UNet) -> None:
    """Convert weights that were trained on the density's first scale to today's."""
    config = network.config
    if config.lung_density and (config.centre_hu, config.unit_hu) == _FIRST_SCALE:
        weights = network.state_dict()
        _rescale(weights, 1, _FIRST_DENSITY, (HEALTHY_HU, DENSITY_UNIT_HU))
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
