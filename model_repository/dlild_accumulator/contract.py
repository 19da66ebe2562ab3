"""The part of the contract that the accumulator lives by."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

SCHEMA_VERSION = 1

Shape = tuple[int, int, int]


@dataclass(frozen=True)
class WindowBounds:
    """Which window shapes are accepted.

    Attributes
    ----------
    multiple : int
        Every edge is a multiple of this.
    minimum, maximum : tuple of int
        Shortest and longest edges (z, y, x), in voxels.
    maximum_voxels : int
        Most voxels of a window.
    """

    multiple: int
    minimum: Shape
    maximum: Shape
    maximum_voxels: int

    @classmethod
    def from_fields(cls, raw: Mapping[str, Any]) -> "WindowBounds":
        """Read the contract's ``windows``."""
        (d, h, w), (deepest, highest, widest) = raw["minimum"], raw["maximum"]
        return cls(
            int(raw["multiple"]),
            (int(d), int(h), int(w)),
            (int(deepest), int(highest), int(widest)),
            int(raw["maximum_voxels"]),
        )

    def take(self, shape: Shape) -> bool:
        """Tell whether a window may have this shape (z, y, x)."""
        edges = zip(self.minimum, shape, self.maximum, strict=True)
        return (
            all(low <= n <= high and n % self.multiple == 0 for low, n, high in edges)
            and math.prod(shape) <= self.maximum_voxels
        )

    def __str__(self) -> str:
        """Return the rule in words, for refusals."""
        return (
            f"multiples of {self.multiple} from {self.minimum} to {self.maximum}, "
            f"at most {self.maximum_voxels} voxels"
        )


@dataclass(frozen=True)
class Contract:
    """What the accumulator needs of ``contract.json``.

    Attributes
    ----------
    spacing_mm : tuple of float
        Voxel spacing of the grid (z, y, x), in mm.
    windows_taken : WindowBounds
        Which window shapes are accepted.
    lung, lesion : tuple of bool
        For each class, in label order, whether it counts as lung and as lesion.
    box_voxels : int
        Most voxels of a box.
    windows : int
        Most windows of a scan.
    open_scans : int
        Most scans open at once.
    open_bytes : int
        Most bytes held by open scans together.
    scan_idle_s : float
        Seconds of silence after which a scan is dropped.
    """

    spacing_mm: tuple[float, float, float]
    windows_taken: WindowBounds
    lung: tuple[bool, ...]
    lesion: tuple[bool, ...]
    box_voxels: int
    windows: int
    open_scans: int
    open_bytes: int
    scan_idle_s: float

    @classmethod
    def from_json(cls, text: str) -> "Contract":
        """Read the contract from the text that a model's configuration carries.

        Parameters
        ----------
        text : str
            ``contract.json``.

        Returns
        -------
        Contract

        Raises
        ------
        ValueError
            When the schema version is another, or the labels are not 0, 1, 2 … in order.
        """
        raw: dict[str, Any] = json.loads(text)
        if raw["schema_version"] != SCHEMA_VERSION:
            raise ValueError(
                f"the contract has schema version {raw['schema_version']}, "
                f"this server understands {SCHEMA_VERSION}"
            )
        classes, limits = raw["classes"], raw["limits"]
        labels = [entry["label"] for entry in classes]
        if labels != list(range(len(classes))):
            raise ValueError(f"the contract's labels are {labels}, not 0 to {len(classes) - 1}")
        z, y, x = (float(step) for step in raw["grid"]["spacing_mm"])
        return cls(
            spacing_mm=(z, y, x),
            windows_taken=WindowBounds.from_fields(raw["windows"]),
            lung=tuple(entry["lung"] for entry in classes),
            lesion=tuple(entry["lesion"] for entry in classes),
            box_voxels=limits["box_voxels"],
            windows=limits["windows"],
            open_scans=limits["open_scans"],
            open_bytes=limits["open_bytes"],
            scan_idle_s=limits["scan_idle_s"],
        )

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.lung)

    def axial_area_mm2(self, voxel_volume_mm3: float) -> float:
        """Area of one voxel in an axial slice.

        The wire carries the volume of a voxel, not its spacing, so a grid of another size is taken
        as the contract's, scaled alike on all axes.

        Parameters
        ----------
        voxel_volume_mm3 : float
            Volume of one voxel, in mm3.

        Returns
        -------
        float
            Area (y, x), in mm2.
        """
        _, y, x = self.spacing_mm
        scale = voxel_volume_mm3 / math.prod(self.spacing_mm)
        return float(y * x * scale ** (2 / 3))
