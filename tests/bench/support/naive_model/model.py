"""The same network with FP32 in and out, for `naive_remote`: only the bench serves it.

A script that is not ours sends float32 and wants float32 back. OpenVINO converts both inside the
compiled network, so that nothing is lost to a conversion in Python.
"""

import json
import os
from pathlib import Path

import openvino as ov
import triton_python_backend_utils as pb_utils
from openvino.preprocess import PrePostProcessor


class TritonPythonModel:
    """Runs the weights that the configuration names, at the precision of the product's engine."""

    def initialize(self, args):
        """Compile the network as the product's engine does, but for the types of its ends."""
        parameters = json.loads(args["model_config"])["parameters"]
        core = ov.Core()
        model = core.read_model(Path(parameters["weights"]["string_value"]))
        ends = PrePostProcessor(model)
        ends.input().tensor().set_element_type(ov.Type.f32)
        ends.output().tensor().set_element_type(ov.Type.f32)
        hints = {
            "INFERENCE_PRECISION_HINT": parameters["precision"]["string_value"],
            "INFERENCE_NUM_THREADS": int(parameters["threads"]["string_value"]),
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": 1,
        }
        assert len(os.sched_getaffinity(0)) >= hints["INFERENCE_NUM_THREADS"]
        self._request = core.compile_model(ends.build(), "CPU", hints).create_infer_request()

    def execute(self, requests):
        """Run one window after the other."""
        return [self._respond(request) for request in requests]

    def _respond(self, request):
        window = pb_utils.get_input_tensor_by_name(request, "window").as_numpy()
        outputs = self._request.infer({0: window}, share_inputs=True, share_outputs=True)
        return pb_utils.InferenceResponse([pb_utils.Tensor("probabilities", outputs[0])])
