"""Triton's side of the accumulator: requests in, answers out. The work is in the modules beside."""

import dataclasses
import json
import threading

import numpy as np
import triton_python_backend_utils as pb_utils

from arrays import device
from contract import Contract
from health import Health
from refusals import BusyError, GoneError, ScanError
from room import look
from scans import Answer, OpenScans, ScanReport
from wire import read_scan_id, read_window

INPUTS = (
    "window",
    "probabilities",
    "origin",
    "box_shape",
    "window_index",
    "window_count",
    "voxel_volume_mm3",
)


class TritonPythonModel:
    """Keeps the open scans of this server; one instance, so that their bounds hold for all."""

    def initialize(self, args):
        """Read the contract from this model's own configuration.

        Not from ``contract.json``: Triton copies a model's folder alone where the repository is in
        an object store, and the configuration is the one of the profile that is served.
        """
        parameters = json.loads(args["model_config"])["parameters"]
        if parameters.get("FORCE_CPU_ONLY_INPUT_TENSORS", {}).get("string_value") == "no":
            _check_gpu()
        self._contract = Contract.from_json(parameters["contract"]["string_value"])
        self._health = _open_health()
        if self._health:
            self._health.room(look())
        self._scans = OpenScans(self._contract, self._tell)
        self._stopping = threading.Event()
        # Without traffic no request would sweep: what a vanished client left must go all the same.
        self._sweeper = threading.Thread(target=self._sweep, daemon=True)
        self._sweeper.start()

    def execute(self, requests):
        """Answer each request on its own: what is wrong with one is nothing to the others."""
        responses = [self._respond(request) for request in requests]
        if self._health:
            self._health.held(self._scans)
        return responses

    def finalize(self):
        """Stop sweeping."""
        self._stopping.set()
        self._sweeper.join(timeout=5)

    def _respond(self, request):
        try:
            scan_id = read_scan_id(request.correlation_id())
            if request.is_cancelled():
                self._scans.drop(scan_id, "CANCELLED")
                return _failure("CANCELLED: the client went away", pb_utils.TritonError.CANCELLED)
            flags = request.flags()
            answer = self._scans.receive(
                scan_id,
                lambda: read_window(_tensors(request), self._contract),
                start=bool(flags & pb_utils.TRITONSERVER_REQUEST_FLAG_SEQUENCE_START),
                end=bool(flags & pb_utils.TRITONSERVER_REQUEST_FLAG_SEQUENCE_END),
            )
        except BusyError as error:
            return _failure(str(error), pb_utils.TritonError.UNAVAILABLE)
        except GoneError as error:
            return _failure(str(error), pb_utils.TritonError.NOT_FOUND)
        except ScanError as error:
            return _failure(str(error), pb_utils.TritonError.INVALID_ARG)
        except Exception as error:
            # A fault in one scan is nothing to the others.
            pb_utils.Logger.log_error(f"accumulator: {type(error).__name__}: {error}")
            message = f"FAILED: {type(error).__name__} in the accumulator, see the server's log"
            return _failure(message, pb_utils.TritonError.INTERNAL)
        if self._health:
            self._health.taken()
        return pb_utils.InferenceResponse(output_tensors=_outputs(answer))

    def _sweep(self):
        while not self._stopping.wait(self._contract.scan_idle_s / 4):
            self._scans.sweep()
            if self._health:
                self._health.held(self._scans)
                self._health.room(look())

    def _tell(self, report: ScanReport):
        """Log how a scan ended, and count it."""
        _log(report)
        if self._health:
            self._health.ended(report)


def _open_health():
    """Make the metrics; none where the server was told to keep none."""

    def family(kind):
        return lambda name, text: pb_utils.MetricFamily(name=name, description=text, kind=kind)

    try:
        return Health(family(pb_utils.MetricFamily.COUNTER), family(pb_utils.MetricFamily.GAUGE))
    except pb_utils.TritonModelException as error:
        pb_utils.Logger.log_warn(f"accumulator: no metrics: {error}")
        return None


def _tensors(request):
    tensors = {}
    for name in INPUTS:
        tensor = pb_utils.get_input_tensor_by_name(request, name)
        if tensor is not None:
            tensors[name] = (
                tensor.as_numpy() if tensor.is_cpu() else device().xp.from_dlpack(tensor)
            )
    return tensors


def _check_gpu():
    """Refuse to be served where tensors are to stay on the GPU and nothing here can read them."""
    try:
        device().xp.zeros(1)
    except Exception as error:
        raise ValueError(
            "this profile blends on the GPU (FORCE_CPU_ONLY_INPUT_TENSORS is no), which needs cupy "
            f"with CUDA ({type(error).__name__}): install cupy-cuda12x in the container, or take "
            '"blending": "gpu" out of the contract and run make configs'
        ) from None


def _outputs(answer: Answer):
    score = answer.score
    if score is None:
        arrays = {
            "dl_ild_percent": np.empty((1, 0), np.float64),
            "class_volumes_ml": np.empty((1, 0), np.float64),
            "zone_volumes_ml": np.empty((1, 0, 2), np.float64),
            "labels": np.empty((1, 0, 0, 0), np.uint8),
        }
    else:
        arrays = {
            "dl_ild_percent": np.array([[score.dl_ild_percent]], np.float64),
            "class_volumes_ml": score.class_volumes_ml[None].astype(np.float64),
            "zone_volumes_ml": score.zone_volumes_ml[None].astype(np.float64),
            "labels": score.labels[None],
        }
    arrays["windows_received"] = np.array([[answer.windows_received]], np.int32)
    return [pb_utils.Tensor(name, array) for name, array in arrays.items()]


def _failure(message, code):
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(message, code))


def _log(report: ScanReport):
    """One line of JSON a scan. Its id is a UUID or a number: nothing here can name a patient."""
    line = {"event": "scan", **dataclasses.asdict(report)}
    line |= {name: round(value, 3) for name, value in line.items() if isinstance(value, float)}
    pb_utils.Logger.log_info(json.dumps(line))
