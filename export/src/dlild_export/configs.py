"""Render every Triton configuration from ``model_repository/contract.json``.

The contract is written by hand; the configurations never are. For each model there is one
``configs/<profile>.pbtxt`` a profile, and ``config.pbtxt``, which Triton takes when no profile is
named (or, in silence, when the named one is missing): it holds the embedded profile.

Run ``python -m dlild_export.configs`` after a change of the contract, and with ``--check`` to learn
whether anything drifted.
"""

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

Contract = Mapping[str, Any]

SCHEMA_VERSION = 1
DEFAULT_PROFILE = "embedded"
MODELS = ("dlild", "dlild_accumulator", "dlild_volume", "ild_unet")

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

Tensor = tuple[str, str, str]


def render_all(contract: Contract) -> dict[str, str]:
    """Render the configurations of all models for all profiles.

    Parameters
    ----------
    contract : Mapping
        The content of ``contract.json``.

    Returns
    -------
    dict of str to str
        Text by path relative to the model repository.

    Raises
    ------
    ValueError
        When the contract has another schema version, lacks the embedded profile, or names an
        engine that no model can run on.
    """
    if contract["schema_version"] != SCHEMA_VERSION:
        raise ValueError(
            f"contract.json has schema version {contract['schema_version']}, "
            f"this renderer understands {SCHEMA_VERSION}"
        )
    if DEFAULT_PROFILE not in contract["profiles"]:
        raise ValueError(f"contract.json names no profile {DEFAULT_PROFILE!r}")
    renderers = {
        "dlild": _ensemble,
        "dlild_accumulator": _accumulator,
        "dlild_volume": _volume,
        "ild_unet": _unet,
    }
    texts: dict[str, str] = {}
    for model in MODELS:
        for profile in contract["profiles"]:
            text = HEADER.format(profile=profile) + renderers[model](contract, profile)
            texts[f"{model}/configs/{profile}.pbtxt"] = text
            if profile == DEFAULT_PROFILE:
                texts[f"{model}/config.pbtxt"] = text
    return texts


def write_configs(repository: Path) -> list[str]:
    """Write what differs, remove what no profile has, and name both.

    Parameters
    ----------
    repository : Path
        The folder that holds ``contract.json``.

    Returns
    -------
    list of str
        The paths written or removed, relative to the repository.
    """
    texts = render_all(read_contract(repository))
    changed = drift(repository)
    for name in changed:
        path = repository / name
        if name in texts:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(texts[name], encoding="utf-8")
        else:
            path.unlink()
    return changed


def drift(repository: Path) -> list[str]:
    """Name the configurations that are missing, stale, or of a profile that is no more.

    Parameters
    ----------
    repository : Path
        The folder that holds ``contract.json``.

    Returns
    -------
    list of str
        Sorted paths relative to the repository; empty when all is as the contract says.
    """
    texts = render_all(read_contract(repository))
    stale = {name for name, text in texts.items() if _read(repository / name) != text}
    present = {
        path.relative_to(repository).as_posix()
        for model in MODELS  # others, such as a progression model, are not the contract's
        for path in (repository / model / "configs").glob("*.pbtxt")
    }
    return sorted(stale | (present - texts.keys()))


def read_contract(repository: Path) -> dict[str, Any]:
    """Read ``contract.json``.

    Parameters
    ----------
    repository : Path
        The model repository.

    Returns
    -------
    dict
        The contract.
    """
    contract: dict[str, Any] = json.loads((repository / "contract.json").read_text("utf-8"))
    return contract


def _read(path: Path) -> str | None:
    return path.read_text("utf-8") if path.is_file() else None


def _ensemble(contract: Contract, profile: str) -> str:
    reports_engine = _is_python(contract, profile)
    outputs = _scan_outputs(contract, profile)
    unet_outputs = {"probabilities": "probabilities"} | (
        {"engine": "engine"} if reports_engine else {}
    )
    accumulator_inputs = {name: name for name in ("probabilities", *_names(WIRE_INPUTS))}
    accumulator_outputs = {name: name for name in _names(SCORE_OUTPUTS)}
    steps = ",\n".join(
        (
            _step("ild_unet", {"window": "window"}, unet_outputs),
            _step("dlild_accumulator", accumulator_inputs, accumulator_outputs),
        )
    )
    return "".join(
        (
            f'name: "{contract["model"]["name"]}"\nplatform: "ensemble"\nmax_batch_size: 1\n',
            _tensors("input", WIRE_INPUTS),
            _tensors("output", outputs),
            f"ensemble_scheduling {{\n  step [\n{steps}\n  ]\n}}\n",
            _parameters({"profile": profile, "contract": _compact(contract)}),
        )
    )


