"""Verifies the files of a result against each other, its scan and its weights.

What `result.json`, the label map and the DICOM objects say must follow from each other: digests,
sums, every segment's voxels, every measurement. That finds files of different results, damage and
edits by hand; it is no signature: who changes a file may compute its digests again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dlild_client.contract import HuRange
from dlild_client.contract.score import dl_ild_percent
from dlild_client.errors import DlildError, UnreadableFileError
from dlild_client.preparation.grid import resample_to_grid
from dlild_client.preparation.native import Stack, sample
from dlild_client.reading.dicom.dicomlib import load_pydicom, quiet
from dlild_client.results.dicom.common import MANUFACTURER
from dlild_client.results.dicom.uids import pixels_digest
from dlild_client.results.provenance import (
    document_digest,
    labels_digest,
    preprocessing_digest,
)
from dlild_client.results.stored import LABELS, OVERLAY, StoredResult, read_stored
from dlild_client.volume import Volume

ROUNDING = 1e-4
"""Numbers of a document are rounded to six decimals."""
PAGES = (OVERLAY, "report.html")
"""Files of a result that hold no digest."""
SEG_AGREEMENT = 0.999
"""Least share of labelled voxels of a SEG that must have the label of the map: positions in DICOM
are rounded."""


DENSITY_CODES = {
    "112181": "mean_hu",
    "112183": "sd_hu",
    "HAA": "high_attenuation_percent",
    "LAA-950": "low_attenuation_percent",
    "4147007": "mass_g",
    "126051": "skewness",
    "126052": "kurtosis",
}
"""Figures of a densitometry by the code of their measurement in the SR, or of its derivation."""
MEDIAN = "112182"
DERIVATION = "121401"
REPEATABILITY = {"RC-SAME": "same_protocol", "RC-ALL": "all_changes"}


@dataclass(frozen=True)
class Check:
    """What was compared, whether it agrees, and what was found; None: it could not be compared."""

    what: str
    agrees: bool | None
    found: str


def verify_result(
    path: Path, read_scan: Callable[[], Volume] | None = None, weights: Path | None = None
) -> list[Check]:
    """Verify a result.

    Parameters
    ----------
    path : Path
        Folder of a result, or its JSON file.
    read_scan : callable, optional
        Reads the scan that was scored, to compute its digests again.
    weights : Path, optional
        File of the network.

    Returns
    -------
    list of Check

    Raises
    ------
    InputError
        There is no result, or the scan cannot be read.
    """
    stored = read_stored(path)
    try:
        return _checks(stored, read_scan, weights)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError):
        raise UnreadableFileError(
            f"{stored.path.name}: fields are missing or of a wrong type; score the scan again"
        ) from None


def _checks(
    stored: StoredResult, read_scan: Callable[[], Volume] | None, weights: Path | None
) -> list[Check]:
    document = stored.document
    provenance = document.get("provenance")
    if not isinstance(provenance, Mapping):
        raise UnreadableFileError(
            f"{stored.path.name}: without digests; score the scan again with this version"
        )
    checks = [
        _same("result.json, its digest", provenance["result"], document_digest(document)),
        *_sums(document),
        _same(
            "weights, by result.json", provenance["weights"], document["model"]["weights_digest"]
        ),
        _same("scan, by result.json", provenance["scan"], document["series"].get("digest") or ""),
    ]
    labels = None
    if stored.file(LABELS) is None:
        checks.append(Check(LABELS, None, "is not there"))
    else:
        labels = stored.labels()
        start, stop = _box(document)
        found = labels_digest(labels.array, start, stop)
        checks.append(_same(LABELS, provenance["labels"], found))
        checks.append(_beyond_box(labels, start, stop))
    checks += _objects(stored, labels)
    checks += [Check(n, None, "holds no digest") for n in PAGES if stored.file(n) is not None]
    if weights is not None:
        checks.append(_weights(weights, provenance["weights"]))
    if read_scan is not None:
        checks += _scan(read_scan(), document, provenance)
    return checks


def _box(document: Mapping[str, Any]) -> tuple[Any, Any]:
    box = document["grid"]["box"]
    return tuple(box["start"]), tuple(box["stop"])


def _same(what: str, expected: str, found: str) -> Check:
    agrees = expected == found
    return Check(what, agrees, found[:19] if agrees else f"{found[:19]}, not {expected[:19]}")


def _sums(document: Mapping[str, Any]) -> Iterator[Check]:
    """Volumes add up, and the score is theirs."""
    classes, zones = document["classes"].values(), document["zones"].values()
    lung, lesion = document["lung_volume_ml"], document["lesion_volume_ml"]
    pairs = {
        "volumes of classes": (sum(c["volume_ml"] for c in classes), lung),
        "volumes of zones": (sum(z["lung_ml"] for z in zones), lung),
        "lesions of zones": (sum(z["lesion_ml"] for z in zones), lesion),
        "score": (dl_ild_percent(lesion, lung), document["dl_ild_percent"]),
    }
    for what, (found, expected) in pairs.items():
        agrees = bool(np.isclose(found, expected, rtol=1e-6, atol=ROUNDING * 10))
        yield Check(what, agrees, f"{found:.6g}" if agrees else f"{found:.6g}, not {expected:.6g}")


def _beyond_box(labels: Volume, start: Any, stop: Any) -> Check:
    inside = labels.array[tuple(slice(a, b) for a, b in zip(start, stop, strict=True))]
    beyond = int(np.count_nonzero(labels.array) - np.count_nonzero(inside))
    return Check(f"{LABELS}, beyond the lung box", not beyond, f"{beyond} labelled voxels")


def _weights(path: Path, expected: str) -> Check:
    sha = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while piece := file.read(1 << 20):
                sha.update(piece)
    except OSError as error:
        raise UnreadableFileError(f"{path.name}: {error.strerror}") from None
    return _same("weights", expected, f"sha256:{sha.hexdigest()}")


def _scan(
    volume: Volume, document: Mapping[str, Any], provenance: Mapping[str, Any]
) -> Iterator[Check]:
    yield _same("scan", provenance["scan"], volume.series.digest or "")
    z, y, x = document["grid"]["spacing_mm"]
    grid = resample_to_grid(volume, (z, y, x), HuRange(*provenance["hu_range"]))
    if list(grid.shape) != document["grid"]["shape"]:
        yield Check("preprocessing", False, f"a grid of {grid.shape}")
        return
    found = preprocessing_digest(volume.series.digest or "", grid, *_box(document))
    yield _same("preprocessing", provenance["preprocessing"], found)


def _objects(stored: StoredResult, labels: Volume | None) -> Iterator[Check]:
    """Check the DICOM files beside the result that this software made."""
    pydicom = load_pydicom()
    for path in sorted(stored.folder.glob("*.dcm")):
        try:
            with quiet():
                dataset = pydicom.dcmread(path)
                if dataset.get("Manufacturer") == MANUFACTURER:
                    yield from _object(path.name, dataset, stored.document, labels)
        except DlildError:
            raise
        except Exception:
            yield Check(path.name, False, "cannot be read")


def _object(
    name: str, dataset: Any, document: Mapping[str, Any], labels: Volume | None
) -> Iterator[Check]:
    digest = document["provenance"]["result"]
    if dataset.Modality == "SEG":
        yield from _segmentation(name, dataset, document, labels)
    elif dataset.Modality == "SR":
        yield from _report(name, dataset, document)
    elif dataset.Modality == "OT":
        comment = dataset.get("ImageComments", "")
        agrees = digest in comment
        yield Check(f"{name}, result", agrees, "refers to it" if agrees else "is of another")
        yield _pixels(name, dataset, comment)
    else:
        yield Check(name, None, "holds no digest")


def _pixels(name: str, dataset: Any, digests: str) -> Check:
    """Compare the pixels with their digest, which stands among others in a text."""
    found = pixels_digest(dataset.PixelData)
    agrees = found in digests
    return Check(f"{name}, pixels", agrees, found[:19] if agrees else "changed since it was made")


def _segmentation(
    name: str, dataset: Any, document: Mapping[str, Any], labels: Volume | None
) -> Iterator[Check]:
    digest = document["provenance"]["result"]
    segment = dataset.SegmentSequence[-1].SegmentationAlgorithmIdentificationSequence[0]
    parameters = segment.AlgorithmParameters
    agrees = digest in parameters
    yield Check(f"{name}, result", agrees, "refers to it" if agrees else "is of another")
    yield _pixels(name, dataset, parameters)
    yield _segments(name, dataset, document)
    if labels is None:
        return
    share = _agreement(dataset, labels)
    yield Check(
        f"{name}, label map", share >= SEG_AGREEMENT, f"{100 * share:.2f} % of its voxels agree"
    )


def _segments(name: str, dataset: Any, document: Mapping[str, Any]) -> Check:
    """Compare number, label and code of each segment with the class."""
    # A LABELMAP has its background as segment 0.
    for item in (i for i in dataset.SegmentSequence if i.SegmentNumber):
        kinds = [c for c in document["classes"].values() if c["label"] == item.SegmentNumber]
        code = item.SegmentedPropertyTypeCodeSequence[0]
        expected = (kinds[0].get("code") or {}).get("value", code.CodeValue) if kinds else None
        if not kinds or (item.SegmentLabel, code.CodeValue) != (kinds[0]["title"], expected):
            return Check(f"{name}, segments", False, f"{item.SegmentLabel} is no class")
    return Check(f"{name}, segments", True, f"{len(dataset.SegmentSequence)} classes")


def _agreement(dataset: Any, labels: Volume) -> float:
    """Share of the voxels labelled in SEG or map that have one label, on the slices of the SEG."""
    shared = dataset.SharedFunctionalGroupsSequence[0]
    orientation = np.array(
        shared.PlaneOrientationSequence[0].ImageOrientationPatient, dtype=np.float64
    )
    rows_mm, columns_mm = map(float, shared.PixelMeasuresSequence[0].PixelSpacing)
    positions: dict[tuple[float, ...], int] = {}
    frames = []
    for group in dataset.PerFrameFunctionalGroupsSequence:
        place = group.PlanePositionSequence[0].ImagePositionPatient
        k = positions.setdefault(tuple(map(float, place)), len(positions))
        segment = group.get("SegmentIdentificationSequence")
        frames.append((k, int(segment[0].ReferencedSegmentNumber) if segment else 0))
    normal = np.cross(orientation[:3], orientation[3:])
    origins = np.array(list(positions))
    order = np.argsort(origins @ normal, kind="stable")
    shape = (int(dataset.Rows), int(dataset.Columns))
    down, right = orientation[3:] * rows_mm, orientation[:3] * columns_mm
    native = sample(labels, Stack(origins[order], down, right, shape))
    found = np.zeros((len(origins), *shape), np.uint8)
    rank = np.argsort(order)
    for (k, label), plane in zip(frames, _planes(dataset, shape), strict=True):
        if label:
            found[rank[k]][plane > 0] = label
        else:
            found[rank[k]] = plane
    expected = np.zeros_like(found)
    expected[native.box] = native.array
    labelled = (found > 0) | (expected > 0)
    return float(np.mean(found[labelled] == expected[labelled])) if labelled.any() else 0.0


def _planes(dataset: Any, shape: tuple[int, int]) -> Iterator[npt.NDArray[np.uint8]]:
    raw = np.frombuffer(dataset.PixelData, np.uint8)
    size = shape[0] * shape[1]
    for n in range(int(dataset.NumberOfFrames)):
        if dataset.BitsAllocated == 8:
            yield raw[n * size : (n + 1) * size].reshape(shape)
            continue
        first, last = n * size // 8, -(-(n + 1) * size // 8)
        bits = np.unpackbits(raw[first:last], bitorder="little")
        yield bits[n * size - 8 * first :][:size].reshape(shape)


def _report(name: str, dataset: Any, document: Mapping[str, Any]) -> Iterator[Check]:
    texts = [i.TextValue for i in dataset.ContentSequence if i.ValueType == "TEXT"]
    agrees = document["provenance"]["result"] in texts
    yield Check(f"{name}, result", agrees, "refers to it" if agrees else "is of another")
    expected = _expected(document)
    found = dict(_measurements(dataset))
    differ = sorted(
        key for key in expected if not np.isclose(found.get(key, np.nan), expected[key], atol=1e-9)
    )
    shown = f"{len(expected)} measurements" if not differ else f"{' '.join(differ[0])} differs"
    yield Check(f"{name}, measurements", not differ, shown)
    notes = {text.partition(":")[0] for text in texts}
    flags = [flag for flag in document["flags"] if flag not in notes]
    yield Check(f"{name}, flags", not flags, f"lacks {flags[0]}" if flags else "all are there")


def _expected(document: Mapping[str, Any]) -> dict[tuple[str, str], float]:
    """Measurements that a report must hold: by group, and by value of the code."""
    found = {
        ("lungs", "DLILD"): document["dl_ild_percent"],
        ("lungs", "118565006"): document["lung_volume_ml"],
        ("lungs", "LESION-VOLUME"): document["lesion_volume_ml"],
    }
    for name, figures in document["classes"].items():
        found[name, "118565006"] = figures["volume_ml"]
        found[name, "LUNG-PERCENT"] = figures["percent_of_lung"]
        if figures.get("certainty") is not None:
            found[name, "CERTAINTY"] = figures["certainty"]
    for name, figures in document["zones"].items():
        found[name, "118565006"] = figures["lung_ml"]
        found[name, "LESION-VOLUME"] = figures["lesion_ml"]
    density = document.get("densitometry")
    if density is not None:
        for group, figures in (("lungs", density["lung"]), *density["zones"].items()):
            found |= {
                (group, code): figures[field]
                for code, field in DENSITY_CODES.items()
                if figures[field] is not None
            }
            for q, value in figures["percentiles_hu"].items():
                if value is not None:
                    found[group, MEDIAN if q == "50" else f"PERCENTILE-{q}"] = value
    return found | _repeatability(document)


def _repeatability(document: Mapping[str, Any]) -> dict[tuple[str, str], float]:
    """Coefficients of repeatability that a report must hold."""
    repeatability = document.get("repeatability") or {}
    return {
        ("lungs", code + suffix): repeatability[condition][field]
        for code, condition in REPEATABILITY.items()
        if condition in repeatability
        for suffix, field in (("", "coefficient"), ("-LOW", "low"), ("-HIGH", "high"))
    }


def _measurements(dataset: Any) -> Iterator[tuple[tuple[str, str], float]]:
    for container in dataset.ContentSequence:
        if container.ValueType != "CONTAINER":
            continue
        for group in container.ContentSequence:
            items = group.ContentSequence
            name = next(i.TextValue for i in items if i.ValueType == "TEXT").removeprefix("DL-ILD ")
            for item in items:
                if item.ValueType == "NUM":
                    code = _derivation(item) or item.ConceptNameCodeSequence[0].CodeValue
                    yield (name, code), float(item.MeasuredValueSequence[0].NumericValue)


def _derivation(item: Any) -> str:
    """Code of how a measurement was derived, such as skewness; empty where it has none."""
    for modifier in item.get("ContentSequence", ()):
        if modifier.ConceptNameCodeSequence[0].CodeValue == DERIVATION:
            return str(modifier.ConceptCodeSequence[0].CodeValue)
    return ""
