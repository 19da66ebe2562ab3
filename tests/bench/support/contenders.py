"""The ways to score one scan that are compared."""

from __future__ import annotations

import json
import shutil
import urllib.request
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from bench.support.scan import REPOSITORY, MeasuredScan, network_path
from monai.inferers import SlidingWindowInferer
from tritonclient.grpc import InferenceServerClient, InferInput, InferRequestedOutput

from dlild_client import Client
from dlild_client.contract.score import dl_ild_percent, lesion_and_lung
from engine import Engine

NETWORK = network_path()
NAIVE_MODEL = "ild_unet_fp32"
NO_LIMIT = 2**31 - 1
EDGE = 96
OVERLAP = 0.25


def product(client: Client, scan: MeasuredScan) -> Callable[[], float]:
    """In-memory volume to result, through the server."""
    return lambda: client.score(scan.volume).dl_ild_percent


def engine(network: Engine, scan: MeasuredScan) -> Callable[[], float]:
    """The same windows by the same engine in one process, and nothing else: the floor."""
    windows = scan.window_arrays()

    def run() -> float:
        for window in windows:
            network.infer(window)
        return float("nan")

    return run


def sliding(
    predict: Callable[[torch.Tensor], torch.Tensor], hu: np.ndarray, scan: MeasuredScan
) -> Callable[[], float]:
    """MONAI's sliding window over prepared HU (z, y, x), its labels, and DL-ILD."""
    inferer = SlidingWindowInferer(
        roi_size=(EDGE,) * 3, sw_batch_size=1, overlap=OVERLAP, mode="gaussian"
    )
    inputs = torch.from_numpy(hu)[None, None]

    def run() -> float:
        with torch.inference_mode():
            return percent(inferer(inputs, predict)[0], scan)

    return run


def percent(probabilities: torch.Tensor, scan: MeasuredScan) -> float:
    """DL-ILD of the labels of a box, from probabilities (classes, z, y, x)."""
    classes = scan.contract.classes
    labels = probabilities.argmax(dim=0)
    voxels = torch.bincount(labels.ravel(), minlength=len(classes)).numpy()
    return dl_ild_percent(*lesion_and_lung(voxels, classes))


def in_process(network: Engine) -> Callable[[torch.Tensor], torch.Tensor]:
    """Run our own engine behind MONAI's sliding window: tiling alone is compared."""

    def predict(window: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(network.infer(window.half().numpy())).float()

    return predict


def remote_json(address: str) -> Callable[[torch.Tensor], torch.Tensor]:
    """What MONAI Deploy's remote model does: one HTTP request a window, tensors as JSON both ways.

    Parameters
    ----------
    address : str
        Of the server's HTTP port.
    """

    def predict(window: torch.Tensor) -> torch.Tensor:
        tensor = {
            "name": "window",
            "datatype": "FP32",
            "shape": list(window.shape),
            "data": window.ravel().tolist(),
        }
        request = urllib.request.Request(
            f"{address}/v2/models/{NAIVE_MODEL}/infer",
            data=json.dumps({"inputs": [tensor]}).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request) as answer:
            (output,) = json.load(answer)["outputs"]
        return torch.tensor(output["data"]).reshape(output["shape"])

    return predict


def remote(address: str) -> Callable[[torch.Tensor], torch.Tensor]:
    """What client scripts do: one unary call a window, FP32 both ways.

    Parameters
    ----------
    address : str
        host:port of the server's gRPC endpoint.
    """
    client = InferenceServerClient(
        address,
        channel_args=[
            ("grpc.max_send_message_length", NO_LIMIT),
            ("grpc.max_receive_message_length", NO_LIMIT),
        ],
    )
    wanted = [InferRequestedOutput("probabilities")]

    def predict(window: torch.Tensor) -> torch.Tensor:
        sent = InferInput("window", list(window.shape), "FP32")
        sent.set_data_from_numpy(window.numpy())
        answer = client.infer(NAIVE_MODEL, [sent], outputs=wanted)
        return torch.from_numpy(answer.as_numpy("probabilities").copy())

    return predict


def naive_repository(place: Path, classes: int, network: Engine) -> Path:
    """Copy the model repository and add the network with FP32 ends.

    Parameters
    ----------
    place : Path
        Folder to make it in.
    classes : int
        Classes of the network.
    network : Engine
        Whose precision and threads the copy takes.

    Returns
    -------
    Path
        The repository.
    """
    copied = place / "model_repository"
    shutil.copytree(REPOSITORY, copied)
    model = copied / NAIVE_MODEL
    (model / "1").mkdir(parents=True)
    shutil.copyfile(Path(__file__).parent / "naive_model" / "model.py", model / "1" / "model.py")
    parameters = {
        "profile": "embedded",
        "weights": str(network.path),
        "precision": network.floating,
        "threads": str(network.threads),
    }
    text = (
        f'name: "{NAIVE_MODEL}"\nbackend: "python"\nmax_batch_size: 1\n'
        'input [ { name: "window" data_type: TYPE_FP32 dims: [ 1, -1, -1, -1 ] } ]\n'
        'output [ { name: "probabilities" data_type: TYPE_FP32 '
        f"dims: [ {classes}, -1, -1, -1 ] }} ]\n"
        "instance_group [ { count: 1 kind: KIND_CPU } ]\n"
    )
    for name, value in parameters.items():
        text += f'parameters {{ key: "{name}" value {{ string_value: {json.dumps(value)} }} }}\n'
    (model / "configs").mkdir()
    for path in (model / "config.pbtxt", model / "configs" / "embedded.pbtxt"):
        path.write_text(text, "utf-8")
    return copied
