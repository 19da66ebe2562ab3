"""Triton's side of `dlild`: requests in, windows to the network, answers out.

The work is in the modules beside. Requests are taken as they come and answered later, through
their response senders: Triton's own queue in front of this model stays empty, and what waits is
known to `OpenScans`. The network is called by BLS (business logic scripting), for windows of open
scans only.
"""

import dataclasses
import functools
import json
import threading
from pathlib import Path

import numpy as np
import triton_python_backend_utils as pb_utils

from arrays import HOST, device
from contract import parse_contract, parse_limits, tensors
from contract.refusals import BusyError, CancelledError, FailedError, GoneError, ScanError
from contract.weights import check_version
from health import Health
from memory import read_memory, return_freed
from network import network_error
from parent_death import end_with_parent
from scans import Answer, OpenScans, QueuedWindow, ScanReport
from window_request import read_scan_id, read_window

NETWORK = "ild_unet"
FINAL = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL
START = pb_utils.TRITONSERVER_REQUEST_FLAG_SEQUENCE_START
END = pb_utils.TRITONSERVER_REQUEST_FLAG_SEQUENCE_END
# Status of gRPC, by name, that a client sees beside the code in the message. By name, because the
# backend fills its module only before `initialize`.
STATUS = {BusyError: "UNAVAILABLE", GoneError: "NOT_FOUND", CancelledError: "CANCELLED"}
# Seconds between two looks for clients that went away and scans that fell silent.
SWEEP_S = 1.0
# Freed memory is kept for so many sweeps, some 250 scans of a busy server: each page that the
# kernel gives anew it has to clear first.
RETURN_SWEEPS = 60
# While one window is in the network, another may be blended, and a third may be on its way to it.
THREADS_AN_INSTANCE = 3
STOP_S = 5.0


class TritonPythonModel:
    """Admits scans, has their windows computed, and scores them.

    One instance, so that the bounds on open scans hold for all.
    """

    def initialize(self, args):
        """Read contract and limits from this model's own configuration, and start the threads.

        Not from the repository's files: where it is in an object store, Triton copies a model's
        folder alone, and the configuration is the one of the profile that is served.
        """
        end_with_parent()
        parameters = {
            name: value["string_value"]
            for name, value in json.loads(args["model_config"])["parameters"].items()
        }
        self._contract = parse_contract(parameters["contract"])
        limits = parse_limits(parameters["limits"])
        profile = self._contract.profiles[parameters["profile"]]
        # A version asks the network of the same version, whose number is in its answers.
        self._version = args["model_version"]
        _check_weights(args, profile.engine, json.loads(parameters["weights_sha256"]))
        self._blends_on_gpu = profile.blending == "gpu"
        if self._blends_on_gpu:
            _check_gpu()
        self._inputs = [spec.name for spec in tensors.REQUEST]
        self._outputs = [tensors.probabilities(len(self._contract.classes)).name]
        if any(output["name"] == tensors.ENGINE.name for output in _outputs_of(args)):
            self._outputs.append(tensors.ENGINE.name)
        self._health = _open_health()
        self._scans = OpenScans(
            self._contract,
            limits,
            self._report,
            arrays=device() if self._blends_on_gpu else HOST,
        )
        if self._health:
            self._health.publish(self._scans, read_memory())
        self._stopping = threading.Event()
        targets = [self._work] * (THREADS_AN_INSTANCE * limits.network_instances)
        # Without traffic no request would sweep: what a vanished client left must go all the same.
        self._threads = [threading.Thread(target=t, daemon=True) for t in (*targets, self._sweep)]
        for thread in self._threads:
            thread.start()

    def execute(self, requests):
        """Take each window or refuse it; what is wrong with one is nothing to the others."""
        for request in requests:
            reply = _Reply(request.get_response_sender(), self._health)
            try:
                scan_id = read_scan_id(request.correlation_id())
                flags = request.flags()
                self._scans.receive(
                    scan_id,
                    functools.partial(self._read, request),
                    reply,
                    start=bool(flags & START),
                    end=bool(flags & END),
                )
            except ScanError as error:
                reply.send(error)
            except Exception as error:
                reply.send(_fault(error))
        if self._health:
            self._health.publish(self._scans)
        # Answers go through the senders: there is nothing to return.

    def finalize(self):
        """Refuse what waits, and stop the threads."""
        self._stopping.set()
        self._scans.stop()
        for thread in self._threads:
            thread.join(timeout=STOP_S)

    def _read(self, request):
        found = {}
        for name in self._inputs:
            tensor = pb_utils.get_input_tensor_by_name(request, name)
            if tensor is not None:
                found[name] = tensor.as_numpy()
        return read_window(found, self._contract)

    def _work(self):
        """Have one window after the other computed, until the model is unloaded."""
        while (window := self._scans.take()) is not None:
            try:
                self._compute(window)
            except ScanError as error:
                self._scans.fail(window, error)
            except Exception as error:
                # A fault in one scan is nothing to the others.
                self._scans.fail(window, _fault(error))
            if self._health:
                self._health.publish(self._scans)

    def _compute(self, window: QueuedWindow):
        if window.is_repeated:
            self._scans.add(window, None)
            return
        preferred = {}
        if self._blends_on_gpu:
            memory = pb_utils.PreferredMemory(pb_utils.TRITONSERVER_MEMORY_GPU, 0)
            preferred = {"preferred_memory": memory}
        response = pb_utils.InferenceRequest(
            model_name=NETWORK,
            model_version=int(self._version),
            requested_output_names=self._outputs,
            inputs=[pb_utils.Tensor(tensors.WINDOW.name, window.message.window)],
            **preferred,
        ).exec()
        if response.has_error():
            message = response.error().message()
            error = network_error(message)
            if isinstance(error, FailedError):
                pb_utils.Logger.log_error(f"dlild: the network failed: {message}")
            raise error
        found = {tensor.name(): tensor for tensor in response.output_tensors()}
        tensor = found[self._outputs[0]]
        probabilities = tensor.as_numpy() if tensor.is_cpu() else device().xp.from_dlpack(tensor)
        engine = found.get(tensors.ENGINE.name)
        self._scans.add(
            window,
            probabilities[0],
            None if engine is None else engine.as_numpy().reshape(-1)[0].decode(),
        )

    def _sweep(self):
        sweeps = 0
        while not self._stopping.wait(SWEEP_S):
            self._scans.sweep()
            sweeps += 1
            if sweeps % RETURN_SWEEPS == 0:
                return_freed()
            if self._health:
                self._health.publish(self._scans, read_memory())

    def _report(self, report: ScanReport):
        """Log how a scan ended, and count it."""
        _log(report)
        if self._health:
            self._health.ended(report)


