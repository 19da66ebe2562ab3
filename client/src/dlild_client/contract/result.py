"""Fields of `result.json`, which `dlild score` writes, and analyses and readers read.

All volumes are in mL, shares in percent, lengths in mm, shapes and boxes in voxels (z, y, x), times
in s. A field is added without a change of `RESULT_SCHEMA_VERSION`, and never removed or given
another meaning with the same one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypedDict

RESULT_SCHEMA_VERSION = 1


class ClassDocument(TypedDict):
    """One class that counts as lung; `title`, `colour` and `code` are the contract's.

    `colour` is (red, green, blue); `code` has the scheme, value and meaning of DICOM, and is None
    where there is no standard one.
    """

    label: int
    volume_ml: float
    percent_of_lung: float
    certainty: float | None
    title: str
    lesion: bool
    colour: list[int]
    code: Mapping[str, str] | None


class ZoneDocument(TypedDict):
    """One of `score.ZONES`; lesions are lung too."""

    lung_ml: float
    lesion_ml: float


class DensityDocument(TypedDict):
    """Densitometry of the lung or a zone; None where it has no voxel."""

    volume_ml: float
    mean_hu: float | None
    sd_hu: float | None
    skewness: float | None
    kurtosis: float | None
    percentiles_hu: Mapping[str, int | None]
    high_attenuation_percent: float | None
    low_attenuation_percent: float | None
    mass_g: float


class DensitometryDocument(TypedDict):
    """Statistics of HU over the scanned voxels of the lung, and of its zones."""

    lung: DensityDocument
    zones: Mapping[str, DensityDocument]


class BoxDocument(TypedDict):
    """The lung box in the grid; `stop` is one past its end."""

    start: list[int]
    stop: list[int]


class GridDocument(TypedDict):
    """The model grid."""

    spacing_mm: list[float]
    shape: list[int]
    box: BoxDocument


class ModelDocument(TypedDict):
    """The network that gave the score, and what ran it."""

    name: str
    version: int
    weights_digest: str
    profile: str
    engine: str
    precision: str


class CoefficientDocument(TypedDict):
    """A repeatability coefficient in points, with its 95 % interval."""

    coefficient: float
    low: float
    high: float


class RepeatabilityDocument(TypedDict):
    """Of the model version: what a second scan by the same protocol, or by another, may differ."""

    same_protocol: CoefficientDocument
    all_changes: CoefficientDocument


class ProvenanceDocument(TypedDict):
    """Digests of scan, preprocessing, weights, label map and of this document.

    `hu_range` of the preprocessing is (minimum, maximum, padding).
    """

    scan: str
    preprocessing: str
    weights: str
    labels: str
    hu_range: list[int]
    result: str


class ResultDocument(TypedDict):
    """`result.json`. `series` and `flag_details` hold what is known of them, scan by scan."""

    schema_version: int
    dl_ild_percent: float
    lung_volume_ml: float
    lesion_volume_ml: float
    classes: Mapping[str, ClassDocument]
    zones: Mapping[str, ZoneDocument]
    densitometry: DensitometryDocument | None
    windows: int
    grid: GridDocument
    model: ModelDocument
    series: Mapping[str, Any]
    timings_s: Mapping[str, float]
    flags: list[str]
    flag_details: Mapping[str, Any]
    repeatability: RepeatabilityDocument | None
    research_use_only: bool
    provenance: ProvenanceDocument | None
