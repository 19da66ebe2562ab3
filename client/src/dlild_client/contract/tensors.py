"""Tensors on the wire, as docs/wire.md lists them: names, types and shapes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FREE = -1
"""An axis of any length."""

_NUMPY_TYPES = {
    "FP16": "<f2",
    "FP32": "<f4",
    "FP64": "<f8",
    "INT16": "<i2",
    "INT32": "<i4",
    "UINT8": "u1",
    "STRING": "O",
}


@dataclass(frozen=True)
class TensorSpec:
    """One tensor.

    Attributes
    ----------
    name : str
    datatype : str
        Triton's name of the type.
    shape : tuple of int
        Without the leading batch axis, which is always 1; `FREE` where any length is right.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """Type of numpy, in the byte order of the wire."""
        return np.dtype(_NUMPY_TYPES[self.datatype])

    def array(self, values: npt.ArrayLike) -> npt.NDArray[np.generic]:
        """Return values as this tensor, contiguous, with the batch axis added."""
        return np.ascontiguousarray(values, dtype=self.dtype)[None]

    def empty(self) -> npt.NDArray[np.generic]:
        """Return the tensor with no elements on its free axes: what an acknowledgement carries."""
        return np.empty((1, *(0 if n == FREE else n for n in self.shape)), dtype=self.dtype)


WINDOW = TensorSpec("window", "FP16", (1, FREE, FREE, FREE))
ORIGIN = TensorSpec("origin", "INT32", (3,))
BOX_SHAPE = TensorSpec("box_shape", "INT32", (3,))
WINDOW_INDEX = TensorSpec("window_index", "INT32", (1,))
WINDOW_COUNT = TensorSpec("window_count", "INT32", (1,))
VOXEL_VOLUME_MM3 = TensorSpec("voxel_volume_mm3", "FP32", (1,))
REQUEST = (WINDOW, ORIGIN, BOX_SHAPE, WINDOW_INDEX, WINDOW_COUNT, VOXEL_VOLUME_MM3)
"""Inputs of `dlild`: one window of a scan."""

VOLUME = TensorSpec("volume", "INT16", (FREE, FREE, FREE))
VOLUME_REQUEST = (VOLUME, VOXEL_VOLUME_MM3)
"""Inputs of `dlild_volume`: a whole scan."""

WINDOWS_RECEIVED = TensorSpec("windows_received", "INT32", (1,))
DL_ILD_PERCENT = TensorSpec("dl_ild_percent", "FP64", (FREE,))
CLASS_VOLUMES_ML = TensorSpec("class_volumes_ml", "FP64", (FREE,))
ZONE_VOLUMES_ML = TensorSpec("zone_volumes_ml", "FP64", (FREE, 2))
CLASS_CERTAINTY = TensorSpec("class_certainty", "FP64", (FREE,))
LABELS = TensorSpec("labels", "UINT8", (FREE, FREE, FREE))
SCORE = (DL_ILD_PERCENT, CLASS_VOLUMES_ML, ZONE_VOLUMES_ML, CLASS_CERTAINTY, LABELS)
"""Outputs that are empty in an acknowledgement."""
ANSWER = (WINDOWS_RECEIVED, *SCORE)
"""Outputs of `dlild`."""

ENGINE = TensorSpec("engine", "STRING", (1,))
"""Output of `dlild` in the embedded profile only."""


def probabilities(classes: int) -> TensorSpec:
    """Output of the network."""
    return TensorSpec("probabilities", "FP16", (classes, FREE, FREE, FREE))
