"""Which windows a whole volume is cut into: the rules of docs/wire.md, followed on the server."""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby, product
from typing import Any

Shape = tuple[int, int, int]

SCHEMA_VERSION = 1


class VolumeError(ValueError):
    """The request breaks the wire's rules; the message is the answer to the client."""

    def __str__(self) -> str:
        """Return the message with the prefix that docs/wire.md promises."""
        return f"REFUSED: {super().__str__()}"


@dataclass(frozen=True)
class Rules:
    """What the whole-scan door needs of ``contract.json``.

    Attributes
    ----------
    multiple : int
        Every edge of a window is a multiple of this.
    minimum, maximum : tuple of int
        Shortest and longest edges of a window (z, y, x), in voxels.
    maximum_voxels : int
        Most voxels of a window.
    minimum_overlap : float
        Least overlap of neighbours, as a share of the window.
    in_flight : int
        Most windows of one scan on their way.
    box_voxels, windows : int
        Most voxels and windows of a scan.
    hu : tuple of int
        Least and largest HU.
    """

    multiple: int
    minimum: Shape
    maximum: Shape
    maximum_voxels: int
    minimum_overlap: float
    in_flight: int
    box_voxels: int
    windows: int
    hu: tuple[int, int]

    @classmethod
    def from_json(cls, text: str) -> "Rules":
        """Read the rules from the text that a model's configuration carries.

        Parameters
        ----------
        text : str
            ``contract.json``.

        Returns
        -------
        Rules

        Raises
        ------
        ValueError
            When the schema version is another.
        """
        raw: dict[str, Any] = json.loads(text)
        if raw["schema_version"] != SCHEMA_VERSION:
            raise ValueError(
                f"the contract has schema version {raw['schema_version']}, "
                f"this server understands {SCHEMA_VERSION}"
            )
        windows, limits = raw["windows"], raw["limits"]
        return cls(
            multiple=windows["multiple"],
            minimum=tuple(windows["minimum"]),
            maximum=tuple(windows["maximum"]),
            maximum_voxels=windows["maximum_voxels"],
            minimum_overlap=windows["minimum_overlap"],
            in_flight=windows["in_flight"],
            box_voxels=limits["box_voxels"],
            windows=limits["windows"],
            hu=(raw["hu"]["minimum"], raw["hu"]["maximum"]),
        )


@dataclass(frozen=True)
class Plan:
    """Windows of one shape that cover a volume.

    Attributes
    ----------
    shape : tuple of int
        Shape of every window (z, y, x), in voxels.
    origins : tuple of tuple of int
        First voxel of each window (z, y, x), in rising order of z.
    """

    shape: Shape
    origins: tuple[Shape, ...]

    def turns(self) -> Iterator[list[int]]:
        """Yield indices of windows that may be on their way together.

        The first and the last window go alone, because their flags begin and end the scan; between
        them windows of one z may overtake each other, and no others.

        Yields
        ------
        list of int
            Indices into ``origins``, rising.
        """
        last = len(self.origins) - 1
        yield [0]
        for _, row in groupby(range(1, last), key=lambda index: self.origins[index][0]):
            yield list(row)
        if last:
            yield [last]


def plan_windows(volume_shape: Shape, rules: Rules) -> Plan:
    """Choose the window shape and the origins that cover a volume with the fewest voxels.

    Parameters
    ----------
    volume_shape : tuple of int
        Voxels (z, y, x).
    rules : Rules
        Window shapes, overlap and limits.

    Returns
    -------
    Plan

    Raises
    ------
    VolumeError
        When the volume is smaller than every window, or larger than the limits.
    """
    voxels = math.prod(volume_shape)
    if voxels > rules.box_voxels:
        raise VolumeError(
            f"volume {volume_shape} holds {voxels} voxels, the limit is {rules.box_voxels}"
        )
    edges = [_edges(axis, length, rules) for axis, length in enumerate(volume_shape)]
    # Counted before anything is listed: a limit should hold before memory is taken.
    counts = {
        (z, y, x): nz * ny * nx
        for (z, nz), (y, ny), (x, nx) in product(*edges)
        if z * y * x <= rules.maximum_voxels
    }
    if not counts:
        raise VolumeError(
            f"volume {volume_shape} is smaller than the smallest window {rules.minimum}; "
            "crop more generously"
        )
    # As the client ranks them: fewest voxels, then fewest windows, then the shortest edge in z.
    shape = min(counts, key=lambda shape: (counts[shape] * math.prod(shape), counts[shape], shape))
    if counts[shape] > rules.windows:
        raise VolumeError(
            f"volume {volume_shape} takes {counts[shape]} windows, the limit is {rules.windows}"
        )
    axes = [
        axis_origins(length, window, rules.minimum_overlap)
        for length, window in zip(volume_shape, shape, strict=True)
    ]
    return Plan(shape, tuple((z, y, x) for z, y, x in product(*axes)))


def _edges(axis: int, length: int, rules: Rules) -> list[tuple[int, int]]:
    """Edges worth trying along one axis: the shortest for each count of windows, and that count."""
    shortest: dict[int, int] = {}
    for edge in range(rules.minimum[axis], min(rules.maximum[axis], length) + 1, rules.multiple):
        count = len(axis_origins(length, edge, rules.minimum_overlap))
        shortest.setdefault(count, edge)
    return [(edge, count) for count, edge in shortest.items()]


def axis_origins(length: int, window: int, minimum_overlap: float) -> list[int]:
    """Origins of windows along one axis: as few as the overlap allows, evenly spread.

    Parameters
    ----------
    length, window : int
        Voxels of the axis and of a window; the axis is at least as long.
    minimum_overlap : float
        Least overlap of neighbours, as a share of the window.

    Returns
    -------
    list of int
        From 0 to ``length - window``.
    """
    room = length - window
    # The small number: 96 x (1 - 0.25) must be 72 steps, whatever floating point makes of it.
    step = max(1, math.floor(window * (1 - minimum_overlap) + 1e-9))
    gaps = -(-room // step)
    return [room * place // gaps for place in range(gaps + 1)] if gaps else [0]
