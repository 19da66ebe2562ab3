"""Layers of fine texture over a patient's lung: where they lie, and what a scan shows of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from dlild_export.phantom.fields import Array, Mask, smooth_noise
from dlild_export.phantom.optics import Optics, scanned
from dlild_export.phantom.tiles import VARIANTS, Tile, tile

TISSUE_HU = 40.0


@dataclass(frozen=True)
class Layer:
    """One texture in one patient.

    Attributes
    ----------
    kind : str
        Of the cube, as `tile` knows them.
    variant : int
    axes : tuple of int
        Order in which the cube's axes lie along z, y, x.
    turn : float
        Angle about z, radians.
    scale : float
        By which the cube is enlarged.
    offset_mm : tuple of float
        Where the cube begins.
    weight : ndarray of float32, shape (z, y, x)
        0 … 1: where the texture lies, on the patient's voxels.
    strength : float
        Of the tissue.
    lumen_hu : float
        Of the air in cysts.
    bend : ndarray of float16, shape (3, z, y, x)
        How far the texture is bent, mm, so that it does not repeat itself.
    """

    kind: str
    variant: int
    axes: tuple[int, int, int]
    turn: float
    scale: float
    offset_mm: tuple[float, float, float]
    weight: Array
    strength: float
    lumen_hu: float
    bend: npt.NDArray[np.float16]

    def cube(self) -> Tile:
        """Return the cube as it lies in the patient."""
        plain = tile(self.kind, self.variant)
        return Tile(
            plain.tissue.transpose(self.axes), plain.lumen.transpose(self.axes), plain.spacing_mm
        )


def draw_layer(
    kind: str,
    weight: Array,
    spacing_mm: float,
    rng: np.random.Generator,
    *,
    strength: float = 1.0,
    lumen_hu: float = -985.0,
    scale: tuple[float, float] = (0.85, 1.2),
) -> Layer:
    """Lay a texture over a patient, in a position of its own.

    Parameters
    ----------
    kind : str
        Of the cube.
    weight : ndarray of float32, shape (z, y, x)
        Where, on the patient's voxels.
    spacing_mm : float
        Edge of these.
    rng : numpy.random.Generator
        Source of randomness.
    strength, lumen_hu
        As in `Layer`.
    scale : tuple of float
        Range of the enlargement.

    Returns
    -------
    Layer
    """
    z, y, x = weight.shape
    bend = np.stack(
        [1.3 * smooth_noise((z, y, x), 24.0 / spacing_mm, rng) for _ in range(3)]
    ).astype(np.float16)
    axes = rng.permutation(3)
    return Layer(
        kind=kind,
        variant=int(rng.integers(VARIANTS)),
        axes=(int(axes[0]), int(axes[1]), int(axes[2])),
        turn=float(rng.uniform(0, 2 * np.pi)),
        scale=float(rng.uniform(*scale)),
        offset_mm=tuple(rng.uniform(0, 60, 3).tolist()),
        weight=weight,
        strength=strength,
        lumen_hu=lumen_hu,
        bend=bend,
    )


@dataclass(frozen=True)
class SampleGrid:
    """Points of a scan, in voxels of the patient.

    Attributes
    ----------
    z, y, x : ndarray of float
        Along each axis.
    spacing_mm : float
        Edge of the patient's voxels.
    """

    z: np.ndarray
    y: np.ndarray
    x: np.ndarray
    spacing_mm: float

    @property
    def shape(self) -> tuple[int, int, int]:
        """Slices, rows, columns."""
        return len(self.z), len(self.y), len(self.x)

    def of(self, field: Array, *, order: int = 1) -> Array:
        """Return a field of the patient at these points."""
        taken = _along(field, 0, self.z, order)
        return _along(_along(taken, 1, self.y, order), 2, self.x, order)


def _along(field: Array, axis: int, at: np.ndarray, order: int) -> Array:
    size = field.shape[axis]
    at = np.clip(at, 0, size - 1)
    if np.array_equal(at, np.arange(size)):
        return field
    if order == 0:
        nearest: Array = np.take(field, np.rint(at).astype(np.intp), axis)
        return nearest
    low = np.minimum(at.astype(np.intp), size - 2)
    part = (at - low).astype(np.float32).reshape([-1 if a == axis else 1 for a in range(3)])
    below, above = np.take(field, low, axis), np.take(field, low + 1, axis)
    between: Array = below + part * (above - below)
    return between


def show_layer(
    hu: Array, lung_hu: Array, layer: Layer, sampling: SampleGrid, optics: Optics
) -> None:
    """Paint a layer into a scan, in place.

    Parameters
    ----------
    hu : ndarray of float32, shape `sampling.shape`
        The scan so far.
    lung_hu : ndarray of float32, shape `sampling.shape`
        Lung between vessels, which the texture replaces.
    layer : Layer
    sampling : SampleGrid
        Of the scan.
    optics : Optics
    """
    weight = sampling.of(layer.weight)
    inside: Mask = weight > 0.01
    where = np.nonzero(inside)
    if not len(where[0]):
        return
    cube = layer.cube()
    tissue, lumen = scanned(cube, optics, layer.scale)
    at = _in_cube(layer, where, sampling, cube)
    own = lung_hu[inside]
    change = layer.strength * (TISSUE_HU - own) * _look_up(tissue, at)
    if layer.cube().lumen.any():
        change += (layer.lumen_hu - own) * _look_up(lumen, at)
    # Vessels run through a lesion as they were.
    share = np.clip((TISSUE_HU - hu[inside]) / np.maximum(TISSUE_HU - own, 1), 0, 1)
    hu[inside] += weight[inside] * change * share


def _look_up(cube: Array, at: np.ndarray) -> Array:
    values: Array = ndimage.map_coordinates(cube, at, order=1, mode="grid-wrap")
    return values


def _in_cube(
    layer: Layer, where: tuple[np.ndarray, ...], sampling: SampleGrid, cube: Tile
) -> np.ndarray:
    """Where points of a scan lie in the cube, in its voxels, shape (3, n)."""
    points = [axis[i] for axis, i in zip((sampling.z, sampling.y, sampling.x), where, strict=True)]
    size = np.array(layer.weight.shape) - 1
    near = tuple(
        np.clip(np.rint(p), 0, n).astype(np.intp) for p, n in zip(points, size, strict=True)
    )
    z, y, x = (p * sampling.spacing_mm + layer.bend[i][near] for i, p in enumerate(points))
    cosine, sine = np.cos(layer.turn), np.sin(layer.turn)
    turned = np.stack([z, cosine * y - sine * x, sine * y + cosine * x])
    offset = np.array(layer.offset_mm)[:, None]
    at: np.ndarray = turned / (layer.scale * cube.spacing_mm) + offset
    return at
