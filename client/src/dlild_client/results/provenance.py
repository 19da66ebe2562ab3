"""Digests that tie a result to its scan, preprocessing and weights.

Each covers the one before it, so that whoever has the parts can compute them again
(`dlild verify`):

===============  ===================================================================================
`scan`           of the series' HU and steps: `SeriesInfo.digest`
`preprocessing`  of `scan`, the lung box in the grid, and its HU
`weights`        of the network: `ModelUsed.weights_digest`
`labels`         of the label map in the lung box; beyond it there are no labels
`result`         of the whole `result.json` but times, these four included
===============  ===================================================================================
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from dlild_client.contract import Contract
from dlild_client.contract.schema import Shape
from dlild_client.volume import Volume

NOT_COVERED = ("timings_s", "key", "digest")
"""Fields of a document that differ between runs of the same scan, name its file, or are its digest
(of a comparison)."""

UNKNOWN = ""


@dataclass(frozen=True)
class Provenance:
    """Digests of a result, ``sha256:…``; that of the result itself follows from its document.

    `hu_range` is that of the preprocessing: (minimum, maximum, padding).
    """

    scan: str
    preprocessing: str
    weights: str
    labels: str
    hu_range: tuple[int, int, int]


def trace(
    grid: Volume, labels: npt.NDArray[np.uint8], start: Shape, stop: Shape, contract: Contract
) -> Provenance:
    """Compute the digests of a result.

    Parameters
    ----------
    grid : Volume
        HU on the model grid.
    labels : ndarray of uint8
        Label map on it.
    start, stop : tuple of int
        Lung box, within the grid.
    contract : Contract
        Weights, and HU range of the preprocessing.

    Returns
    -------
    Provenance
    """
    scan, hu = grid.series.digest or UNKNOWN, contract.hu
    return Provenance(
        scan=scan,
        preprocessing=preprocessing_digest(scan, grid, start, stop),
        weights=f"sha256:{contract.model.weights_sha256}",
        labels=labels_digest(labels, start, stop),
        hu_range=(hu.minimum, hu.maximum, hu.padding),
    )


def preprocessing_digest(scan: str, grid: Volume, start: Shape, stop: Shape) -> str:
    """Digest of the HU of the lung box, and where it lies."""
    box = _box(start, stop)
    geometry = [*start, *stop, *grid.shape, *grid.spacing_mm, *np.round(grid.origin_mm, 3)]
    sha = hashlib.sha256(f"{scan}\n{[float(v) for v in geometry]}\n".encode())
    sha.update(np.ascontiguousarray(grid.array[box], dtype="<i2").data)
    return f"sha256:{sha.hexdigest()}"


def labels_digest(labels: npt.NDArray[np.generic], start: Shape, stop: Shape) -> str:
    """Digest of the label map in the lung box."""
    inside = np.ascontiguousarray(labels[_box(start, stop)], dtype=np.uint8)
    sha = hashlib.sha256(f"{inside.shape}\n".encode())
    sha.update(inside.data)
    return f"sha256:{sha.hexdigest()}"


def document_digest(document: Mapping[str, Any]) -> str:
    """Digest of `result.json` or `comparison.json`, without its times and its own digest."""
    covered = {key: value for key, value in document.items() if key not in NOT_COVERED}
    provenance = covered.get("provenance")
    if isinstance(provenance, Mapping):
        covered["provenance"] = {k: v for k, v in provenance.items() if k != "result"}
    text = json.dumps(covered, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def _box(start: Shape, stop: Shape) -> tuple[slice, ...]:
    return tuple(slice(a, b) for a, b in zip(start, stop, strict=True))
