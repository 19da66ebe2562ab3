"""Triton's side of the network in the embedded profile; the engine is in the module beside."""

import hashlib
import json
import os
import time
from pathlib import Path

import numpy as np
import triton_python_backend_utils as pb_utils

from engine import Engine
from windows import WindowBounds, WindowError, check_window

UNRELEASED = "0" * 64


class TritonPythonModel:
    """Runs the ``model.onnx`` of one version on the CPU.

    ``DLILD_THREADS`` and ``DLILD_PRECISION`` (``bf16`` or ``f32``) in the server's environment
    override the choice of the engine.
    """

    def initialize(self, args):
        """Load the network that the contract in this model's configuration names.

        The configuration warms it up with a window of every shape.
        The contract comes from the configuration, not from ``contract.json``: Triton copies a
        model's folder alone where the repository is in an object store.
        """
        parameters = json.loads(args["model_config"])["parameters"]
        contract = json.loads(parameters["contract"]["string_value"])
        self._bounds = WindowBounds.from_fields(contract["windows"])
        version = args["model_version"]
        path = Path(args["model_repository"], version, "model.onnx")
        threads = os.environ.get("DLILD_THREADS")
        self._engine = Engine(
            path,
            precision=os.environ.get("DLILD_PRECISION") or None,
            threads=int(threads) if threads else None,
        )
        _check_digest(path, version, contract["model"]["releases"])
        self._name = np.array([[self._engine.name.encode()]], dtype=np.object_)
        # The family must live as long as its metric.
        self._family, self._seconds = _counter(
            "dlild_inference_seconds_total", "Seconds inside the network"
        )
        pb_utils.Logger.log_info(
            json.dumps(
                {
                    "event": "engine",
                    "version": version,
                    "engine": self._engine.name,
                    "threads": self._engine.threads,
                }
            )
        )

    def execute(self, requests):
        """Run the network on each window; a window that is wrong fails alone."""
        # Triton copies an answer when this method returns: only a later window of the same call
        # could write over it.
        alone = len(requests) == 1
        return [self._respond(request, copy=not alone) for request in requests]

    def _respond(self, request, *, copy):
        if request.is_cancelled():
            return _failure("CANCELLED: the client went away", pb_utils.TritonError.CANCELLED)
        try:
            window = pb_utils.get_input_tensor_by_name(request, "window").as_numpy()
            check_window(window, self._bounds)
            started = time.perf_counter()
            probabilities = self._engine.infer(window, copy=copy)
            if self._seconds:
                self._seconds.increment(time.perf_counter() - started)
        except WindowError as error:
            return _failure(str(error), pb_utils.TritonError.INVALID_ARG)
        except Exception as error:
            # A fault in one window is nothing to the others.
            pb_utils.Logger.log_error(f"ild_unet: {type(error).__name__}: {error}")
            return _failure(
                f"FAILED: {type(error).__name__} in the network, see the server's log",
                pb_utils.TritonError.INTERNAL,
            )
        return pb_utils.InferenceResponse(
            output_tensors=[
                pb_utils.Tensor("probabilities", probabilities),
                pb_utils.Tensor("engine", self._name),
            ]
        )


def _counter(name: str, description: str):
    """Make a family of one metric; none where the server was told to keep none."""
    try:
        family = pb_utils.MetricFamily(
            name=name, description=description, kind=pb_utils.MetricFamily.COUNTER
        )
        return family, family.Metric(labels={})
    except pb_utils.TritonModelException as error:
        pb_utils.Logger.log_warn(f"ild_unet: no metrics: {error}")
        return None, None


def _check_digest(path: Path, version: str, releases):
    """Refuse to serve weights under a contract that names others."""
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if version not in releases:
        raise ValueError(f"{path}: the contract knows no version {version}: run dlild-export serve")
    expected = releases[version]["weights_sha256"]
    if expected == UNRELEASED:
        pb_utils.Logger.log_warn(f"the contract names no weights; {path.name} has sha256 {digest}")
    elif digest != expected:
        raise ValueError(
            f"{path} has sha256 {digest}, the contract names {expected}: restore the file that was "
            "released, or release these weights as a new version"
        )


def _failure(message, code):
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(message, code))
