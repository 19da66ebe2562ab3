"""Encoding of requests and decoding of responses, as specified in `docs/wire.md`."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from tritonclient.grpc import service_pb2

from dlild_client.errors import ServerError
from dlild_client.preparation.windows import Shape

MODEL = "dlild"
"""Name of the ensemble that clients call."""

ZONES = ("right_upper", "right_middle", "right_lower", "left_upper", "left_middle", "left_lower")
"""Zones in the order of the output `zone_volumes_ml`."""

_DTYPES = {"INT32": "<i4", "FP64": "<f8", "UINT8": "u1"}
_OUTPUTS = {
    "windows_received": ("INT32", 2),
    "dl_ild_percent": ("FP64", 2),
    "class_volumes_ml": ("FP64", 2),
    "zone_volumes_ml": ("FP64", 3),
    "labels": ("UINT8", 4),
}


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
        _add(request, "window", "FP16", self.window[None, None], "<f2")
        _add(request, "origin", "INT32", [self.origin], "<i4")
        _add(request, "box_shape", "INT32", [self.box_shape], "<i4")
        _add(request, "window_index", "INT32", [[self.index]], "<i4")
        _add(request, "window_count", "INT32", [[self.count]], "<i4")
        _add(request, "voxel_volume_mm3", "FP32", [[self.voxel_volume_mm3]], "<f4")
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
    labels : ndarray, shape (z, y, x)
        uint8 label map of the box.
    """

    dl_ild_percent: float
    class_volumes_ml: npt.NDArray[np.float64]
    zone_volumes_ml: npt.NDArray[np.float64]
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
    values = {name: _tensor(response, outputs, name) for name in _OUTPUTS}
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
            labels=labels[0],
        )
        if final.zone_volumes_ml.shape != (len(ZONES), 2) or score.shape != (1, 1):
            raise ServerError(
                f"the server's last answer has a score of shape {score.shape} and zones of shape "
                f"{final.zone_volumes_ml.shape}; server and client do not belong together"
            )
    received = int(values["windows_received"][0, 0])
    return Answer(response.id, response.model_version, received, engine, final)


def _add(request: Any, name: str, datatype: str, values: npt.ArrayLike, dtype: str) -> None:
    array = np.ascontiguousarray(values, dtype=dtype)
    request.inputs.add(name=name, datatype=datatype, shape=array.shape)
    request.raw_input_contents.append(array.tobytes())


def _tensor(response: Any, outputs: dict[str, tuple[Any, int]], name: str) -> npt.NDArray[Any]:
    if name not in outputs:
        raise ServerError(
            f"the server's answer lacks {name}; server and client do not belong together"
        )
    output, index = outputs[name]
    datatype, axes = _OUTPUTS[name]
    shape = tuple(output.shape)
    if output.datatype != datatype or len(shape) != axes or shape[0] != 1 or min(shape) < 0:
        raise ServerError(
            f"the server's {name} is {output.datatype} {shape}; server and client do not belong "
            "together"
        )
    contents = response.raw_output_contents
    raw = contents[index] if index < len(contents) else b""
    dtype = np.dtype(_DTYPES[datatype])
    if len(raw) != math.prod(shape) * dtype.itemsize:
        raise ServerError(
            f"the server's {name} of shape {shape} carries {len(raw)} bytes; try again"
        )
    return np.frombuffer(raw, dtype=dtype).reshape(shape)


def _engine(response: Any, outputs: dict[str, tuple[Any, int]]) -> str | None:
    """Decode the output `engine` (length, then text), which not every profile has."""
    if "engine" not in outputs:
        return None
    index = outputs["engine"][1]
    raw = response.raw_output_contents[index] if index < len(response.raw_output_contents) else b""
    length = int.from_bytes(raw[:4], "little")
    return raw[4 : 4 + length].decode("utf-8", "replace") or None