def _accumulator(contract: Contract, profile: str) -> str:
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
            'name: "dlild_accumulator"\nbackend: "python"\nmax_batch_size: 1\n',
            _tensors("input", inputs),
            _tensors("output", SCORE_OUTPUTS),
            SEQUENCES.format(idle_us=idle_us, places=places),
            "instance_group [ { count: 1 kind: KIND_CPU } ]\n",
            _parameters(parameters),
        )
    )


def _volume(contract: Contract, profile: str) -> str:
    # A full queue is refused at once: each volume that waits holds its memory.
    waiting = contract["limits"]["open_scans"]
    return "".join(
        (
            'name: "dlild_volume"\nbackend: "python"\nmax_batch_size: 1\n',
            _tensors("input", VOLUME_INPUTS),
            _tensors("output", _scan_outputs(contract, profile)),
            f"dynamic_batching {{ default_queue_policy {{ max_queue_size: {waiting} }} }}\n",
            f"instance_group [ {{ count: {VOLUMES_AT_ONCE} kind: KIND_CPU }} ]\n",
            _parameters({"profile": profile, "contract": _compact(contract)}),
        )
    )


def _scan_outputs(contract: Contract, profile: str) -> tuple[Tensor, ...]:
    return SCORE_OUTPUTS + ((ENGINE_OUTPUT,) if _is_python(contract, profile) else ())


def _unet(contract: Contract, profile: str) -> str:
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
            f'name: "ild_unet"\n{backend}max_batch_size: 1\n',
            _tensors("input", (WIRE_INPUTS[0],)),
            _tensors("output", outputs),
            "dynamic_batching { preserve_ordering: true }\n",
            placing,
            _warm_up(contract),
            _parameters(parameters),
        )
    )


def _warm_up(contract: Contract) -> str:
    """Warm up with the largest cube: its memory is most of what a first scan would wait for."""
    windows = contract["windows"]
    step = windows["multiple"]
    cube = max(
        edge
        for edge in range(step, min(windows["maximum"]) + 1, step)
        if edge**3 <= windows["maximum_voxels"]
    )
    shape = (cube, cube, cube)
    sample = WARM_UP_SAMPLE.format(name="x".join(map(str, shape)), dims=", ".join(map(str, shape)))
    return WARM_UP.format(samples=sample)


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


def _step(model: str, inputs: Mapping[str, str], outputs: Mapping[str, str]) -> str:
    maps = [
        f'      {kind}_map {{ key: "{key}" value: "{value}" }}\n'
        for kind, names in (("input", inputs), ("output", outputs))
        for key, value in names.items()
    ]
    return f'    {{\n      model_name: "{model}"\n      model_version: -1\n{"".join(maps)}    }}'


def _parameters(values: Mapping[str, str]) -> str:
    return "".join(
        f'parameters {{ key: "{key}" value {{ string_value: {json.dumps(value)} }} }}\n'
        for key, value in values.items()
    )


def _compact(contract: Contract) -> str:
    return json.dumps(contract, separators=(",", ":"))


def main(arguments: list[str] | None = None) -> int:
    """Write the configurations, or check them.

    Parameters
    ----------
    arguments : list of str, optional
        The command line without the program's name; ``sys.argv`` when left out.

    Returns
    -------
    int
        0 when done, 1 when ``--check`` found drift or the contract cannot be rendered.
    """
    parser = argparse.ArgumentParser(description="Render config.pbtxt files from the contract.")
    parser.add_argument("--check", action="store_true", help="change nothing, exit 1 on drift")
    parser.add_argument("--repository", type=Path, default=Path("model_repository"))
    options = parser.parse_args(arguments)
    try:
        names = drift(options.repository) if options.check else write_configs(options.repository)
    except (OSError, ValueError, KeyError) as error:
        print(f"{options.repository / 'contract.json'}: {error}", file=sys.stderr)
        return 1
    for name in names:
        print(f"{'differs' if options.check else 'changed'}: {options.repository / name}")
    if options.check and names:
        print("run `make configs` and commit what changes", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
