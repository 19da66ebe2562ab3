"""Result of a scan: score, volumes, provenance and flags; checks the answer of the server."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from dlild_client.contract import Contract
from dlild_client.contract.result import RESULT_SCHEMA_VERSION
from dlild_client.contract.schema import Shape
from dlild_client.contract.score import ZONES, count_labels, dl_ild_percent, lesion_and_lung
from dlild_client.contract.windows import Box
from dlild_client.errors import NotChestError, ServerError
from dlild_client.flags import Flag, details, merge
from dlild_client.preparation.inspection import MUCH_LUNG_ML, ONE_SIDE
from dlild_client.preparation.orientation import find_spine
from dlild_client.preparation.prepare import PreparedScan
from dlild_client.results.densitometry import Densitometry, find_disagreement, measure_density
from dlild_client.results.provenance import Provenance, document_digest, trace
from dlild_client.transport.connection import ServerInfo
from dlild_client.transport.wire import FinalAnswer
from dlild_client.volume import SeriesInfo, Volume

EDGE_MM2 = 300.0
"""Larger areas of lung on a face of the box may be cut off by it."""


@dataclass(frozen=True)
class ClassVolume:
    """One class of lung.

    Attributes
    ----------
    label : int
    volume_ml : float
    percent_of_lung : float
        Percentage of all lung.
    certainty : float or None
        Of a lesion class, the mean over its voxels of its share of the probabilities of all lesion
        classes: 1 where the network sees no other lesion there, 0.25 where all four are equally
        likely. DL-ILD does not depend on it. None where there is no voxel, for lung without
        lesion, and from servers that do not report it.
    """

    label: int
    volume_ml: float
    percent_of_lung: float
    certainty: float | None = None


@dataclass(frozen=True)
class ZoneVolume:
    """One zone of the lungs: all lung and all lesions, in mL."""

    lung_ml: float
    lesion_ml: float


@dataclass(frozen=True)
class GridInfo:
    """The model grid: spacing in mm, shape in voxels (z, y, x), and the box that was scored."""

    spacing_mm: tuple[float, float, float]
    shape: Shape
    box_start: Shape
    box_stop: Shape


@dataclass(frozen=True)
class ModelUsed:
    """Network and engine that computed the score."""

    name: str
    version: int
    weights_digest: str
    profile: str
    engine: str
    precision: str


@dataclass(frozen=True, eq=False)
class Result:
    """DL-ILD of one scan. For research use only.

    Attributes
    ----------
    dl_ild_percent : float
        100 x lesion volume / lung volume, lesions included.
    lung_volume_ml, lesion_volume_ml : float
    classes : mapping of str to ClassVolume
        The classes that count as lung, by name.
    zones : mapping of str to ZoneVolume
        Thirds of the height of the lungs, right and left.
    windows : int
        Windows that the network saw.
    grid : GridInfo
    model : ModelUsed
    series : SeriesInfo
        Without patient identity.
    timings_s : mapping of str to float
        `read`, `resample`, `lungs`, `inference`, `total`.
    flags : tuple of str
        Doubts about the scan or the score.
    labels : Volume
        uint8 label map on the whole model grid, 0 outside the lung box.
    image : Volume
        HU on the model grid.
    contract : Contract
        Names, titles and colours of the labels.
    densitometry : Densitometry or None
        Statistics of HU over the scanned voxels of the lung.
    provenance : Provenance or None
        Digests of scan, preprocessing, weights and label map.
    """

    dl_ild_percent: float
    lung_volume_ml: float
    lesion_volume_ml: float
    classes: Mapping[str, ClassVolume]
    zones: Mapping[str, ZoneVolume]
    windows: int
    grid: GridInfo
    model: ModelUsed
    series: SeriesInfo
    timings_s: Mapping[str, float]
    flags: tuple[str, ...]
    labels: Volume
    image: Volume
    contract: Contract
    densitometry: Densitometry | None = None
    provenance: Provenance | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the voxels, as plain values for JSON."""
        repeatability = self.contract.score.repeatability
        plain = {
            "schema_version": RESULT_SCHEMA_VERSION,
            "dl_ild_percent": self.dl_ild_percent,
            "lung_volume_ml": self.lung_volume_ml,
            "lesion_volume_ml": self.lesion_volume_ml,
            "classes": {
                c.name: {
                    **asdict(self.classes[c.name]),
                    "title": c.title,
                    "lesion": c.lesion,
                    "colour": list(c.colour),
                    "code": None if c.code is None else asdict(c.code),
                }
                for c in self.contract.classes
                if c.name in self.classes
            },
            "zones": {name: asdict(z) for name, z in self.zones.items()},
            "densitometry": None if self.densitometry is None else asdict(self.densitometry),
            "windows": self.windows,
            "grid": {
                "spacing_mm": list(self.grid.spacing_mm),
                "shape": list(self.grid.shape),
                "box": {"start": list(self.grid.box_start), "stop": list(self.grid.box_stop)},
            },
            "model": asdict(self.model),
            "series": {
                k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self.series).items()
            },
            "timings_s": dict(self.timings_s),
            "flags": [str(flag) for flag in self.flags],
            "flag_details": details(self.flags),
            "repeatability": None if repeatability is None else asdict(repeatability),
            "research_use_only": True,
            "provenance": None,
        }
        document = {key: _rounded(value) for key, value in plain.items()}
        if self.provenance is not None:
            document["provenance"] = {
                **asdict(self.provenance),
                "hu_range": list(self.provenance.hu_range),
            }
            document["provenance"]["result"] = document_digest(document)
        return document

    def to_json(self) -> str:
        """Return the text of `result.json`."""
        return json.dumps(self.to_dict(), indent=2, allow_nan=False)


