"""Fine lung texture in periodic cubes: cysts with walls, nets of septa, bullae, emphysema.

Real fibrosis is finer than the model grid: walls of 0.7 mm, cysts from 2 mm on. So it is made on
voxels of half a millimetre, once for many phantoms, in cubes that continue into themselves on every
side. A patient's lung is cut out of them, turned and stretched (`phantom.lesions.layers`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import ndimage
from scipy.spatial import cKDTree

from dlild_export.phantom.fields import Array

TILE_MM = 0.45
TILE_VOXELS = 128
VARIANTS = 3
"""Cubes of each kind; each is met in 48 positions and many sizes."""

_SHARP = 0.5 * TILE_MM


@dataclass(frozen=True)
class Tile:
    """A periodic cube of fine texture.

    Attributes
    ----------
    tissue, lumen : ndarray of float32, shape (n, n, n)
        Share of each voxel that is tissue, and that is air of a cyst; the rest is lung.
    spacing_mm : float
        Edge of a voxel.
    """

    tissue: Array
    lumen: Array
    spacing_mm: float


@dataclass(frozen=True)
class Cysts:
    """What cysts look like.

    Attributes
    ----------
    diameter_mm, spread : float
        Geometric mean, and standard deviation of the logarithm.
    largest_mm : float
    share : float
        Of the volume that is within cysts.
    wall_mm, wall_spread : float
        Median thickness of a wall between two cysts, and standard deviation of its logarithm.
    packing : float
        How near two cysts may come, in sums of their radii.
    """

    diameter_mm: float
    spread: float
    largest_mm: float
    share: float
    wall_mm: float
    wall_spread: float = 0.4
    packing: float = 0.8


@lru_cache(maxsize=16)
def tile(kind: str, variant: int) -> Tile:
    """Return a cube of a library that is the same on every machine.

    Parameters
    ----------
    kind : {'honeycomb', 'septa', 'paraseptal', 'centrilobular'}
    variant : int
        0 to `VARIANTS` - 1.

    Returns
    -------
    Tile
    """
    rng = np.random.default_rng([sum(map(ord, kind)), variant, 17])
    if kind == "septa":
        return septal_tile(rng, voxels=TILE_VOXELS)
    return cystic_tile(_KINDS[kind][variant % len(_KINDS[kind])], rng, voxels=TILE_VOXELS)


_KINDS = {
    # In slices these measure 3.8 mm and less; some patients have larger cysts, some smaller.
    "honeycomb": (
        Cysts(4.5, 0.37, 15, 0.56, 0.50),
        Cysts(4.8, 0.37, 20, 0.57, 0.51),
        Cysts(4.0, 0.36, 12, 0.52, 0.44),
    ),
    "paraseptal": (
        Cysts(8.0, 0.40, 26, 0.62, 0.30),
        Cysts(11.0, 0.30, 28, 0.60, 0.25),
        Cysts(6.0, 0.40, 20, 0.60, 0.35),
    ),
    "centrilobular": (
        Cysts(3.5, 0.40, 10, 0.25, 0.0, 0.4, 1.1),
        Cysts(5.0, 0.40, 14, 0.30, 0.0, 0.4, 1.0),
        Cysts(2.8, 0.35, 8, 0.20, 0.0, 0.4, 1.1),
    ),
}


def cystic_tile(
    cysts: Cysts,
    rng: np.random.Generator,
    *,
    voxels: int = TILE_VOXELS,
    spacing_mm: float = TILE_MM,
) -> Tile:
    """Pack cysts into a periodic cube.

    Parameters
    ----------
    cysts : Cysts
        Their sizes and walls.
    rng : numpy.random.Generator
        Source of randomness.
    voxels : int
        Along an edge.
    spacing_mm : float
        Edge of a voxel.

    Returns
    -------
    Tile
    """
    edge_mm = voxels * spacing_mm
    radii = _draw_radii(cysts, edge_mm, rng)
    centres, radii = _pack(radii, edge_mm, cysts.packing, rng)
    nearest = np.full((voxels,) * 3, 9.0, np.float32)
    second = nearest.copy()
    wall = np.zeros_like(nearest)
    thickness = cysts.wall_mm * np.exp(cysts.wall_spread * rng.standard_normal(len(radii)))
    thickness = np.clip(thickness, 0.3 * (cysts.wall_mm > 0), 1.6)
    for centre, radius, thick in zip(centres, radii, thickness, strict=True):
        _stamp(nearest, second, wall, centre, radius, thick, spacing_mm, rng)
    # Where two cysts meet, the wall lies on the sheet that is equally far from both.
    to_wall = np.minimum(-nearest, 0.5 * (second - nearest))
    half = 0.5 * wall
    lumen = np.clip((to_wall - half) / _SHARP + 0.5, 0, 1)
    near = np.clip((half - nearest) / _SHARP + 0.5, 0, 1)
    tissue = (near - lumen) * (wall > 0)
    return Tile(np.clip(tissue, 0, 1).astype(np.float32), lumen.astype(np.float32), spacing_mm)


def _draw_radii(cysts: Cysts, edge_mm: float, rng: np.random.Generator) -> np.ndarray:
    """Draw radii, largest first, until they fill their share."""
    wanted = cysts.share * edge_mm**3
    drawn = cysts.diameter_mm * np.exp(cysts.spread * rng.standard_normal(20_000))
    drawn = drawn[(drawn > 1.6) & (drawn < cysts.largest_mm)] / 2
    volume = np.cumsum(4 / 3 * np.pi * drawn**3)
    chosen = drawn[: int(np.searchsorted(volume, wanted)) + 1]
    return np.sort(chosen)[::-1]


def _pack(
    radii: np.ndarray, edge_mm: float, packing: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Find a position for each ball; those without one are left out."""
    centres = np.empty((len(radii), 3))
    kept = np.empty(len(radii))
    count = 0
    for radius in radii:
        tries = rng.uniform(0, edge_mm, (40, 3))
        away = tries[:, None] - centres[None, :count]
        away -= edge_mm * np.rint(away / edge_mm)
        gap = np.sqrt((away**2).sum(axis=2)) - packing * (radius + kept[:count])
        tightest = gap.min(axis=1, initial=9.0)
        free = tightest > 0
        if free.any():
            # The tightest of the free positions: cysts lie in heaps.
            best = int(np.argmin(np.where(free, tightest, np.inf)))
            centres[count], kept[count] = tries[best], radius
            count += 1
    return centres[:count], kept[:count]


