"""The contract: what client and server share, read from the server.

The hand-written original is a JSON text; the server carries it as a parameter of the ensemble. A
client asks for it and needs no settings of its own. A contract of another schema is refused, not
guessed at.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dlild_client.errors import ContractError

SCHEMA_VERSION = 1
"""The only `schema_version` that this client understands."""


@dataclass(frozen=True)
class ModelInfo:
    """Name, version and weights of the network (`weights_sha256`: 64 hexadecimal digits)."""

    name: str
    version: int
    weights_sha256: str


@dataclass(frozen=True)
class GridSpec:
    """Voxels of the model grid: `spacing_mm` (z, y, x); `orientation` is always LPS."""

    spacing_mm: tuple[float, float, float]
    orientation: str

    @property
    def voxel_volume_mm3(self) -> float:
        """Volume of one voxel in mm³."""
        z, y, x = self.spacing_mm
        return z * y * x


@dataclass(frozen=True)
class HuRange:
    """HU are clipped to `minimum … maximum`; `padding` stands where there is no scan."""

    minimum: int
    maximum: int
    padding: int


@dataclass(frozen=True)
class WindowSpec:
    """Which windows the server takes, and how they follow each other.

    Attributes
    ----------
    multiple : int
        Every edge of a window is a multiple of this.
    minimum, maximum : tuple of int
        Shortest and longest edges (z, y, x), in voxels.
    maximum_voxels : int
        Most voxels of one window.
    minimum_overlap : float
        Least overlap of neighbours, as a share of a window's edge.
    in_flight : int
        Most windows that may be unanswered.
    """

    multiple: int
    minimum: tuple[int, int, int]
    maximum: tuple[int, int, int]
    maximum_voxels: int
    minimum_overlap: float
    in_flight: int

    def takes(self, shape: tuple[int, int, int]) -> bool:
        """Tell whether the server takes windows of this shape (z, y, x)."""
        edges = zip(self.minimum, shape, self.maximum, strict=True)
        return (
            all(low <= n <= high and n % self.multiple == 0 for low, n, high in edges)
            and math.prod(shape) <= self.maximum_voxels
        )


@dataclass(frozen=True)
class ServerLimits:
    """Bounds of a scan (voxels of its box, windows) and of the server (scans, bytes, silence)."""

    box_voxels: int
    windows: int
    open_scans: int
    open_bytes: int
    scan_idle_s: float


@dataclass(frozen=True)
class Code:
    """A coded concept of DICOM: scheme (SCT or DCM), value and meaning."""

    scheme: str
    value: str
    meaning: str


@dataclass(frozen=True)
class LabelClass:
    """One class of the label map; `colour` is (red, green, blue), 0 to 255."""

    label: int
    name: str
    title: str
    lung: bool
    lesion: bool
    colour: tuple[int, int, int]
    code: Code | None


@dataclass(frozen=True)
class ScoreSpec:
    """Name, unit and definition of the score."""

    name: str
    unit: str
    definition: str


@dataclass(frozen=True)
class ProfileSpec:
    """Engine and precision that a profile of the server runs the network with."""

    engine: str
    precision: str


@dataclass(frozen=True)
class Contract:
    """The whole contract; see the classes of its fields.

    Invariants: labels run 0, 1, 2 …; every lesion class is a lung class; spacing is positive;
    `hu.minimum <= hu.padding < hu.maximum`; `0 <= minimum_overlap < 1`; the smallest window is one
    that the server takes.
    """

    schema_version: int
    model: ModelInfo
    grid: GridSpec
    hu: HuRange
    windows: WindowSpec
    limits: ServerLimits
    classes: tuple[LabelClass, ...]
    score: ScoreSpec
    profiles: Mapping[str, ProfileSpec]

    def __post_init__(self) -> None:
        """Raise `ContractError` where an invariant is broken."""
        _require(all(s > 0 for s in self.grid.spacing_mm), "grid.spacing_mm", self.grid.spacing_mm)
        _require(self.grid.orientation == "LPS", "grid.orientation", self.grid.orientation)
        _require(self.hu.minimum <= self.hu.padding < self.hu.maximum, "hu", self.hu)
        bounds = self.windows
        _require(bounds.multiple >= 1, "windows.multiple", bounds.multiple)
        _require(min(bounds.minimum) >= 1, "windows.minimum", bounds.minimum)
        _require(bounds.takes(bounds.minimum), "windows", bounds)
        overlap = self.windows.minimum_overlap
        _require(0 <= overlap < 1, "windows.minimum_overlap", overlap)
        _require(self.windows.in_flight >= 1, "windows.in_flight", self.windows.in_flight)
        labels = [c.label for c in self.classes]
        _require(labels == list(range(len(labels))) and len(labels) >= 2, "classes", labels)
        _require(
            not any(c.lesion and not c.lung for c in self.classes), "classes", "lesion, not lung"
        )
        _require(any(c.lesion for c in self.classes), "classes", "no lesion class")

    @property
    def lung_labels(self) -> tuple[int, ...]:
        """Labels that count as lung, lesions included."""
        return tuple(c.label for c in self.classes if c.lung)

    @property
    def lesion_labels(self) -> tuple[int, ...]:
        """Labels that count as lesion."""
        return tuple(c.label for c in self.classes if c.lesion)


def parse_contract(text: str) -> Contract:
    """Read a contract from its JSON text.

    Parameters
    ----------
    text : str
        JSON, as in `model_repository/contract.json`.

    Returns
    -------
    Contract

    Raises
    ------
    ContractError
        The text is not JSON, has another `schema_version`, lacks a field or breaks an invariant.
    """
    try:
        raw = json.loads(text)
    except ValueError as error:
        raise ContractError(
            f"the server's contract is not JSON: {error}; update the server"
        ) from None
    if not isinstance(raw, dict):
        raise ContractError("the server's contract is not a JSON object; update the server")
    found = raw.get("schema_version")
    if found != SCHEMA_VERSION or isinstance(found, bool):
        raise ContractError(
            f"the server's contract has schema_version {found!r}, this client understands "
            f"{SCHEMA_VERSION}; install the dlild-client that belongs to the server"
        )
    try:
        return _from_fields(raw)
    except KeyError as error:
        raise ContractError(f"the server's contract lacks the field {error}") from None
    except (TypeError, ValueError, AttributeError) as error:
        raise ContractError(f"the server's contract has a field of a wrong type: {error}") from None


def _from_fields(raw: Mapping[str, Any]) -> Contract:
    """Build the dataclasses; KeyError, TypeError and ValueError mean a malformed contract."""
    model, grid, hu, windows, limits = (
        raw[k] for k in ("model", "grid", "hu", "windows", "limits")
    )
    return Contract(
        schema_version=int(raw["schema_version"]),
        model=ModelInfo(str(model["name"]), int(model["version"]), str(model["weights_sha256"])),
        grid=GridSpec(_floats3(grid["spacing_mm"]), str(grid["orientation"])),
        hu=HuRange(int(hu["minimum"]), int(hu["maximum"]), int(hu["padding"])),
        windows=WindowSpec(
            multiple=int(windows["multiple"]),
            minimum=_ints3(windows["minimum"]),
            maximum=_ints3(windows["maximum"]),
            maximum_voxels=int(windows["maximum_voxels"]),
            minimum_overlap=float(windows["minimum_overlap"]),
            in_flight=int(windows["in_flight"]),
        ),
        limits=ServerLimits(
            box_voxels=int(limits["box_voxels"]),
            windows=int(limits["windows"]),
            open_scans=int(limits["open_scans"]),
            open_bytes=int(limits["open_bytes"]),
            scan_idle_s=float(limits["scan_idle_s"]),
        ),
        classes=tuple(_label_class(c) for c in raw["classes"]),
        score=ScoreSpec(**{k: str(raw["score"][k]) for k in ("name", "unit", "definition")}),
        profiles={
            str(name): ProfileSpec(str(p["engine"]), str(p["precision"]))
            for name, p in raw["profiles"].items()
        },
    )


def _label_class(raw: Mapping[str, Any]) -> LabelClass:
    code = raw["code"]
    return LabelClass(
        label=int(raw["label"]),
        name=str(raw["name"]),
        title=str(raw["title"]),
        lung=bool(raw["lung"]),
        lesion=bool(raw["lesion"]),
        colour=_ints3(raw["colour"]),
        code=None if code is None else Code(code["scheme"], code["value"], code["meaning"]),
    )


def _ints3(values: Any) -> tuple[int, int, int]:
    first, second, third = (int(v) for v in values)
    return first, second, third


def _floats3(values: Any) -> tuple[float, float, float]:
    first, second, third = (float(v) for v in values)
    return first, second, third


def _require(holds: bool, field: str, value: object) -> None:
    if not holds:
        raise ContractError(f"the server's contract is not valid: {field} is {value}")
