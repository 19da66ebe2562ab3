"""Triton's side of the network in the embedded profile; the engine is in the module beside."""

import json
import os
import time
from pathlib import Path

import numpy as np
import triton_python_backend_utils as pb_utils

from contract import parse_contract
from contract.refusals import CancelledError, FailedError, RefusedError
from contract.weights import INT8_NETWORK, UNRELEASED, check_network
from contract.windows import check_window
from engine import Engine
from parent_death import end_with_parent


class TritonPythonModel:
    """Runs the ``model.onnx`` of one version on the CPU, or its INT8 form.

    ``DLILD_THREADS`` and ``DLILD_PRECISION`` (``int8``, ``bf16`` or ``f32``) in the server's
    environment override the choice of the engine.
    """

    def initialize(self, args):
        """Load the network whose digest is in this model's configuration.

        Contract and digests come from the configuration, not from the repository's files: where it
        is in an object store, Triton copies a model's folder alone. The configuration warms the
        network up with the largest window.
        """
        end_with_parent()
        parameters = json.loads(args["model_config"])["parameters"]
        self._contract = parse_contract(parameters["contract"]["string_value"])
        version = args["model_version"]
        path = Path(args["model_repository"], version, "model.onnx")
        _check_digest(path, version, json.loads(parameters["weights_sha256"]["string_value"]))
        int8_digest = json.loads(parameters["int8_sha256"]["string_value"]).get(version)
        int8 = path.with_name(INT8_NETWORK)
        if int8_digest:
            check_network(int8, version, int8_digest)
        threads = os.environ.get("DLILD_THREADS")
        self._engine = Engine(
            path,
            precision=os.environ.get("DLILD_PRECISION") or None,
            threads=int(threads) if threads else None,
            int8=int8 if int8_digest else None,
        )
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
            return _failure(CancelledError("the client went away"), pb_utils.TritonError.CANCELLED)
        try:
            window = pb_utils.get_input_tensor_by_name(request, "window").as_numpy()
            check_window(window, self._contract.windows, self._contract.hu)
            started = time.perf_counter()
            probabilities = self._engine.infer(window, copy=copy)
            if self._seconds:
                self._seconds.increment(time.perf_counter() - started)
        except RefusedError as error:
            return _failure(error, pb_utils.TritonError.INVALID_ARG)
        except Exception as error:
            # A fault in one window is nothing to the others.
            pb_utils.Logger.log_error(f"ild_unet: {type(error).__name__}: {error}")
            return _failure(
                FailedError(f"{type(error).__name__} in the network, see the server's log"),
                pb_utils.TritonError.INTERNAL,
            )
        return pb_utils.InferenceResponse(
            output_tensors=[
                pb_utils.Tensor("probabilities", probabilities),
                pb_utils.Tensor("engine", self._name),
            ]
        )


def _counter(name: str, description: str):
    """Make a family of one metric; none where the server keeps none."""
    try:
        family = pb_utils.MetricFamily(
            name=name, description=description, kind=pb_utils.MetricFamily.COUNTER
        )
        return family, family.Metric(labels={})
    except pb_utils.TritonModelException as error:
        pb_utils.Logger.log_warn(f"ild_unet: no metrics: {error}")
        return None, None


def _check_digest(path: Path, version: str, digests):
    """Refuse to serve weights that are not those released under this version."""
    if version not in digests:
        raise ValueError(f"{path}: version {version} is not configured: run dlild-export serve")
    check_network(path, version, digests[version])
    if digests[version] == UNRELEASED:
        pb_utils.Logger.log_warn(f"no weights are released yet: {path.name} is any")


def _failure(error, status):
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(str(error), status))