def _stamp(
    nearest: Array,
    second: Array,
    wall: Array,
    centre: np.ndarray,
    radius: float,
    thick: float,
    spacing_mm: float,
    rng: np.random.Generator,
) -> None:
    """Enter the distance to one ellipsoid, whose axes differ by 1.5, into the cube."""
    n = nearest.shape[0]
    stretch = np.array([1.0, 1.0, 1.5])[rng.permutation(3)]
    stretch = stretch / stretch.prod() ** (1 / 3)
    turn = np.linalg.qr(rng.standard_normal((3, 3)))[0]
    matrix = (turn / stretch) @ turn.T
    reach = int(np.ceil((radius * 1.4 + 1.6) / spacing_mm))
    first = np.floor(centre / spacing_mm).astype(int) - reach
    index = [(np.arange(2 * reach + 1) + f) for f in first]
    away = [
        ((i * spacing_mm - c).astype(np.float32)).reshape([-1 if a == b else 1 for b in range(3)])
        for a, (i, c) in enumerate(zip(index, centre, strict=True))
    ]
    squared: Array = np.zeros((1, 1, 1), np.float32)
    for row in matrix:
        squared = squared + (row[0] * away[0] + row[1] * away[1] + row[2] * away[2]) ** 2
    distance = (np.sqrt(squared) - radius).astype(np.float32)
    box = np.ix_(*(i % n for i in index))
    before = nearest[box]
    closer = distance < before
    second[box] = np.where(closer, before, np.minimum(second[box], distance))
    wall[box] = np.where(closer, np.float32(thick), wall[box])
    nearest[box] = np.minimum(before, distance)


def septal_tile(
    rng: np.random.Generator,
    *,
    voxels: int = TILE_VOXELS,
    spacing_mm: float = TILE_MM,
    cell_mm: float | None = None,
) -> Tile:
    """Make a net of thickened septa, and finer lines within its meshes.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of randomness.
    voxels : int
        Along an edge.
    spacing_mm : float
        Edge of a voxel.
    cell_mm : float, optional
        Size of a mesh; drawn when left out.

    Returns
    -------
    Tile
        Without lumens.
    """
    edge_mm = voxels * spacing_mm
    coarse = rng.uniform(6.5, 8.9) if cell_mm is None else cell_mm
    tissue = _net(edge_mm, voxels, coarse, 0.21, 0.85, rng)
    fine = _net(edge_mm, voxels, 0.5 * coarse, 0.05, 1.0, rng)
    tissue = np.clip(np.maximum(tissue, fine), 0, 1).astype(np.float32)
    return Tile(tissue, np.zeros_like(tissue), spacing_mm)


def _net(
    edge_mm: float,
    voxels: int,
    cell_mm: float,
    median_mm: float,
    spread: float,
    rng: np.random.Generator,
) -> Array:
    """Walls of a periodic Voronoi diagram, each of its own thickness, many too thin to be seen."""
    seeds = rng.uniform(0, edge_mm, (max(8, int((edge_mm / cell_mm) ** 3)), 3))
    spacing = edge_mm / voxels
    axis = np.arange(voxels) * spacing
    grid = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).reshape(-1, 3)
    bend = [_wave(voxels, rng) * 0.12 * cell_mm for _ in range(3)]
    grid += np.stack([b.reshape(-1) for b in bend], axis=-1)
    distance, index = cKDTree(seeds, boxsize=edge_mm).query(grid % edge_mm, k=2)
    apart = seeds[index[:, 0]] - seeds[index[:, 1]]
    apart -= edge_mm * np.rint(apart / edge_mm)
    length = np.sqrt((apart**2).sum(axis=1))
    to_sheet = 0.5 * (distance[:, 1] ** 2 - distance[:, 0] ** 2) / length
    low, high = index.min(axis=1), index.max(axis=1)
    draws = np.random.default_rng(rng.integers(2**31)).standard_normal(65_521)
    own = draws[(low * 7919 + high * 104_729) % len(draws)]
    half = 0.5 * median_mm * np.exp(spread * own)
    sharp = 0.5 * spacing
    share = np.clip((np.clip(half, 0, 0.8) - to_sheet) / sharp + 0.5, 0, 1)
    # A sheet thinner than a voxel fills only its share of it.
    share *= np.clip(2 * half / spacing, 0, 1)
    net: Array = share.reshape((voxels,) * 3).astype(np.float32)
    return net


def _wave(voxels: int, rng: np.random.Generator) -> Array:
    """Smooth periodic noise of unit variance."""
    coarse = ndimage.gaussian_filter(
        rng.standard_normal((voxels,) * 3, np.float32), 6.0, mode="wrap"
    )
    wave: Array = coarse / coarse.std()
    return wave
