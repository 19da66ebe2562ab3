"""Triton's side of the whole-scan door: one volume in, its windows through the ensemble."""

import contextlib
import json
import uuid
from concurrent.futures import ThreadPoolExecutor

import triton_python_backend_utils as pb_utils

from plan import Rules, VolumeError, plan_windows
from whole import read_volume, shape_of, window_tensors

START = pb_utils.TRITONSERVER_REQUEST_FLAG_SEQUENCE_START
END = pb_utils.TRITONSERVER_REQUEST_FLAG_SEQUENCE_END
# Triton calls every failure behind another model internal: the word in the message tells more.
CODES = {
    "REFUSED: ": "INVALID_ARG",
    "INCOMPLETE: ": "INVALID_ARG",
    "GONE: ": "NOT_FOUND",
    "BUSY: ": "UNAVAILABLE",
    "CANCELLED: ": "CANCELLED",
}


class _StopError(Exception):
    """A window failed, or the client went away; the message is the answer."""


class TritonPythonModel:
    """Sends the windows of one volume at a time through the ensemble ``dlild``.

    The ensemble counts, blends, bounds and refuses as it does for a client's own stream, so that
    there is one set of rules and one place where a score is made.
    """

    def initialize(self, args):
        """Read the contract from this model's own configuration."""
        config = json.loads(args["model_config"])
        contract = config["parameters"]["contract"]["string_value"]
        self._rules = Rules.from_json(contract)
        self._ensemble = json.loads(contract)["model"]["name"]
        # A version of this door asks the ensemble of the same version: its answers bear its number.
        self._version = int(args["model_version"])
        self._outputs = [tensor["name"] for tensor in config["output"]]
        self._pool = ThreadPoolExecutor(self._rules.in_flight)

    def execute(self, requests):
        """Score each volume on its own."""
        return [self._respond(request) for request in requests]

    def finalize(self):
        """Let the threads go."""
        self._pool.shutdown(cancel_futures=True)

    def _respond(self, request):
        try:
            return self._score(request)
        except (VolumeError, _StopError) as error:
            return _failure(str(error))
        except Exception as error:
            # A fault in one scan is nothing to the others.
            pb_utils.Logger.log_error(f"dlild_volume: {type(error).__name__}: {error}")
            return _failure(
                f"FAILED: {type(error).__name__} in the whole-scan door, see the server's log"
            )

    def _score(self, request):
        tensor = pb_utils.get_input_tensor_by_name(request, "volume")
        volume = read_volume({} if tensor is None else {"volume": tensor.as_numpy()}, self._rules)
        voxel_volume = pb_utils.get_input_tensor_by_name(request, "voxel_volume_mm3")
        plan = plan_windows(shape_of(volume), self._rules)
        scan_id = str(uuid.uuid4())
        last = len(plan.origins) - 1

        def send(index, flags=None):
            if flags is None:
                if request.is_cancelled():
                    raise _StopError("CANCELLED: the client went away")
                flags = (START if index == 0 else 0) | (END if index == last else 0)
            tensors = window_tensors(volume, plan, index).items()
            response = pb_utils.InferenceRequest(
                model_name=self._ensemble,
                model_version=self._version,
                correlation_id=scan_id,
                flags=flags,
                inputs=[*(pb_utils.Tensor(*pair) for pair in tensors), voxel_volume],
                requested_output_names=self._outputs,
            ).exec()
            if response.has_error():
                raise _StopError(response.error().message())
            return response

        try:
            for turn in plan.turns():
                # All of a turn is waited for, so that nothing is under way behind an error.
                sent = [self._pool.submit(send, index) for index in turn]
                answers = [future.exception() or future.result() for future in sent]
                for answer in answers:
                    if isinstance(answer, BaseException):
                        raise answer
        except BaseException:
            # The ensemble must not hold what will never be finished: a repeated window that ends
            # the scan is refused and frees its place.
            with contextlib.suppress(_StopError):
                send(0, END)
            raise
        return pb_utils.InferenceResponse(output_tensors=answers[-1].output_tensors())


def _failure(message):
    names = [name for word, name in CODES.items() if word in message]
    code = getattr(pb_utils.TritonError, names[0] if names else "INTERNAL")
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(message, code))
