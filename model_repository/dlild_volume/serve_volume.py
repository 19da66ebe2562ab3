"""Triton's side of `dlild_volume`: one volume in, its windows through `dlild`."""

import contextlib
import json
import uuid
from concurrent.futures import ThreadPoolExecutor

import triton_python_backend_utils as pb_utils

from contract import parse_contract, tensors
from contract.refusals import (
    BusyError,
    CancelledError,
    FailedError,
    GoneError,
    IncompleteError,
    RefusedError,
)
from parent_death import end_with_parent
from whole import plan_volume, read_volume, turns, window_tensors

START = pb_utils.TRITONSERVER_REQUEST_FLAG_SEQUENCE_START
END = pb_utils.TRITONSERVER_REQUEST_FLAG_SEQUENCE_END
# Triton calls every failure behind another model internal: the code in the message says more.
STATUS = {
    RefusedError.code: "INVALID_ARG",
    IncompleteError.code: "INVALID_ARG",
    GoneError.code: "NOT_FOUND",
    BusyError.code: "UNAVAILABLE",
    CancelledError.code: "CANCELLED",
}


class _WindowError(Exception):
    """`dlild` refused a window; the message, with its code, is the answer."""


class TritonPythonModel:
    """Sends the windows of one volume at a time through ``dlild``.

    That model counts, blends, bounds and refuses as it does for a client's own stream, so that
    there is one set of rules, and scores are made in one place alone.
    """

    def initialize(self, args):
        """Read the contract from this model's own configuration."""
        end_with_parent()
        config = json.loads(args["model_config"])
        self._contract = parse_contract(config["parameters"]["contract"]["string_value"])
        # A version asks `dlild` of the same version, whose number is in its answers.
        self._version = int(args["model_version"])
        self._outputs = [tensor["name"] for tensor in config["output"]]
        self._pool = ThreadPoolExecutor(self._contract.windows.in_flight)

    def execute(self, requests):
        """Score each volume on its own."""
        return [self._respond(request) for request in requests]

    def finalize(self):
        """Stop the threads."""
        self._pool.shutdown(cancel_futures=True)

    def _respond(self, request):
        try:
            return self._score(request)
        except (RefusedError, CancelledError, _WindowError) as error:
            return _failure(str(error))
        except Exception as error:
            # A fault in one scan is nothing to the others.
            pb_utils.Logger.log_error(f"dlild_volume: {type(error).__name__}: {error}")
            failed = FailedError(f"{type(error).__name__} in dlild_volume, see the server's log")
            return _failure(str(failed))

    def _score(self, request):
        tensor = pb_utils.get_input_tensor_by_name(request, tensors.VOLUME.name)
        volume = read_volume(None if tensor is None else tensor.as_numpy(), self._contract.hu)
        voxel_volume = pb_utils.get_input_tensor_by_name(request, tensors.VOXEL_VOLUME_MM3.name)
        plan = plan_volume(volume.shape, self._contract)
        scan_id = str(uuid.uuid4())
        last = len(plan.origins) - 1

        def send(index, flags=None):
            if flags is None:
                if request.is_cancelled():
                    raise CancelledError("the client went away")
                flags = (START if index == 0 else 0) | (END if index == last else 0)
            inputs = window_tensors(volume, plan, index).items()
            response = pb_utils.InferenceRequest(
                model_name=self._contract.model.name,
                model_version=self._version,
                correlation_id=scan_id,
                flags=flags,
                inputs=[*(pb_utils.Tensor(*pair) for pair in inputs), voxel_volume],
                requested_output_names=self._outputs,
            ).exec()
            if response.has_error():
                raise _WindowError(response.error().message())
            return response

        try:
            for turn in turns(plan):
                # All of a turn is waited for, so that nothing is under way behind an error.
                sent = [self._pool.submit(send, index) for index in turn]
                answers = [future.exception() or future.result() for future in sent]
                for answer in answers:
                    if isinstance(answer, BaseException):
                        raise answer
        except BaseException:
            # The other model must not hold what will never be finished: a repeated window that ends
            # the scan is refused and frees its slot.
            with contextlib.suppress(_WindowError):
                send(0, END)
            raise
        return pb_utils.InferenceResponse(output_tensors=answers[-1].output_tensors())


def _failure(message):
    found = [status for code, status in STATUS.items() if f"{code}: " in message]
    status = getattr(pb_utils.TritonError, found[0] if found else "INTERNAL")
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(message, status))
