"""From a checkpoint to the served ONNX file."""

from __future__ import annotations

import contextlib
import json
import logging
import warnings
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from dlild_export.data.digest import sha256
from dlild_export.serving.calibration import add_class_biases
from dlild_export.training.provenance import (
    metadata_of,
    network_config,
    write_metadata,
)
from dlild_export.training.start import load_network
from dlild_export.training.unet import ServedUNet, UNet

INPUT, OUTPUT = "window", "probabilities"
CHECKPOINT, WEIGHTS = "checkpoint.pt", "model.onnx"
CALIBRATION, RECIPE = "calibration.json", "recipe.toml"
# Triton's containers of 2023 and later read these.
_OPSET, _IR_VERSION = 18, 8


def export_run(run: Path) -> Path:
    """Export a training run as it will be served, or return the file if it is there already.

    Parameters
    ----------
    run : pathlib.Path
        Folder of the run, or its checkpoint. Where `calibration.json` lies beside the checkpoint,
        its `class_biases` are added to the logits; where `recipe.toml` lies there, its text goes
        into the metadata.

    Returns
    -------
    pathlib.Path
        `model.onnx` beside the checkpoint, with its provenance in the metadata. The same
        checkpoint, calibration and recipe give the same bytes, so its digest names the weights
        wherever they are evaluated or released.

    Raises
    ------
    FileNotFoundError
        No checkpoint here.
    """
    checkpoint = checkpoint_of(run)
    weights = checkpoint.with_name(WEIGHTS)
    record = weights.with_suffix(".json")
    made_from: dict[str, Any] = {
        "checkpoint_sha256": sha256(checkpoint),
        "class_biases": list(class_biases(checkpoint)),
        "metadata": _metadata(checkpoint),
    }
    if weights.is_file() and record.is_file():
        stored = json.loads(record.read_text("utf-8"))
        if stored == {**made_from, "weights_sha256": sha256(weights)}:
            return weights
    unfinished = weights.with_suffix(".unfinished")
    export_onnx(run_network(checkpoint), unfinished, made_from["metadata"])
    unfinished.rename(weights)
    stored = {**made_from, "weights_sha256": sha256(weights)}
    record.write_text(json.dumps(stored, indent=2) + "\n", "utf-8")
    return weights


def run_network(run: Path) -> UNet:
    """Return the network of a run as it is exported: averaged, calibrated, and exact in bf16.

    Raises
    ------
    FileNotFoundError
        No checkpoint here.
    """
    checkpoint = checkpoint_of(run)
    network = load_network(checkpoint)
    if biases := class_biases(checkpoint):
        add_class_biases(network, biases)
    round_to_bf16(network)
    return network


def round_to_bf16(network: UNet) -> None:
    """Fold batch normalisation into the convolutions, and round all weights to what bf16 holds.

    An engine in bf16 rounds weights and biases anyhow; rounded beforehand, they are the same in all
    engines. For one phantom and version 1 that halved what OpenVINO's bf16 differs by from its
    fp32, from 0.14 point of DL-ILD to 0.07.

    Parameters
    ----------
    network : UNet
        In evaluation mode; changed in place.
    """
    for block in (m for m in network.modules() if isinstance(m, nn.Sequential)):
        layers = list(block.children())
        for index, (layer, following) in enumerate(pairwise(layers)):
            if isinstance(layer, nn.Conv3d) and isinstance(following, nn.BatchNorm3d):
                block[index] = fuse_conv_bn_eval(layer, following)
                block[index + 1] = nn.Identity()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(parameter.to(torch.bfloat16))


def checkpoint_of(run: Path) -> Path:
    """Return the checkpoint of a run: the folder's, or the file itself.

    Raises
    ------
    FileNotFoundError
        No checkpoint here.
    """
    checkpoint = run / CHECKPOINT if run.is_dir() else run
    if not checkpoint.is_file():
        raise FileNotFoundError(
            f"{checkpoint}: no checkpoint here; give a folder that `dlild-export train` wrote"
        )
    return checkpoint


def class_biases(checkpoint: Path) -> tuple[float, ...]:
    """Return the calibration that lies beside a checkpoint: one bias a class; empty: none."""
    calibration = checkpoint.with_name(CALIBRATION)
    if not calibration.is_file():
        return ()
    return tuple(json.loads(calibration.read_text("utf-8"))["class_biases"])


def _metadata(checkpoint: Path) -> dict[str, str]:
    stored = torch.load(checkpoint, map_location="cpu", weights_only=True)
    calibration, recipe = (checkpoint.with_name(name) for name in (CALIBRATION, RECIPE))
    return metadata_of(
        network_config(stored["config"]["network"]),
        stored=stored,
        calibration=json.loads(calibration.read_text("utf-8")) if calibration.is_file() else None,
        recipe=recipe.read_text("utf-8") if recipe.is_file() else None,
    )


def export_onnx(network: UNet, path: Path, metadata: Mapping[str, str] | None = None) -> None:
    """Write the network as it is served: FP16 HU in, FP16 probabilities out, any window shape.

    The same weights give the same bytes, on every machine: their digest names them.

    Parameters
    ----------
    network : UNet
        Trained network, in evaluation mode.
    path : pathlib.Path
        ONNX file to write.
    metadata : mapping, optional
        Provenance of the weights (`provenance.metadata_of`); the network's configuration alone when
        left out.
    """
    edge = 4 * network.config.stride
    example = torch.zeros(2, 1, edge, edge + network.config.stride, edge, dtype=torch.float16)
    multiples = [network.config.stride * torch.export.Dim(name) for name in ("z", "y", "x")]
    shapes = {0: torch.export.Dim("n"), 2: multiples[0], 3: multiples[1], 4: multiples[2]}
    with _without_chatter():
        program = torch.onnx.export(
            ServedUNet(network).eval(),
            (example,),
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_shapes=(shapes,),
            opset_version=_OPSET,
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    _keep_the_network_only(model)
    write_metadata(model, metadata or metadata_of(network.config))
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, str(path))


@contextlib.contextmanager
def _without_chatter() -> Iterator[None]:
    """Keep what the exporter says of itself, and of packages that it could use, off the screen."""
    logger = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*LeafSpec", category=FutureWarning)
            yield
    finally:
        logger.setLevel(level)


def _keep_the_network_only(model: onnx.ModelProto) -> None:
    """Take out what varies from machine to machine: paths of the source, versions, notes."""
    model.ir_version = _IR_VERSION
    model.producer_name, model.producer_version, model.doc_string = "dlild-export", "", ""
    graph = model.graph
    model.ClearField("metadata_props")
    for part in (graph, *graph.node, *graph.input, *graph.output, *graph.initializer):
        part.ClearField("doc_string")
        part.ClearField("metadata_props")
    # The runtime infers the shapes in between; those of the ends get plain names.
    del graph.value_info[:]
    for value in (*graph.input, *graph.output):
        for axis, name in {0: "n", 2: "z", 3: "y", 4: "x"}.items():
            value.type.tensor_type.shape.dim[axis].dim_param = name
