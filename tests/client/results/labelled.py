"""Results whose label map is known everywhere in the patient, without a server."""

from __future__ import annotations

from typing import Any

import numpy as np

from dlild_client.contract import Contract
from dlild_client.contract.score import (
    SLICE_LUNG_MM2,
    ZONES,
    count_labels,
    dl_ild_percent,
    lesion_and_lung,
    zone_counts,
)
from dlild_client.preparation.grid import to_grid
from dlild_client.results.densitometry import measure_density
from dlild_client.results.provenance import trace
from dlild_client.results.result import ClassVolume, GridInfo, ModelUsed, Result, ZoneVolume
from dlild_client.volume import Volume


def label_at(points: np.ndarray, centre: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Two ellipsoids of lung, with lesions in bands and corners; no axis is like another.

    Parameters
    ----------
    points : ndarray, shape (..., 3)
        Patient coordinates in mm.
    centre, size : ndarray, shape (3,)
        Of the scan, in mm.
    """
    x, y, z = np.moveaxis((points - centre) / (size / 2), -1, 0)
    out = np.zeros(x.shape, np.uint8)
    for side, height in ((-1, 0.8), (1, 0.7)):
        lung = (z / height) ** 2 + (y / 0.6) ** 2 + ((x - side * 0.45) / 0.38) ** 2 < 1
        out[lung] = 1
        out[lung & (z < -0.3)] = 2
        out[lung & (z < -0.3) & (y > 0.1)] = 3
        out[lung & (z > 0.4) & (x * side > 0.5)] = 4
    out[(out == 1) & (x > 0) & (y < -0.3)] = 5
    return out


def labelled_result(volume: Volume, contract: Contract) -> Result:
    """The result of a scan whose label map is `label_at` on the model grid."""
    grid = to_grid(volume, contract)
    indices = np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), axis=-1)
    middle = grid.points_mm((np.array(grid.shape) - 1) / 2)
    size = np.array(grid.shape[::-1]) * np.array(grid.spacing_mm[::-1])
    labels = label_at(grid.points_mm(indices), middle, size)
    return result_of(grid.with_array(labels), grid, contract)


def result_of(labels: Volume, grid: Volume, contract: Contract, **changes: Any) -> Result:
    """The result that belongs to a label map."""
    ml = contract.grid.voxel_volume_mm3 / 1000
    volumes = count_labels(labels.array, contract.classes) * ml
    lesion, lung = map(float, lesion_and_lung(volumes, contract.classes))
    columns = [
        np.isin(labels.array, kinds).sum(axis=1, dtype=np.int32)
        for kinds in (contract.lung_labels, contract.lesion_labels)
    ]
    zones = zone_counts(columns[0], columns[1], SLICE_LUNG_MM2 / 2.25) * ml
    model = contract.model
    fields: dict[str, Any] = {
        "dl_ild_percent": dl_ild_percent(lesion, lung),
        "lung_volume_ml": lung,
        "lesion_volume_ml": lesion,
        "classes": {
            c.name: ClassVolume(c.label, volumes[c.label], 100 * volumes[c.label] / lung, 0.75)
            for c in contract.classes
            if c.lung
        },
        "zones": {
            name: ZoneVolume(float(a), float(b)) for name, (a, b) in zip(ZONES, zones, strict=True)
        },
        "windows": 1,
        "grid": GridInfo(grid.spacing_mm, grid.shape, (0, 0, 0), grid.shape),
        "model": ModelUsed(
            model.name, model.version, f"sha256:{model.weights_sha256}", "embedded", "e", "fp32"
        ),
        "series": grid.series,
        "timings_s": {"total": 1.0},
        "flags": grid.flags,
        "labels": labels,
        "image": grid,
        "contract": contract,
    }
    fields["provenance"] = trace(grid, labels.array, (0, 0, 0), grid.shape, contract)
    fields["densitometry"] = measure_density(grid, labels, contract)
    return Result(**(fields | changes))
