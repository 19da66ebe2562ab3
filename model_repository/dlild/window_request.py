"""One request: every value is checked against docs/wire.md before anything is done."""

import math
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contract import tensors as wire
from contract.refusals import RefusedError
from contract.schema import Contract, Shape
from contract.windows import check_window


@dataclass(frozen=True)
class WindowMessage:
    """One window of a scan, checked.

    Attributes
    ----------
    window : ndarray of float16, shape (1, 1, z, y, x)
        HU; a copy, since the request's own memory is Triton's.
    origin : tuple of int
        First voxel of the window in the box (z, y, x).
    box_shape : tuple of int
        Shape of the box (z, y, x), in voxels.
    index, count : int
        Index of the window, and windows of the scan.
    voxel_volume_mm3 : float
        Volume of one voxel, in mm3.
    """

    window: NDArray[np.float16]
    origin: Shape
    box_shape: Shape
    index: int
    count: int
    voxel_volume_mm3: float

    @property
    def window_shape(self) -> Shape:
        """Shape of the window (z, y, x), in voxels."""
        _, _, z, y, x = self.window.shape
        return z, y, x


def read_scan_id(correlation_id: object) -> str:
    """Check the id of a scan.

    Parameters
    ----------
    correlation_id : object
        What Triton hands on: text, a number, or nothing.

    Returns
    -------
    str
        The id, safe to be logged.

    Raises
    ------
    RefusedError
        When there is none, or when it is text but no UUID: other text might name a patient, so
        the message does not repeat it.
    """
    if isinstance(correlation_id, int) and correlation_id > 0:  # load tools number their sequences
        return str(correlation_id)
    if not isinstance(correlation_id, str) or not correlation_id:
        raise RefusedError("the request has no sequence id; give each scan a fresh UUID")
    try:
        return str(uuid.UUID(correlation_id))
    except ValueError:
        raise RefusedError("the sequence id is not a UUID in text form") from None


def read_window(tensors: Mapping[str, NDArray[Any]], contract: Contract) -> WindowMessage:
    """Check the tensors of a request.

    Parameters
    ----------
    tensors : mapping of str to ndarray
        The inputs of docs/wire.md, all with a leading batch axis of 1.
    contract : Contract
        The shapes and limits to hold them to.

    Returns
    -------
    WindowMessage

    Raises
    ------
    RefusedError
        Naming the first tensor that breaks the rules, and its value.
    """
    window = _tensor(tensors, wire.WINDOW)
    shape = check_window(window, contract.windows, contract.hu)
    count = int(_tensor(tensors, wire.WINDOW_COUNT, (1,))[0, 0])
    if not 1 <= count <= contract.limits.windows:
        raise RefusedError(f"window_count is {count}, must be 1 to {contract.limits.windows}")
    index = int(_tensor(tensors, wire.WINDOW_INDEX, (1,))[0, 0])
    if not 0 <= index < count:
        raise RefusedError(f"window_index is {index}, must be 0 to {count - 1}")
    volume = float(_tensor(tensors, wire.VOXEL_VOLUME_MM3, (1,))[0, 0])
    if not (math.isfinite(volume) and volume > 0):
        raise RefusedError(f"voxel_volume_mm3 is {volume}, must be a positive number")
    box_shape = _triple(tensors, wire.BOX_SHAPE)
    _check_box(box_shape, shape, contract)
    origin = _triple(tensors, wire.ORIGIN)
    if any(o < 0 or o + w > b for o, w, b in zip(origin, shape, box_shape, strict=True)):
        raise RefusedError(
            f"origin {origin} puts a window of {shape} outside the box of {box_shape}"
        )
    return WindowMessage(window.copy(), origin, box_shape, index, count, volume)


def _tensor(
    tensors: Mapping[str, NDArray[Any]],
    spec: wire.TensorSpec,
    shape: tuple[int, ...] | None = None,
) -> NDArray[Any]:
    tensor = tensors.get(spec.name)
    if tensor is None:
        raise RefusedError(f"{spec.name} is missing")
    if tensor.dtype != spec.dtype:
        raise RefusedError(f"{spec.name} is {tensor.dtype}, must be {spec.dtype}")
    if shape is not None and tensor.shape != (1, *shape):
        raise RefusedError(f"{spec.name} has shape {tensor.shape}, must be {(1, *shape)}")
    return tensor


def _triple(tensors: Mapping[str, NDArray[Any]], spec: wire.TensorSpec) -> Shape:
    z, y, x = (int(value) for value in _tensor(tensors, spec, (3,))[0])
    return z, y, x


def _check_box(box_shape: Shape, window_shape: Shape, contract: Contract) -> None:
    if any(b < w for b, w in zip(box_shape, window_shape, strict=True)):
        raise RefusedError(f"box_shape {box_shape} is smaller than the window {window_shape}")
    voxels, most = math.prod(box_shape), contract.limits.box_voxels
    if voxels > most:
        raise RefusedError(f"box_shape {box_shape} holds {voxels} voxels, the limit is {most}")