def build_result(
    prepared: PreparedScan,
    final: FinalAnswer,
    engine: str | None,
    info: ServerInfo,
    timings_s: Mapping[str, float],
) -> Result:
    """Check the last answer of the server, and assemble the result.

    Parameters
    ----------
    prepared : PreparedScan
        The scan that was sent.
    final : FinalAnswer
        The last answer.
    engine : str or None
        Engine and precision, where the answers report them; default: those of the contract.
    info : ServerInfo
    timings_s : mapping
        Seconds per stage.

    Returns
    -------
    Result

    Raises
    ------
    ServerError
        Score, volumes and label map are inconsistent.
    NotChestError
        The network found no lung.
    """
    contract = info.contract
    check_answer(final, prepared.box, contract)
    volumes = final.class_volumes_ml
    lesion, lung = map(float, lesion_and_lung(volumes, contract.classes))
    if lung <= 0:
        raise NotChestError("the network found no lung in this scan; give a chest CT")
    array, spilled = _labels_on_grid(final.labels, prepared.box, prepared.grid.shape)
    labels = prepared.grid.with_array(array)
    native = prepared.native
    density = None if native is None else measure_density(native, labels, contract)
    score, where = dl_ild_percent(lesion, lung), _grid_info(prepared)
    engine_name, precision = info.computed_by(engine)
    return Result(
        dl_ild_percent=score,
        lung_volume_ml=lung,
        lesion_volume_ml=lesion,
        classes={
            c.name: ClassVolume(
                c.label,
                float(volumes[c.label]),
                100 * float(volumes[c.label]) / lung,
                _certainty(final, c.label),
            )
            for c in contract.classes
            if c.lung
        },
        zones={
            name: ZoneVolume(float(row[0]), float(row[1]))
            for name, row in zip(ZONES, final.zone_volumes_ml, strict=True)
        },
        windows=len(prepared.plan.origins),
        grid=where,
        model=ModelUsed(
            name=contract.model.name,
            version=contract.model.version,
            weights_digest=f"sha256:{contract.model.weights_sha256}",
            profile=info.profile,
            engine=engine_name,
            precision=precision,
        ),
        series=prepared.grid.series,
        timings_s=timings_s,
        flags=merge(
            (
                *prepared.flags,
                *_doubts(final.labels, prepared, contract, spilled),
                *_strange_volumes(final, prepared, contract),
                *(() if density is None else find_disagreement(score, density)),
            )
        ),
        labels=labels,
        image=prepared.grid,
        contract=contract,
        densitometry=density,
        provenance=trace(prepared.grid, array, where.box_start, where.box_stop, contract),
    )


def _certainty(final: FinalAnswer, label: int) -> float | None:
    """Certainty of a class; None where no voxel has it or the server does not report it."""
    value = float("nan") if final.class_certainty is None else float(final.class_certainty[label])
    return None if math.isnan(value) else value


def _doubts(
    labels: npt.NDArray[np.uint8], prepared: PreparedScan, contract: Contract, spilled: bool
) -> tuple[Flag, ...]:
    """Flag findings of the label map."""
    cut = _lung_at_edges_mm2(labels, prepared, contract)
    flags = [Flag("labels_beyond_scan")] if spilled else []
    if cut > EDGE_MM2:
        flags.append(Flag("lungs_at_box_edge", area_cm2=cut / 100))
    return tuple(flags)


def _strange_volumes(
    final: FinalAnswer, prepared: PreparedScan, contract: Contract
) -> tuple[Flag, ...]:
    """Flag implausible volumes: over 9 L, or one side a small fraction of the other.

    The sides are split at the spine, where it is visible: the zones of the server are split where
    there is least lung, which for a single lung lies within it.
    """
    right, left = final.zone_volumes_ml[:3, 0].sum(), final.zone_volumes_ml[3:, 0].sum()
    spine = find_spine(prepared.seen) if prepared.seen is not None else None
    if spine is not None and prepared.seen is not None:
        middle = round((spine.x + 0.5) * prepared.seen.factors[2]) - prepared.box.start[2]
        lung = np.isin(final.labels, contract.lung_labels)
        voxel_ml = contract.grid.voxel_volume_mm3 / 1000
        right, left = (
            np.count_nonzero(side) * voxel_ml
            for side in (lung[:, :, : max(0, middle)], lung[:, :, max(0, middle) :])
        )
    strange = {"lung_ml": float(right + left)} if right + left > MUCH_LUNG_ML else {}
    if min(right, left) < ONE_SIDE * max(right, left):
        strange |= {"right_ml": float(right), "left_ml": float(left)}
    return (Flag("chest_doubtful", **strange),) if strange else ()


