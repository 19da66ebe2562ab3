"""The text of each model's Triton configuration, made from the contract."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

Contract = Mapping[str, Any]
Tensor = tuple[str, str, str]

# Windows of one request. Scans differ in the shape of their windows, so nothing could be batched.
MAX_BATCH = 1

# Triton must outlive our own time limit: it drops a silent sequence without telling the model.
IDLE_MARGIN = 1.5
# A scan over the bound must reach the accumulator to hear BUSY. Scans that wait for one of these
# places hear nothing, and refused or abandoned ones hold theirs until Triton's idle limit.
PLACES_PER_OPEN_SCAN = 16

HEADER = """\
# Generated from contract.json by `make configs`: change the contract, not this file.
# Profile: {profile}
"""

SEQUENCES = """\
sequence_batching {{
  max_sequence_idle_microseconds: {idle_us}
  oldest {{ max_candidate_sequences: {places} preserve_ordering: true }}
  control_input [
    {{
      name: "START"
      control [ {{ kind: CONTROL_SEQUENCE_START int32_false_true: [ 0, 1 ] }} ]
    }},
    {{
      name: "END"
      control [ {{ kind: CONTROL_SEQUENCE_END int32_false_true: [ 0, 1 ] }} ]
    }}
  ]
}}
"""

# Kernels are chosen, and memory is taken, at the first inference of a shape: no scan should wait.
WARM_UP = """\
model_warmup [
{samples}
]
"""
WARM_UP_SAMPLE = """\
  {{
    name: "{name}"
    batch_size: 1
    inputs {{
      key: "window"
      value {{ data_type: TYPE_FP16 dims: [ 1, {dims} ] zero_data: true }}
    }}
  }}"""

# Inputs and outputs of the ensemble, as docs/wire.md has them, without the batch axis.
WIRE_INPUTS = (
    ("window", "TYPE_FP16", "1, -1, -1, -1"),
    ("origin", "TYPE_INT32", "3"),
    ("box_shape", "TYPE_INT32", "3"),
    ("window_index", "TYPE_INT32", "1"),
    ("window_count", "TYPE_INT32", "1"),
    ("voxel_volume_mm3", "TYPE_FP32", "1"),
)
SCORE_OUTPUTS = (
    ("windows_received", "TYPE_INT32", "1"),
    ("dl_ild_percent", "TYPE_FP64", "-1"),
    ("class_volumes_ml", "TYPE_FP64", "-1"),
    ("zone_volumes_ml", "TYPE_FP64", "-1, 2"),
    ("labels", "TYPE_UINT8", "-1, -1, -1"),
)
ENGINE_OUTPUT = ("engine", "TYPE_STRING", "1")
VOLUME_INPUTS = (
    ("volume", "TYPE_INT16", "-1, -1, -1"),
    ("voxel_volume_mm3", "TYPE_FP32", "1"),
)

# Whole volumes that are worked on at once: two, so that a small one need not wait for a large one,
# and the network has work while the other is read. The rest wait in Triton's queue.
VOLUMES_AT_ONCE = 2


def ensemble_text(contract: Contract, profile: str) -> str:
    """Return the configuration of the ensemble `dlild` for a profile."""
    reports_engine = _is_python(contract, profile)
    outputs = _scan_outputs(contract, profile)
    unet_outputs = {"probabilities": "probabilities"} | (
        {"engine": "engine"} if reports_engine else {}
    )
    accumulator_inputs = {name: name for name in ("probabilities", *_names(WIRE_INPUTS))}
    accumulator_outputs = {name: name for name in _names(SCORE_OUTPUTS)}
    # Both steps are of one version. A scan lives in the accumulator of its version, so that windows
    # of two networks can never meet in one score, whatever is loaded while it runs.
    version = contract["model"]["version"]
    steps = ",\n".join(
        (
            _step("ild_unet", version, {"window": "window"}, unet_outputs),
            _step("dlild_accumulator", version, accumulator_inputs, accumulator_outputs),
        )
    )
    return "".join(
        (
            f'name: "{contract["model"]["name"]}"\nplatform: "ensemble"\n',
            f"max_batch_size: {MAX_BATCH}\n",
            _tensors("input", WIRE_INPUTS),
            _tensors("output", outputs),
            f"ensemble_scheduling {{\n  step [\n{steps}\n  ]\n}}\n",
            _versions([version]),
            _parameters({"profile": profile, "contract": _compact(contract)}),
        )
    )


def accumulator_text(contract: Contract, profile: str) -> str:
    """Return the configuration of `dlild_accumulator` for a profile."""
    classes = len(contract["classes"])
    inputs: tuple[Tensor, ...] = (
        ("probabilities", "TYPE_FP16", f"{classes}, -1, -1, -1"),
        *WIRE_INPUTS,
    )
    limits = contract["limits"]
    idle_us = round(limits["scan_idle_s"] * IDLE_MARGIN * 1_000_000)
    places = limits["open_scans"] * PLACES_PER_OPEN_SCAN
    parameters = {"profile": profile, "contract": _compact(contract)}
    if contract["profiles"][profile].get("blending") == "gpu":
        # What the network leaves on the GPU comes to the model there; cupy must be in the server.
        parameters["FORCE_CPU_ONLY_INPUT_TENSORS"] = "no"
    # No CORRID control: a text id sent to a UINT64 control corrupts the server's heap. The model
    # reads the id from the request. One instance, because the bounds on open scans are global.
    return "".join(
        (
            f'name: "dlild_accumulator"\nbackend: "python"\nmax_batch_size: {MAX_BATCH}\n',
            _tensors("input", inputs),
            _tensors("output", SCORE_OUTPUTS),
            SEQUENCES.format(idle_us=idle_us, places=places),
            "instance_group [ { count: 1 kind: KIND_CPU } ]\n",
            _versions(contract["model"]["serving"]),
            _parameters(parameters),
        )
    )


def volume_text(contract: Contract, profile: str) -> str:
    """Return the configuration of `dlild_volume` for a profile."""
    # A full queue is refused at once: each volume that waits holds its memory.
    waiting = contract["limits"]["open_scans"]
    return "".join(
        (
            f'name: "dlild_volume"\nbackend: "python"\nmax_batch_size: {MAX_BATCH}\n',
            _tensors("input", VOLUME_INPUTS),
            _tensors("output", _scan_outputs(contract, profile)),
            f"dynamic_batching {{ default_queue_policy {{ max_queue_size: {waiting} }} }}\n",
            f"instance_group [ {{ count: {VOLUMES_AT_ONCE} kind: KIND_CPU }} ]\n",
            _versions([contract["model"]["version"]]),
            _parameters({"profile": profile, "contract": _compact(contract)}),
        )
    )


def _scan_outputs(contract: Contract, profile: str) -> tuple[Tensor, ...]:
    return SCORE_OUTPUTS + ((ENGINE_OUTPUT,) if _is_python(contract, profile) else ())


def unet_text(contract: Contract, profile: str) -> str:
    """Return the configuration of `ild_unet` for a profile.

    Raises
    ------
    ValueError
        The profile's engine has no backend.
    """
    engine = contract["profiles"][profile]["engine"]
    outputs: tuple[Tensor, ...] = (
        ("probabilities", "TYPE_FP16", f"{len(contract['classes'])}, -1, -1, -1"),
    )
    parameters = {"profile": profile}
    if _is_python(contract, profile):
        backend = 'backend: "python"\n'
        placing = "instance_group [ { count: 1 kind: KIND_CPU } ]\n"
        outputs = (*outputs, ENGINE_OUTPUT)
        parameters["contract"] = _compact(contract)
    elif engine == "onnxruntime":
        backend = 'backend: "onnxruntime"\ndefault_model_filename: "model.onnx"\n'
        placing = "instance_group [ { count: 1 kind: KIND_AUTO } ]\n"
    elif engine == "tensorrt":
        backend = 'backend: "tensorrt"\ndefault_model_filename: "model.plan"\n'
        placing = "instance_group [ { count: 1 kind: KIND_GPU } ]\n"
    else:
        raise ValueError(f"profile {profile!r} names the engine {engine!r}, which has no backend")
    # preserve_ordering is stated even for one instance: newer servers answer ensembles
    # asynchronously, and the accumulator must see a scan's windows with START first and END last.
    return "".join(
        (
            f'name: "ild_unet"\n{backend}max_batch_size: {MAX_BATCH}\n',
            _tensors("input", (WIRE_INPUTS[0],)),
            _tensors("output", outputs),
            "dynamic_batching { preserve_ordering: true }\n",
            placing,
            _versions(contract["model"]["serving"]),
            _warm_up(contract),
            _parameters(parameters),
        )
    )


def _warm_up(contract: Contract) -> str:
    """Warm up with the largest window: its memory is most of what a first scan would wait for."""
    shape = largest_window(contract)
    sample = WARM_UP_SAMPLE.format(name="x".join(map(str, shape)), dims=", ".join(map(str, shape)))
    return WARM_UP.format(samples=sample)


def largest_window(contract: Contract) -> tuple[int, int, int]:
    """Return the window (z, y, x) of most voxels that the contract takes."""
    windows = contract["windows"]
    edges = [
        range(low, high + 1, windows["multiple"])
        for low, high in zip(windows["minimum"], windows["maximum"], strict=True)
    ]
    shapes = [s for s in product(*edges) if math.prod(s) <= windows["maximum_voxels"]]
    z, y, x = max(shapes, key=math.prod)
    return z, y, x


def largest_cube(contract: Contract) -> tuple[int, int, int]:
    """Return the largest window (z, y, x) of equal edges that the contract takes."""
    windows = contract["windows"]
    step = windows["multiple"]
    cube = max(
        edge
        for edge in range(step, min(windows["maximum"]) + 1, step)
        if edge**3 <= windows["maximum_voxels"]
    )
    return cube, cube, cube


def _is_python(contract: Contract, profile: str) -> bool:
    return bool(contract["profiles"][profile]["engine"] == "openvino")


def _names(tensors: tuple[Tensor, ...]) -> tuple[str, ...]:
    return tuple(name for name, _, _ in tensors)


def _tensors(kind: str, tensors: tuple[Tensor, ...]) -> str:
    lines = ",\n".join(
        f'  {{ name: "{name}" data_type: {data_type} dims: [ {dims} ] }}'
        for name, data_type, dims in tensors
    )
    return f"{kind} [\n{lines}\n]\n"


def _versions(versions: Sequence[int]) -> str:
    """Load these versions and no others: by itself Triton takes the highest number it finds."""
    return f"version_policy {{ specific {{ versions: {sorted(versions)} }} }}\n"


def check_versions(model: Mapping[str, Any]) -> None:
    """Raise ValueError where the versions that a contract names do not add up."""
    version, serving, releases = model["version"], model["serving"], model["releases"]
    if version not in serving:
        raise ValueError(f"contract.json serves versions {serving}, and answers with {version}")
    unknown = [number for number in serving if str(number) not in releases]
    if unknown:
        raise ValueError(f"contract.json serves versions {unknown}, which were never released")
    if releases[str(version)]["weights_sha256"] != model["weights_sha256"]:
        raise ValueError(f"contract.json gives version {version} two different weights_sha256")


def _step(model: str, version: int, inputs: Mapping[str, str], outputs: Mapping[str, str]) -> str:
    maps = [
        f'      {kind}_map {{ key: "{key}" value: "{value}" }}\n'
        for kind, names in (("input", inputs), ("output", outputs))
        for key, value in names.items()
    ]
    head = f'      model_name: "{model}"\n      model_version: {version}\n'
    return f"    {{\n{head}{''.join(maps)}    }}"


def _parameters(values: Mapping[str, str]) -> str:
    return "".join(
        f'parameters {{ key: "{key}" value {{ string_value: {json.dumps(value)} }} }}\n'
        for key, value in values.items()
    )


def _compact(contract: Contract) -> str:
    return json.dumps(contract, separators=(",", ":"))
