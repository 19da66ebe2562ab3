"""Triton's side of the accumulator: requests in, answers out. The work is in the modules beside."""

import dataclasses
import json
import threading

import triton_python_backend_utils as pb_utils

from arrays import device
from contract import parse_contract, parse_limits, tensors
from contract.refusals import BusyError, CancelledError, FailedError, GoneError, ScanError
from health import Health
from memory import read_memory
from scans import Answer, OpenScans, ScanReport
from window_request import read_scan_id, read_window

# Status of gRPC, by name, that a client sees beside the code in the message. By name, because the
# backend fills its module only before `initialize`.
STATUS = {BusyError: "UNAVAILABLE", GoneError: "NOT_FOUND", CancelledError: "CANCELLED"}


class TritonPythonModel:
    """Keeps the open scans of this server; one instance, so that their bounds hold for all."""

    def initialize(self, args):
        """Read contract and limits from this model's own configuration.

        Not from the repository's files: where it is in an object store, Triton copies a model's
        folder alone, and the configuration is the one of the profile that is served.
        """
        parameters = json.loads(args["model_config"])["parameters"]
        if parameters.get("FORCE_CPU_ONLY_INPUT_TENSORS", {}).get("string_value") == "no":
            _check_gpu()
        self._contract = parse_contract(parameters["contract"]["string_value"])
        self._limits = parse_limits(parameters["limits"]["string_value"])
        self._inputs = [
            *(spec.name for spec in tensors.REQUEST),
            tensors.probabilities(len(self._contract.classes)).name,
        ]
        self._health = _open_health()
        if self._health:
            self._health.memory(read_memory())
        self._scans = OpenScans(self._contract, self._limits, self._report)
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
                self._scans.drop(scan_id, CancelledError.code)
                raise CancelledError("the client went away")
            flags = request.flags()
            answer = self._scans.receive(
                scan_id,
                lambda: read_window(_tensors(request, self._inputs), self._contract),
                start=bool(flags & pb_utils.TRITONSERVER_REQUEST_FLAG_SEQUENCE_START),
                end=bool(flags & pb_utils.TRITONSERVER_REQUEST_FLAG_SEQUENCE_END),
            )
        except ScanError as error:
            return _failure(error, STATUS.get(type(error), "INVALID_ARG"))
        except Exception as error:
            # A fault in one scan is nothing to the others.
            pb_utils.Logger.log_error(f"accumulator: {type(error).__name__}: {error}")
            failed = FailedError(f"{type(error).__name__} in the accumulator, see the server's log")
            return _failure(failed, "INTERNAL")
        if self._health:
            self._health.taken()
        return pb_utils.InferenceResponse(output_tensors=_outputs(answer))

    def _sweep(self):
        while not self._stopping.wait(self._limits.scan_idle_s / 4):
            self._scans.sweep()
            if self._health:
                self._health.held(self._scans)
                self._health.memory(read_memory())

    def _report(self, report: ScanReport):
        """Log how a scan ended, and count it."""
        _log(report)
        if self._health:
            self._health.ended(report)


def _open_health():
    """Make the metrics; none where the server keeps none."""

    def family(kind):
        return lambda name, text: pb_utils.MetricFamily(name=name, description=text, kind=kind)

    try:
        return Health(family(pb_utils.MetricFamily.COUNTER), family(pb_utils.MetricFamily.GAUGE))
    except pb_utils.TritonModelException as error:
        pb_utils.Logger.log_warn(f"accumulator: no metrics: {error}")
        return None


def _tensors(request, names):
    found = {}
    for name in names:
        tensor = pb_utils.get_input_tensor_by_name(request, name)
        if tensor is not None:
            found[name] = tensor.as_numpy() if tensor.is_cpu() else device().xp.from_dlpack(tensor)
    return found


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
        arrays = {spec.name: spec.empty() for spec in tensors.SCORE}
    else:
        arrays = {
            spec.name: spec.array(value)
            for spec, value in (
                (tensors.DL_ILD_PERCENT, [score.dl_ild_percent]),
                (tensors.CLASS_VOLUMES_ML, score.class_volumes_ml),
                (tensors.ZONE_VOLUMES_ML, score.zone_volumes_ml),
                (tensors.CLASS_CERTAINTY, score.class_certainty),
                (tensors.LABELS, score.labels),
            )
        }
    received = tensors.WINDOWS_RECEIVED
    arrays[received.name] = received.array([answer.windows_received])
    return [pb_utils.Tensor(name, array) for name, array in arrays.items()]


def _failure(error, status):
    code = getattr(pb_utils.TritonError, status)
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(str(error), code))


def _log(report: ScanReport):
    """One line of JSON a scan. Its id is a UUID or a number: nothing here can name a patient."""
    line = {"event": "scan", **dataclasses.asdict(report)}
    line |= {name: round(value, 3) for name, value in line.items() if isinstance(value, float)}
    pb_utils.Logger.log_info(json.dumps(line))
