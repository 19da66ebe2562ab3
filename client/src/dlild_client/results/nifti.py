"""Writes a volume as NIfTI-1.

Not through SimpleITK, which crashes on a path that is not UTF-8.

References
----------
.. [1] The NIfTI-1 data format, nifti1.h, https://nifti.nimh.nih.gov/nifti-1
.. [2] I. Y. Bar-Itzhack, New method for extracting the quaternion from a rotation matrix, Journal
   of Guidance, Control, and Dynamics 23 (2000) 1085-1087.
"""

from __future__ import annotations

import gzip
import struct
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
import numpy.typing as npt

from dlild_client.volume import Volume

_TYPES = {
    "u1": 2, "i2": 4, "i4": 8, "f4": 16, "f8": 64, "i1": 256, "u2": 512, "u4": 768, "i8": 1024,
    "u8": 1280,
}  # fmt: skip
_MM = 2
_SCANNER = 1
_VOXELS_AT = 352
_CHUNK = 1 << 24

Array = npt.NDArray[np.float64]


def write_nifti(volume: Volume, path: Path) -> None:
    """Write a volume with its geometry.

    Parameters
    ----------
    volume : Volume
        Oblique axes (a shear) are written as `sform` only.
    path : Path
        `.nii`, or compressed where it ends in `.gz`.

    Raises
    ------
    OSError
        The file cannot be written.
    """
    stored = np.ascontiguousarray(volume.array)
    stored = stored.astype(stored.dtype.newbyteorder("<"), copy=False)
    with path.open("wb") as file:
        if path.name.lower().endswith(".gz"):
            # Without name and time in the gzip header: identical volumes give identical files.
            with gzip.GzipFile("", "wb", 6, file, mtime=0) as packed:
                _write(cast(BinaryIO, packed), volume, stored)
        else:
            _write(file, volume, stored)


def _write(file: BinaryIO, volume: Volume, stored: npt.NDArray[np.generic]) -> None:
    file.write(_header(volume, stored.dtype))
    voxels = stored.reshape(-1).view(np.uint8).data
    for start in range(0, len(voxels), _CHUNK):
        file.write(voxels[start : start + _CHUNK])


def _header(volume: Volume, dtype: np.dtype[np.generic]) -> bytes:
    """Header, and four bytes for no extension."""
    head = bytearray(_VOXELS_AT)
    z, y, x = volume.shape
    spacing = np.array(volume.spacing_mm[::-1])
    # Columns are the axes x, y, z; RAS+: x increases to the right, y to the front.
    to_ras = np.array([[-1.0], [-1.0], [1.0]])
    rotation = np.asarray(volume.direction)[:, ::-1] * to_ras
    origin = np.array(volume.origin_mm) * to_ras[:, 0]
    quaternion = _quaternion(rotation)
    handedness = -1.0 if np.linalg.det(rotation) < 0 else 1.0
    struct.pack_into("<i", head, 0, 348)
    struct.pack_into("<8h", head, 40, 3, x, y, z, 1, 1, 1, 1)
    struct.pack_into("<2h", head, 70, _TYPES[dtype.str[1:]], 8 * dtype.itemsize)
    struct.pack_into("<8f", head, 76, handedness, *spacing, 0, 0, 0, 0)
    struct.pack_into("<3f", head, 108, _VOXELS_AT, 1, 0)
    head[123] = _MM
    struct.pack_into("<2h", head, 252, _SCANNER if quaternion is not None else 0, _SCANNER)
    if quaternion is not None:
        struct.pack_into("<6f", head, 256, *quaternion, *origin)
    affine = np.column_stack([rotation * spacing, origin])
    struct.pack_into("<12f", head, 280, *affine.ravel())
    head[344:348] = b"n+1\0"
    return bytes(head)


def _quaternion(rotation: Array) -> Array | None:
    """Quaternion (b, c, d) of a rotation, also with reversed third axis; None for a shear.

    The eigenvector of the largest eigenvalue of a symmetric matrix, by [2]_; with a >= 0.
    """
    if np.abs(rotation.T @ rotation - np.eye(3)).max() > 1e-4:
        return None
    m = rotation.copy()
    if np.linalg.det(m) < 0:
        m[:, 2] *= -1
    k = np.array(
        [
            [m[0, 0] - m[1, 1] - m[2, 2], 0, 0, 0],
            [m[0, 1] + m[1, 0], m[1, 1] - m[0, 0] - m[2, 2], 0, 0],
            [m[0, 2] + m[2, 0], m[1, 2] + m[2, 1], m[2, 2] - m[0, 0] - m[1, 1], 0],
            [m[2, 1] - m[1, 2], m[0, 2] - m[2, 0], m[1, 0] - m[0, 1], m.trace()],
        ]
    )
    # eigh uses the lower triangle only.
    b, c, d, a = np.linalg.eigh(k)[1][:, -1]
    return np.array([b, c, d]) * (1.0 if a >= 0 else -1.0)