class _Reply:
    """The response sender of one request, which is used once.

    Triton frees what a question of cancellation refers to when the answer is sent: the two never
    happen at once, and none is asked after the answer.
    """

    def __init__(self, sender, health):
        self._sender = sender
        self._health = health
        self._lock = threading.Lock()
        self._is_sent = False

    def send(self, answer):
        """Send the answer, or the refusal; a client that is gone is no fault of ours."""
        if isinstance(answer, ScanError):
            response = _failure(answer, STATUS.get(type(answer), "INVALID_ARG"))
        else:
            response = pb_utils.InferenceResponse(output_tensors=_outputs(answer))
            if self._health:
                self._health.taken()
        with self._lock:
            self._is_sent = True
            try:
                self._sender.send(response, flags=FINAL)
            except Exception as error:
                pb_utils.Logger.log_error(f"dlild: {type(error).__name__} while answering: {error}")

    def is_cancelled(self):
        """Ask Triton whether the client has cancelled, or its stream broke."""
        with self._lock:
            return not self._is_sent and self._sender.is_cancelled()


def _outputs_of(args):
    return json.loads(args["model_config"])["output"]


def _check_weights(args, engine, digests):
    """Refuse to serve with a network that is not the one released under this version.

    Where the repository is in an object store, the network's folder is not beside this one: then
    nothing can be checked here. The embedded profile's network checks itself.
    """
    contract = json.loads(args["model_config"])["parameters"]["contract"]["string_value"]
    version = args["model_version"]
    folder = Path(args["model_repository"]).parent / NETWORK / version
    if folder.is_dir():
        check_version(folder, engine, version, digests[version], json.loads(contract)["windows"])


def _check_gpu():
    """Refuse to be served where windows are to be blended on the GPU and nothing here can do it."""
    try:
        device().xp.zeros(1)
    except Exception as error:
        raise ValueError(
            "this profile blends on the GPU, which needs cupy with CUDA "
            f"({type(error).__name__}): install cupy-cuda12x in the container, or take "
            '"blending": "gpu" out of the contract and run make configs'
        ) from None


def _open_health():
    """Make the metrics; none where the server keeps none."""

    def family(kind):
        return lambda name, text: pb_utils.MetricFamily(name=name, description=text, kind=kind)

    try:
        return Health(family(pb_utils.MetricFamily.COUNTER), family(pb_utils.MetricFamily.GAUGE))
    except pb_utils.TritonModelException as error:
        pb_utils.Logger.log_warn(f"dlild: no metrics: {error}")
        return None


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
    if answer.engine is not None:
        arrays[tensors.ENGINE.name] = np.array([[answer.engine.encode()]], dtype=np.object_)
    return [pb_utils.Tensor(name, array) for name, array in arrays.items()]


def _fault(error):
    pb_utils.Logger.log_error(f"dlild: {type(error).__name__}: {error}")
    return FailedError(f"{type(error).__name__} in dlild, see the server's log")


def _failure(error, status):
    if isinstance(error, FailedError):
        status = "INTERNAL"
    code = getattr(pb_utils.TritonError, status)
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(str(error), code))


def _log(report: ScanReport):
    """One line of JSON a scan. Its id is a UUID or a number: nothing here can name a patient."""
    line = {"event": "scan", **dataclasses.asdict(report)}
    line |= {name: round(value, 3) for name, value in line.items() if isinstance(value, float)}
    pb_utils.Logger.log_info(json.dumps(line))
