"""Networks of one convolution of a single voxel: next to nothing to compute, scores that differ.

For what measures the server and not the network, where the network is slow.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper, save_model

from dlild_client.contract.weights import INT8_NETWORK, NETWORK
from dlild_export.serving.configs import write_configs

BY_HU = (1, 2, 3, 4, 5, 0)
"""Labels in the order of their HU: lung, lesions, and what is denser than those."""
BORDERS_HU = (-700.0, -550.0, -400.0, -250.0, -100.0)
"""Between a class and the next one in that order."""
# A version's borders lie above those of the version before it by so much.
SHIFT_HU = 10.0
# Logits of a class and of the next one differ by 1 at so many HU from their border.
WIDTH_HU = 20.0
OPSET = 17


def serve_voxelwise(repository: Path) -> None:
    """Put such a network in the place of each version's that a repository holds.

    Parameters
    ----------
    repository : Path
        A copy; its contract, releases and configurations name the networks' digests afterwards.
    """
    digests = {}
    for folder in (repository / "ild_unet").glob("[0-9]*"):
        (folder / INT8_NETWORK).unlink(missing_ok=True)
        path = folder / NETWORK
        write_voxelwise(path, SHIFT_HU * int(folder.name))
        digests[folder.name] = hashlib.sha256(path.read_bytes()).hexdigest()
    releases = json.loads((repository / "releases.json").read_text("utf-8"))
    for version, digest in digests.items():
        releases["releases"][version]["weights_sha256"] = digest
        releases["releases"][version].pop("int8_sha256", None)
    (repository / "releases.json").write_text(json.dumps(releases, indent=2), "utf-8")
    contract = json.loads((repository / "contract.json").read_text("utf-8"))
    contract["model"]["weights_sha256"] = digests[str(contract["model"]["version"])]
    (repository / "contract.json").write_text(json.dumps(contract, indent=2), "utf-8")
    write_configs(repository)


def write_voxelwise(path: Path, shift_hu: float = 0.0) -> None:
    """Write a network whose most likely class of a voxel depends on its HU alone.

    Parameters
    ----------
    path : Path
        The ONNX file, from ``window`` FP16 [N, 1, z, y, x] to ``probabilities`` FP16
        [N, classes, z, y, x].
    shift_hu : float
        Added to `BORDERS_HU`.
    """
    classes = len(BY_HU)
    # Logits are lines over HU; each crosses the one before it at their border.
    slopes = np.arange(classes) / WIDTH_HU
    offsets = -np.cumsum([0.0, *(np.array(BORDERS_HU) + shift_hu)]) / WIDTH_HU
    by_label = np.argsort(BY_HU)
    tensors = {
        "slopes": slopes[by_label].reshape(classes, 1, 1, 1, 1),
        "offsets": offsets[by_label],
    }
    nodes = [
        helper.make_node("Cast", ["window"], ["hu"], to=TensorProto.FLOAT),
        helper.make_node("Conv", ["hu", "slopes", "offsets"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["shares"], axis=1),
        helper.make_node("Cast", ["shares"], ["probabilities"], to=TensorProto.FLOAT16),
    ]
    window, probabilities = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT16, ["n", channels, "z", "y", "x"])
        for name, channels in (("window", 1), ("probabilities", classes))
    )
    stored = [
        numpy_helper.from_array(value.astype(np.float32), name) for name, value in tensors.items()
    ]
    graph = helper.make_graph(nodes, "voxelwise", [window], [probabilities], stored)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])
    model.ir_version = 8
    save_model(model, str(path))
