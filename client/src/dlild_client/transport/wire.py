"""Encoding of requests and decoding of responses, as specified in `docs/wire.md`."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from tritonclient.grpc import service_pb2

from dlild_client.contract import tensors
from dlild_client.contract.schema import Shape
from dlild_client.contract.score import ZONES
from dlild_client.contract.tensors import ENGINE, TensorSpec
from dlild_client.errors import ServerError

MODEL = "dlild"
"""Name of the model that clients call."""


@dataclass(frozen=True)
class WindowRequest:
    """Request for one window of a scan.

    Attributes
    ----------
    sequence_id : str
        UUID of this attempt to send the scan.
    window : ndarray, shape (z, y, x)
        float16 HU.
    origin : tuple of int
        First voxel of the window in the box (z, y, x).
    box_shape : tuple of int
    index, count : int
        Index of this window, and the number of windows of the scan.
    voxel_volume_mm3 : float
    """

    sequence_id: str
    window: npt.NDArray[np.float16]
    origin: Shape
    box_shape: Shape
    index: int
    count: int
    voxel_volume_mm3: float

    def message(self) -> Any:
        """Protobuf `ModelInferRequest` of this window."""
        return self._message(start=self.index == 0, end=self.index == self.count - 1)

    def abort_request(self, shape: Shape) -> Any:
        """Protobuf request that aborts the scan: its first window, flagged as first and last.

        As the first, Triton accepts it even if it has already ended the sequence, after the last
        window. As one of two or more windows, it can never complete a score.

        Parameters
        ----------
        shape : tuple of int
            Of the smallest window that the server accepts: the network has to process it.
        """
        z, y, x = shape
        least = replace(self, window=self.window[:z, :y, :x], count=max(2, self.count))
        return least._message(start=True, end=True)

    def _message(self, *, start: bool, end: bool) -> Any:
        request = service_pb2.ModelInferRequest(model_name=MODEL, id=str(self.index))
        request.parameters["sequence_id"].string_param = self.sequence_id
        request.parameters["sequence_start"].bool_param = start
        request.parameters["sequence_end"].bool_param = end
        _add(request, tensors.WINDOW, self.window[None])
        _add(request, tensors.ORIGIN, self.origin)
        _add(request, tensors.BOX_SHAPE, self.box_shape)
        _add(request, tensors.WINDOW_INDEX, [self.index])
        _add(request, tensors.WINDOW_COUNT, [self.count])
        _add(request, tensors.VOXEL_VOLUME_MM3, [self.voxel_volume_mm3])
        return request


@dataclass(frozen=True)
class FinalAnswer:
    """Contents of the last answer.

    Attributes
    ----------
    dl_ild_percent : float
        NaN where there is no lung.
    class_volumes_ml : ndarray, shape (classes,)
    zone_volumes_ml : ndarray, shape (6, 2)
        Lung and lesion of the zones in the order of `ZONES`.
    class_certainty : ndarray, shape (classes,), or None
        Of each lesion class, the mean over its voxels of its share of all lesion classes; NaN where
        there is none. None from servers that do not report it.
    labels : ndarray, shape (z, y, x)
        uint8 label map of the box.
    """

    dl_ild_percent: float
    class_volumes_ml: npt.NDArray[np.float64]
    zone_volumes_ml: npt.NDArray[np.float64]
    class_certainty: npt.NDArray[np.float64] | None
    labels: npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Answer:
    """One answer: an acknowledgement, or the last one, which has `final`."""

    request_id: str
    model_version: str
    windows_received: int
    engine: str | None
    final: FinalAnswer | None


def parse_answer(response: Any) -> Answer:
    """Parse a protobuf `ModelInferResponse`.

    Raises
    ------
    ServerError
        An output is missing, or has another type or shape than `docs/wire.md` says.
    """
    outputs = {o.name: (o, i) for i, o in enumerate(response.outputs)}
    values = {
        spec.name: _tensor(response, outputs, spec)
        for spec in tensors.ANSWER
        if spec != tensors.CLASS_CERTAINTY or spec.name in outputs
    }
    certainty = values.get(tensors.CLASS_CERTAINTY.name)
    engine = _engine(response, outputs)
    score, labels = values["dl_ild_percent"], values["labels"]
    if values["windows_received"].shape != (1, 1):
        raise ServerError(
            f"windows_received has shape {values['windows_received'].shape}, not (1, 1)"
        )
    final = None
    if score.size:
        final = FinalAnswer(
            dl_ild_percent=float(score.reshape(-1)[0]),
            class_volumes_ml=values["class_volumes_ml"][0],
            zone_volumes_ml=values["zone_volumes_ml"][0],
            class_certainty=None if certainty is None else certainty[0],
            labels=labels[0],
        )
        if final.zone_volumes_ml.shape != (len(ZONES), 2) or score.shape != (1, 1):
            raise ServerError(
                f"the server's last answer has a score of shape {score.shape} and zones of shape "
                f"{final.zone_volumes_ml.shape}; server and client do not belong together"
            )
    received = int(values["windows_received"][0, 0])
    return Answer(response.id, response.model_version, received, engine, final)


def _add(request: Any, spec: TensorSpec, values: npt.ArrayLike) -> None:
    array = spec.array(values)
    request.inputs.add(name=spec.name, datatype=spec.datatype, shape=array.shape)
    request.raw_input_contents.append(array.tobytes())


def _tensor(
    response: Any, outputs: dict[str, tuple[Any, int]], spec: TensorSpec
) -> npt.NDArray[Any]:
    name, axes = spec.name, len(spec.shape) + 1
    if name not in outputs:
        raise ServerError(
            f"the server's answer lacks {name}; server and client do not belong together"
        )
    output, index = outputs[name]
    shape = tuple(output.shape)
    if output.datatype != spec.datatype or len(shape) != axes or shape[0] != 1 or min(shape) < 0:
        raise ServerError(
            f"the server's {name} is {output.datatype} {shape}; server and client do not belong "
            "together"
        )
    contents = response.raw_output_contents
    raw = contents[index] if index < len(contents) else b""
    if len(raw) != math.prod(shape) * spec.dtype.itemsize:
        raise ServerError(
            f"the server's {name} of shape {shape} carries {len(raw)} bytes; try again"
        )
    return np.frombuffer(raw, dtype=spec.dtype).reshape(shape)


def _engine(response: Any, outputs: dict[str, tuple[Any, int]]) -> str | None:
    """Decode the output `engine` (length, then text), which not every profile has."""
    if ENGINE.name not in outputs:
        return None
    index = outputs[ENGINE.name][1]
    raw = response.raw_output_contents[index] if index < len(response.raw_output_contents) else b""
    length = int.from_bytes(raw[:4], "little")
    return raw[4 : 4 + length].decode("utf-8", "replace") or None
