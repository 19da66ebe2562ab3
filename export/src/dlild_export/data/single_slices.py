"""Single axial CT slices without lesions as cases of a training: ordinary lung of many patients.

Public collections often hold one slice of a patient. Several of them, each repeated over the voxels
of a gap of sequential HRCT, make one case: the network sees each as it sees slices with gaps.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pydicom
from scipy import ndimage

from dlild_client.contract import Contract
from dlild_client.errors import NotChestError, UnreadableFileError
from dlild_client.preparation.grid import to_grid
from dlild_client.volume import AIR_HU, Volume
from dlild_export.data.threshold import (
    LUNG_BELOW_HU,
    Labels,
    Mask,
    closed_by_ball,
    enclosed_air,
)

REPEATS = 7
"""Voxels along z of each slice: 10.5 mm on a grid of 1.5 mm."""
SLICES_A_CASE = 8

_SMALLEST_LUNG_MM2 = 200.0
# Gas of the trachea and of the bowel is darker than lung, and its pieces are smaller than lungs.
_GAS_BELOW_HU = -940.0
_LARGEST_GAS_MM2 = 3500.0
# The hollow of a table has a thin shell, then air again.
_RIM_MM, _LEAST_TISSUE = 9.0, 0.6
_TISSUE_HU, _SOLID_HU = -300, -300
_CLOSING_MM, _LARGEST_HOLE_MM2, _LARGEST_VESSEL_MM2 = 6.0, 400.0, 150.0


def write_single_slices(slices: Sequence[Path], folder: Path, contract: Contract) -> Iterator[str]:
    """Write prepared cases of single slices that hold no lesion.

    Parameters
    ----------
    slices : sequence of pathlib.Path
        DICOM files, one axial CT slice each, of the chest or the abdomen.
    folder : pathlib.Path
        Where to; `slices-NN.npz`.
    contract : Contract
        Model grid.

    Yields
    ------
    str
        Name of a case that is on disk now.

    Raises
    ------
    UnreadableFileError
        A file is no CT slice with pixel spacing and rescale values.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for number, first in enumerate(range(0, len(slices), SLICES_A_CASE)):
        planes = [read_slice(path, contract) for path in slices[first : first + SLICES_A_CASE]]
        height, width = np.max([plane.shape for plane in planes], axis=0)
        hu = np.stack([_padded(plane, height, width, AIR_HU) for plane in planes])
        labels = np.stack([label_slice(plane, contract.grid.spacing_mm[1]) for plane in hu])
        name = f"slices-{number:02d}"
        about = {
            "name": name,
            "group": name,
            "spacing_mm": list(contract.grid.spacing_mm),
            "source": "single slices",
            "pattern": "none",
            "dl_ild_percent": 0.0,
        }
        np.savez_compressed(
            folder / f"{name}.npz",
            hu=hu.repeat(REPEATS, axis=0),
            labels=labels.repeat(REPEATS, axis=0),
            info=json.dumps(about),
        )
        yield name


def read_slice(path: Path, contract: Contract) -> npt.NDArray[np.int16]:
    """Read one slice, resampled in its plane to the model grid.

    Returns
    -------
    ndarray of int16, shape (y, x)
        HU.

    Raises
    ------
    UnreadableFileError
        It is no CT slice with pixel spacing and rescale values.
    """
    try:
        dataset = pydicom.dcmread(path)
        hu = dataset.pixel_array * float(dataset.RescaleSlope) + float(dataset.RescaleIntercept)
        y, x = (float(value) for value in dataset.PixelSpacing)
    except Exception as error:
        raise UnreadableFileError(
            f"{path.name}: no CT slice ({error}); give DICOM files of one slice each"
        ) from None
    thin = np.clip(np.rint(hu), contract.hu.minimum, contract.hu.maximum).astype(np.int16)
    # The plane alone counts: three of it are a volume that the client can resample.
    grid = to_grid(Volume(np.stack([thin] * 3), (2 * contract.grid.spacing_mm[0], y, x)), contract)
    planes = np.asarray(grid.array)
    plane: npt.NDArray[np.int16] = planes[len(planes) // 2]
    return plane


def label_slice(hu: npt.NDArray[np.integer], spacing_mm: float) -> Labels:
    """Label a slice without lesions: lung with its vessels, and what is none.

    Parameters
    ----------
    hu : ndarray of int, shape (y, x)
    spacing_mm : float
        Edge of a pixel.

    Returns
    -------
    ndarray of uint8, shape (y, x)
        1 for lung, 0 for what is none: gas of trachea and bowel, hila, and masses with it.

    Raises
    ------
    NotChestError
        The slice holds no body.
    """
    pixel_mm2 = spacing_mm**2
    lung, gas = np.zeros((2, *hu.shape), dtype=np.bool_)
    for piece in _pieces(enclosed_air(hu < LUNG_BELOW_HU)):
        inner = ndimage.binary_erosion(piece)
        area_mm2 = piece.sum() * pixel_mm2
        if area_mm2 < _SMALLEST_LUNG_MM2:
            continue
        if hu[inner if inner.any() else piece].mean() < _GAS_BELOW_HU and (
            area_mm2 < _LARGEST_GAS_MM2
        ):
            gas |= piece
        elif (hu[_near(piece, _RIM_MM / spacing_mm) & ~piece] > _TISSUE_HU).mean() > _LEAST_TISSUE:
            lung |= piece
    if not (lung | gas).any() and (hu > _TISSUE_HU).mean() < 0.05:
        raise NotChestError("a slice holds no body; give axial slices of the chest or the abdomen")
    closed = _without_holes(
        closed_by_ball(lung, _CLOSING_MM / spacing_mm), _LARGEST_HOLE_MM2 / pixel_mm2
    )
    for piece in _pieces(ndimage.binary_opening(closed & (hu > _SOLID_HU))):
        if piece.sum() * pixel_mm2 > _LARGEST_VESSEL_MM2:
            closed &= ~piece
    return (closed & ~_near(gas, 1.0)).astype(np.uint8)


def _padded(
    plane: npt.NDArray[np.int16], height: int, width: int, value: int
) -> npt.NDArray[np.int16]:
    y, x = plane.shape
    return np.pad(plane, ((0, height - y), (0, width - x)), constant_values=value)


def _pieces(mask: Mask) -> Iterator[Mask]:
    labels, count = ndimage.label(mask)
    for piece in range(1, count + 1):
        yield labels == piece


def _near(mask: Mask, radius: float) -> Mask:
    if not mask.any():
        return mask
    near: Mask = ndimage.distance_transform_edt(~mask) <= radius
    return near


def _without_holes(mask: Mask, largest: float) -> Mask:
    """Fill holes that are no larger than vessels; what is larger is heart or diaphragm."""
    filled = mask.copy()
    for piece in _pieces(ndimage.binary_fill_holes(mask) & ~mask):
        if piece.sum() <= largest:
            filled |= piece
    return filled