def _lung_at_edges_mm2(
    labels: npt.NDArray[np.uint8], prepared: PreparedScan, contract: Contract
) -> float:
    """Return the largest area of lung on a face of the box, in mm², within the patient.

    Faces at the end of the grid are left out, and so is outer air that the network labels as lung.
    """
    box, spacing = prepared.box, prepared.grid.spacing_mm
    worst = 0.0
    for axis, (start, stop, length) in enumerate(
        zip(box.start, box.stop, prepared.grid.shape, strict=True)
    ):
        faces = [index for index, inside in ((0, start > 0), (-1, stop < length)) if inside]
        pixel_mm2 = math.prod(spacing) / spacing[axis]
        for face in faces:
            lung = np.isin(np.take(labels, face, axis=axis), contract.lung_labels)
            lung &= _patient_on_face(prepared, axis, face)
            worst = max(worst, float(np.count_nonzero(lung)) * pixel_mm2)
    return worst


def _patient_on_face(prepared: PreparedScan, axis: int, face: int) -> npt.NDArray[np.bool_]:
    """Mask of the patient on a face of the box: body and enclosed air."""
    box, seen = prepared.box, prepared.seen
    shape = [n for a, n in enumerate(box.shape) if a != axis]
    if seen is None:
        return np.ones(shape, dtype=np.bool_)
    index = [
        np.minimum((np.arange(n) + first) // factor, length - 1)
        for n, first, factor, length in zip(
            box.shape, box.start, seen.factors, seen.body.shape, strict=True
        )
    ]
    index[axis] = index[axis][[face]]
    patient = (seen.body | seen.inner)[np.ix_(*index)]
    return np.asarray(np.squeeze(patient, axis=axis))


def check_answer(final: FinalAnswer, box: Box, contract: Contract) -> None:
    """Raise `ServerError` unless label map, class volumes, zones and score agree."""
    classes = len(contract.classes)
    if final.labels.shape != box.shape or final.class_volumes_ml.shape != (classes,):
        raise ServerError(
            f"the server's label map has shape {final.labels.shape} and "
            f"{final.class_volumes_ml.shape[0]} "
            f"classes, not {box.shape} and {classes}; try again"
        )
    if final.class_certainty is not None and final.class_certainty.shape != (classes,):
        raise ServerError(
            f"the server's class_certainty has shape {final.class_certainty.shape}, not "
            f"({classes},); try again"
        )
    largest = int(final.labels.max())
    if largest >= classes:
        raise ServerError(
            f"the server's label map holds the label {largest}, unknown to its contract"
        )
    counts = count_labels(final.labels, contract.classes)
    counted = counts * contract.grid.voxel_volume_mm3 / 1000
    _agree(final.class_volumes_ml, counted, "class volumes and label map")
    lesion, lung = lesion_and_lung(counted, contract.classes)
    _agree(final.zone_volumes_ml.sum(axis=0), np.array([lung, lesion]), "zones and classes")
    expected = dl_ild_percent(lesion, lung)
    if not np.isclose(final.dl_ild_percent, expected, rtol=1e-6, atol=1e-6, equal_nan=True):
        raise ServerError(
            f"the server's score {final.dl_ild_percent:.4f} is not that of its volumes "
            f"({expected:.4f}); try again"
        )


def _agree(reported: npt.NDArray[np.float64], counted: npt.NDArray[np.float64], what: str) -> None:
    if not np.allclose(reported, counted, rtol=1e-5, atol=1e-2):
        worst = int(np.argmax(np.abs(reported - counted)))
        raise ServerError(
            f"the server's {what} do not agree: {reported[worst]:.3f} and {counted[worst]:.3f} mL; "
            "try again"
        )


def _labels_on_grid(
    labels: npt.NDArray[np.uint8], box: Box, grid_shape: Shape
) -> tuple[npt.NDArray[np.uint8], bool]:
    """Place the label map on the whole grid; also return whether labels lie beyond its end."""
    out = np.zeros(grid_shape, dtype=np.uint8)
    inside = tuple(
        slice(0, min(b, n) - a) for a, b, n in zip(box.start, box.stop, grid_shape, strict=True)
    )
    out[tuple(slice(a, b) for a, b in zip(box.start, box.stop, strict=True))] = labels[inside]
    return out, bool(np.count_nonzero(labels) > np.count_nonzero(labels[inside]))


def _grid_info(prepared: PreparedScan) -> GridInfo:
    z, y, x = (min(b, n) for b, n in zip(prepared.box.stop, prepared.grid.shape, strict=True))
    return GridInfo(prepared.grid.spacing_mm, prepared.grid.shape, prepared.box.start, (z, y, x))


def _rounded(value: Any) -> Any:
    """Round floats to six decimals: finer digits are numerical noise."""
    if isinstance(value, float):
        return round(value, 6)
    if isinstance(value, dict):
        return {k: _rounded(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_rounded(v) for v in value]
    return value
