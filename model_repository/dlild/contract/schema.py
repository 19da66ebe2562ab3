"""The three documents of a model repository: `contract.json`, `limits.json`, `releases.json`.

The contract is what a client needs. The server carries it as a parameter of `dlild`, so a
client asks for it and needs no settings of its own. A contract of another schema is refused, not
guessed at. The limits are the server's own, and the releases are the history of the network.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from itertools import product
from typing import Any, TypeVar

from .errors import ContractError

SCHEMA_VERSION = 1
"""The only `schema_version` that this client understands."""

Shape = tuple[int, int, int]
"""Voxels along (z, y, x)."""
LARGEST_CLASS = "largest class"
"""`ScoreSpec.labels`: a voxel is what its largest class is."""
LESIONS_TOGETHER = "lesions together"
"""`ScoreSpec.labels`: a voxel is a lesion where the lesion classes together are the largest."""
T = TypeVar("T")


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

    def axial_area_mm2(self, voxel_volume_mm3: float) -> float:
        """Area of one voxel in an axial slice, in mm².

        The wire carries the volume of a voxel, not its spacing, so a grid of another size is taken
        as this one, scaled alike on all axes.
        """
        _, y, x = self.spacing_mm
        scale = voxel_volume_mm3 / math.prod(self.spacing_mm)
        return float(y * x * scale ** (2 / 3))


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
    minimum: Shape
    maximum: Shape
    maximum_voxels: int
    minimum_overlap: float
    in_flight: int

    def takes(self, shape: Shape) -> bool:
        """Return whether the server takes windows of this shape (z, y, x)."""
        edges = zip(self.minimum, shape, self.maximum, strict=True)
        return (
            all(low <= n <= high and n % self.multiple == 0 for low, n, high in edges)
            and math.prod(shape) <= self.maximum_voxels
        )

    def largest(self) -> Shape:
        """Shape (z, y, x) of the window of most voxels that the server takes."""
        edges = [
            range(low, high + 1, self.multiple)
            for low, high in zip(self.minimum, self.maximum, strict=True)
        ]
        shapes = [s for s in product(*edges) if math.prod(s) <= self.maximum_voxels]
        z, y, x = max(shapes, key=math.prod)
        return z, y, x

    def largest_cube(self) -> Shape:
        """Shape of the largest window of equal edges that the server takes."""
        cube = max(
            edge
            for edge in range(self.multiple, min(self.maximum) + 1, self.multiple)
            if edge**3 <= self.maximum_voxels
        )
        return cube, cube, cube

    def __str__(self) -> str:
        """Return the bounds in words, for refusals."""
        return (
            f"multiples of {self.multiple} from {self.minimum} to {self.maximum}, "
            f"at most {self.maximum_voxels} voxels"
        )


@dataclass(frozen=True)
class ScanLimits:
    """Bounds of a scan: most voxels of its box, most windows."""

    box_voxels: int
    windows: int


@dataclass(frozen=True)
class ServerLimits:
    """Bounds of a server, `limits.json`.

    Attributes
    ----------
    open_scans, open_bytes : int
        Scans held at once, and bytes that they take together.
    scan_idle_s : float
        Seconds that a scan may be silent.
    answer_s : float
        Longest time between two answers to a scan: by the measured pace of the network, no more
        scans are admitted than keep to it. Half of the `answer_s` that a client waits by default.
    network_instances : int
        Instances of the network, over all GPUs.
    """

    open_scans: int
    open_bytes: int
    scan_idle_s: float
    answer_s: float = 30.0
    network_instances: int = 1


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
class RepeatabilityCoefficient:
    """Smallest difference of two scores of one patient that noise does not explain.

    2.77 times the within-subject SD, in points, with its 95 % interval `low … high`.
    """

    coefficient: float
    low: float
    high: float


@dataclass(frozen=True)
class Repeatability:
    """Repeatability of the score of one version, as its model card has it.

    Attributes
    ----------
    same_protocol : RepeatabilityCoefficient
        Noise, position and depth of breath differ between the scans.
    all_changes : RepeatabilityCoefficient
        Kernel and slice thickness differ, too.
    """

    same_protocol: RepeatabilityCoefficient
    all_changes: RepeatabilityCoefficient


@dataclass(frozen=True)
class ScoreSpec:
    """Name, unit and definition of the score.

    Attributes
    ----------
    name, unit, definition : str
    labels : str
        The rule by which voxels are labelled.
    repeatability : Repeatability or None
        None where it was not measured for this version.
    """

    name: str
    unit: str
    definition: str
    labels: str = LARGEST_CLASS
    repeatability: Repeatability | None = None


@dataclass(frozen=True)
class ProfileSpec:
    """Engine and precision of the network; `blending` is on the `cpu`, or the `gpu`."""

    engine: str
    precision: str
    blending: str = "cpu"


@dataclass(frozen=True)
class Release:
    """One version of the network.

    Attributes
    ----------
    weights_sha256 : str
        64 hexadecimal digits; all 0 where no weights were released yet.
    released : str or None
        Date, as in 2026-11-23.
    below_floor : str or None
        Why it was released although its evaluation missed targets.
    labels : str or None
        `ScoreSpec.labels` that it was evaluated with; None for `LARGEST_CLASS`.
    repeatability : Repeatability or None
        `ScoreSpec.repeatability`; None where it was not measured.
    int8_sha256 : str or None
        Digest of the INT8 form of the network; None where it has none.
    """

    weights_sha256: str
    released: str | None = None
    below_floor: str | None = None
    labels: str | None = None
    repeatability: Repeatability | None = None
    int8_sha256: str | None = None


@dataclass(frozen=True)
class Releases:
    """History of the network, `releases.json`: networks that are loaded, all versions ever made."""

    serving: tuple[int, ...]
    releases: Mapping[int, Release]

    def to_json(self) -> str:
        """Text of `releases.json`."""
        releases = {
            str(number): {k: v for k, v in asdict(release).items() if v is not None}
            for number, release in sorted(self.releases.items())
        }
        return json.dumps({"serving": list(self.serving), "releases": releases}, indent=2) + "\n"


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
    limits: ScanLimits
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

    @property
    def healthy_label(self) -> int:
        """The first label that counts as lung and not as lesion."""
        return next(c.label for c in self.classes if c.lung and not c.lesion)

    def to_json(self, server: ServerLimits | None = None) -> str:
        """Text that a server carries: one line of JSON.

        Parameters
        ----------
        server : ServerLimits, optional
            Added to `limits`: clients of version 0.1 refuse a contract without them.
        """
        fields = asdict(self)
        if server is not None:
            fields["limits"] |= asdict(server)
        return json.dumps(fields, separators=(",", ":"))


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
    raw = _object(text, "the server's contract")
    found = raw.get("schema_version")
    if found != SCHEMA_VERSION or isinstance(found, bool):
        raise ContractError(
            f"the server's contract has schema_version {found!r}, this client understands "
            f"{SCHEMA_VERSION}; install the dlild-client that belongs to the server"
        )
    return _built(_from_fields, raw, "the server's contract")


def parse_limits(text: str) -> ServerLimits:
    """Read `limits.json`; raises `ContractError` as `parse_contract` does."""
    limits = _built(
        lambda raw: ServerLimits(
            open_scans=int(raw["open_scans"]),
            open_bytes=int(raw["open_bytes"]),
            scan_idle_s=float(raw["scan_idle_s"]),
            answer_s=float(raw.get("answer_s", ServerLimits.answer_s)),
            network_instances=int(raw.get("network_instances", ServerLimits.network_instances)),
        ),
        _object(text, "limits.json"),
        "limits.json",
    )
    if min(asdict(limits).values()) <= 0:
        raise ContractError(f"limits.json is not valid: {limits}")
    return limits


def parse_releases(text: str) -> Releases:
    """Read `releases.json`; raises `ContractError` as `parse_contract` does."""
    return _built(
        lambda raw: Releases(
            tuple(int(number) for number in raw["serving"]),
            {int(number): _release(release) for number, release in raw["releases"].items()},
        ),
        _object(text, "releases.json"),
        "releases.json",
    )


def _object(text: str, name: str) -> dict[str, Any]:
    try:
        raw = json.loads(text)
    except ValueError as error:
        raise ContractError(f"{name} is not JSON: {error}; update the server") from None
    if not isinstance(raw, dict):
        raise ContractError(f"{name} is not a JSON object; update the server")
    return raw


def _built(build: Callable[[Mapping[str, Any]], T], raw: Mapping[str, Any], name: str) -> T:
    """Build dataclasses; KeyError, TypeError and ValueError mean a malformed document."""
    try:
        return build(raw)
    except KeyError as error:
        raise ContractError(f"{name} lacks the field {error}") from None
    except (TypeError, ValueError, AttributeError) as error:
        raise ContractError(f"{name} has a field of a wrong type: {error}") from None


def _from_fields(raw: Mapping[str, Any]) -> Contract:
    model, grid, hu, windows, limits, score = (
        raw[k] for k in ("model", "grid", "hu", "windows", "limits", "score")
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
        limits=ScanLimits(int(limits["box_voxels"]), int(limits["windows"])),
        classes=tuple(_label_class(c) for c in raw["classes"]),
        score=ScoreSpec(
            name=str(score["name"]),
            unit=str(score["unit"]),
            definition=str(score["definition"]),
            labels=str(score.get("labels", LARGEST_CLASS)),
            repeatability=_repeatability(score.get("repeatability")),
        ),
        profiles={
            str(name): ProfileSpec(
                str(p["engine"]), str(p["precision"]), str(p.get("blending", "cpu"))
            )
            for name, p in raw["profiles"].items()
        },
    )


def _release(raw: Mapping[str, Any]) -> Release:
    return Release(**{**raw, "repeatability": _repeatability(raw.get("repeatability"))})


def _repeatability(raw: Mapping[str, Any] | None) -> Repeatability | None:
    if raw is None:
        return None
    return Repeatability(_coefficient(raw["same_protocol"]), _coefficient(raw["all_changes"]))


def _coefficient(raw: Mapping[str, Any]) -> RepeatabilityCoefficient:
    figures = [float(raw[name]) for name in ("coefficient", "low", "high")]
    coefficient, low, high = figures
    _require(0 <= low <= coefficient <= high < math.inf, "score.repeatability", figures)
    return RepeatabilityCoefficient(coefficient, low, high)


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


def _ints3(values: Any) -> Shape:
    first, second, third = (int(v) for v in values)
    return first, second, third


def _floats3(values: Any) -> tuple[float, float, float]:
    first, second, third = (float(v) for v in values)
    return first, second, third


def _require(holds: bool, field: str, value: object) -> None:
    if not holds:
        raise ContractError(f"the server's contract is not valid: {field} is {value}")
