"""Triton's side of the progression model; the arithmetic is in risk.py beside this file."""

import hashlib
import json
from pathlib import Path

import numpy as np
import triton_python_backend_utils as pb_utils
from risk import faults_of, risks


class TritonPythonModel:
    """Answers the risk of one patient a request, with its interval, by each horizon."""

    def initialize(self, args):
        """Read the fitted model, and refuse one that the configuration does not name."""
        parameters = json.loads(args["model_config"])["parameters"]
        content = Path(__file__).with_name("model.json").read_bytes()
        expected = parameters["model_sha256"]["string_value"]
        digest = hashlib.sha256(content).hexdigest()
        if digest != expected:
            raise ValueError(
                f"model.json has sha256 {digest}, its configuration names {expected}: "
                "add the model to the repository again"
            )
        self._model = json.loads(content)
        # Name of each input on the wire, by its name in the model.
        self._tensors = json.loads(parameters["tensors"]["string_value"])

    def execute(self, requests):
        """Answer each request on its own: a patient who is refused is nothing to the others."""
        return [self._respond(request) for request in requests]

    def _respond(self, request):
        try:
            patient = {name: _value(request, tensor) for name, tensor in self._tensors.items()}
            faults = faults_of(self._model, patient, self._tensors)
            if faults:
                message = f"OUT_OF_RANGE: {'; '.join(faults)}"
                return _failure(message, pb_utils.TritonError.INVALID_ARG)
            found = risks(self._model, patient)
        except Exception as error:
            # The value may not be logged: it is a patient's.
            pb_utils.Logger.log_error(f"progression: {type(error).__name__}")
            return _failure(
                f"FAILED: {type(error).__name__} in the progression model",
                pb_utils.TritonError.INTERNAL,
            )
        return pb_utils.InferenceResponse(
            output_tensors=[
                pb_utils.Tensor(name, np.array([item[key] for item in found], np.float64))
                for name, key in (
                    ("horizon_months", "horizon_months"),
                    ("risk", "risk"),
                    ("risk_low", "low"),
                    ("risk_high", "high"),
                )
            ]
        )


def _value(request, name):
    value = pb_utils.get_input_tensor_by_name(request, name).as_numpy().reshape(-1)[0]
    return value.decode("utf-8") if isinstance(value, bytes) else value


def _failure(message, code):
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(message, code))
