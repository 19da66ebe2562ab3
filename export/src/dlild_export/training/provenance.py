"""Provenance of weights: network, trainings, calibration and recipe, from checkpoint to ONNX file.

A checkpoint holds an `origin`: the weights that the training began with, the trainings before it
and the versions that trained. The ONNX file carries all of it in its metadata, as JSON texts, so
that nothing has to be guessed from the operators of the graph.
"""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import onnx
import torch

from dlild_export.data.digest import sha256
from dlild_export.training.unet import UNetConfig

NETWORK = "dlild.network"
"""Key of the network's configuration (`UNetConfig`) in the metadata of an ONNX file."""

TRAININGS = "dlild.trainings"
"""Key of the trainings, the first one first: stages, seed, cases, start weights, versions."""

CALIBRATION = "dlild.calibration"
"""Key of the biases added to the logits."""

RECIPE = "dlild.recipe"
"""Key of the recipe's text (TOML)."""

_FORMER_NAMES = {"lung_level": "lung_density"}
_DEFAULTS = {"lung_density": False, "relative_hu": False, "centre_hu": -374.0, "unit_hu": 650.0}
"""What checkpoints do not record that are older than the choice."""

_SUMMARY = ("stages", "learning_rate", "seed", "fixed_statistics", "average_steps")


def renamed(network: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings of a network with former names of fields replaced by today's."""
    return {_FORMER_NAMES.get(name, name): value for name, value in network.items()}


def network_config(stored: Mapping[str, Any]) -> UNetConfig:
    """Return the configuration of a network as a checkpoint or an ONNX file stores it.

    Raises
    ------
    TypeError
        A field is unknown.
    """
    fields = _DEFAULTS | renamed(stored)
    tuples: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()}
    return UNetConfig(**tuples)


def origin_of(start: Path | None, **further: Path | None) -> dict[str, Any]:
    """Return what a checkpoint records of its beginning.

    Parameters
    ----------
    start : pathlib.Path or None
        Checkpoint or ONNX file whose weights the training begins with.
    **further : pathlib.Path or None
        Other files that the training takes weights from (`teacher`, `blocks`); None: no such file.

    Returns
    -------
    dict
        `start_sha256` (None: a new network), the same of each further file, `before` (trainings
        that made the start weights, as far as these record them) and `versions` of dlild-export
        and torch.
    """
    before: list[dict[str, Any]] = []
    if start:
        if start.suffix == ".onnx":
            before = json.loads(read_metadata(onnx.load(str(start))).get(TRAININGS, "[]"))
        else:
            before = trainings(torch.load(start, map_location="cpu", weights_only=True))
    return {
        "start_sha256": sha256(start) if start else None,
        **{f"{name}_sha256": sha256(path) for name, path in further.items() if path},
        "before": before,
        "versions": {
            "dlild-export": importlib.metadata.version("dlild-export"),
            "torch": torch.__version__.partition("+")[0],  # without "+cpu" or "+cu130"
        },
    }


def trainings(stored: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Summarise the trainings that made a checkpoint, the first one first.

    Parameters
    ----------
    stored : mapping
        Content of the checkpoint. One without `origin` is older than this record: its start weights
        and versions are left out.
    """
    origin = stored.get("origin", {})
    config = stored["config"]
    this = {name: config[name] for name in _SUMMARY}
    this["stages"] = [dict(stage) for stage in config["stages"]]
    this["steps"] = stored["step"]
    if "cases" in stored:
        this["cases"] = len(stored["cases"])
    recorded = ("start_sha256", "teacher_sha256", "blocks_sha256", "versions", "average_of_sha256")
    this |= {name: origin[name] for name in recorded if name in origin}
    return [*origin.get("before", []), this]


def metadata_of(
    network: UNetConfig,
    *,
    stored: Mapping[str, Any] | None = None,
    calibration: Mapping[str, Any] | None = None,
    recipe: str | None = None,
) -> dict[str, str]:
    """Return the metadata of an ONNX file; the same weights give the same texts.

    Parameters
    ----------
    network : UNetConfig
        Configuration of the network.
    stored : mapping, optional
        Content of its checkpoint.
    calibration : mapping, optional
        Content of `calibration.json`.
    recipe : str, optional
        Text of the recipe that the weights were made by.
    """
    texts = {NETWORK: _canonical(asdict(network))}
    if stored is not None:
        texts[TRAININGS] = _canonical(trainings(stored))
    if calibration:
        texts[CALIBRATION] = _canonical(calibration)
    if recipe:
        texts[RECIPE] = recipe
    return texts


def read_metadata(model: onnx.ModelProto) -> dict[str, str]:
    """Return the metadata of an ONNX file."""
    return {entry.key: entry.value for entry in model.metadata_props}


def write_metadata(model: onnx.ModelProto, texts: Mapping[str, str]) -> None:
    """Replace the metadata of an ONNX file; entries are sorted by key."""
    model.ClearField("metadata_props")
    for key in sorted(texts):
        model.metadata_props.add(key=key, value=texts[key])


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))
