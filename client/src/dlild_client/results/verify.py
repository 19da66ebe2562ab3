"""Verifies the files of a result or a comparison against each other, a scan and its weights.

What `result.json`, the label map and the DICOM objects say must follow from each other: digests,
sums, every segment's voxels, every measurement. That finds files of different results, damage and
edits by hand; it is no signature: who changes a file may compute its digests again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dlild_client.contract import HuRange
from dlild_client.contract.score import dl_ild_percent
from dlild_client.errors import BadSettingsError, UnreadableFileError, printable
from dlild_client.preparation.grid import resample_to_grid
from dlild_client.results.checks import Check, same
from dlild_client.results.compare import is_comparison, read_comparison
from dlild_client.results.dicom.verify.objects import (
    check_comparison,
    check_objects,
    read_objects,
)
from dlild_client.results.provenance import (
    document_digest,
    labels_digest,
    preprocessing_digest,
)
from dlild_client.results.stored import (
    COMPARISON,
    COMPARISON_PAGE,
    LABELS,
    OVERLAY,
    READING,
    REPORT,
    RESULT,
    StoredResult,
    read_stored,
)
from dlild_client.volume import Volume

ROUNDING = 1e-4
"""Numbers of a document are rounded to six decimals."""
PAGES = (OVERLAY, REPORT, READING)
"""Files of a result that hold no digest."""


def verify_folder(
    path: Path, read_scan: Callable[[], Volume] | None = None, weights: Path | None = None
) -> list[Check]:
    """Verify what lies in a folder: a result, a comparison, or both.

    Parameters
    ----------
    path : Path
        Folder of a result or of a comparison, or the JSON file of one.
    read_scan : callable, optional
        Reads the scan that was scored, to compute its digests again.
    weights : Path, optional
        File of the network.

    Returns
    -------
    list of Check

    Raises
    ------
    BadSettingsError
        There is neither, or there is a comparison alone, and a scan or weights were given.
    InputError
        A document or the scan cannot be read.
    """
    compared = path / COMPARISON if path.is_dir() else path
    if path.is_dir() and (path / RESULT).exists():
        checks = verify_result(path, read_scan, weights)
        return [*checks, *verify_comparison(compared)] if compared.is_file() else checks
    if not is_comparison(compared):
        return verify_result(path, read_scan, weights)
    if read_scan is not None or weights is not None:
        raise BadSettingsError(
            f"{printable(compared.name)}: a comparison; scans and weights are those of its "
            "results: give them with the folder of each result"
        )
    return verify_comparison(compared)


def verify_comparison(path: Path) -> list[Check]:
    """Verify a comparison, and the SR beside it.

    It is computed again from the figures of its results, which it holds.

    Parameters
    ----------
    path : Path
        The JSON file.

    Returns
    -------
    list of Check

    Raises
    ------
    UnreadableFileError
        It is no comparison, or of an earlier version.
    """
    document, comparison = read_comparison(path)
    again = comparison.to_dict()
    checks = [same(f"{path.name}, its digest", document["digest"], document_digest(document))]
    for part in ("total", "steps", "slope"):
        agrees = again[part] == document.get(part)
        shown = "follows from the results" if agrees else "does not follow from the results"
        checks.append(Check(f"{path.name}, {part}", agrees, shown))
    objects, faults = read_objects(path.parent)
    checks += [*faults, *check_comparison(objects, comparison)]
    page = path.parent / COMPARISON_PAGE
    return [*checks, Check(page.name, None, "holds no digest")] if page.is_file() else checks


def verify_result(
    path: Path, read_scan: Callable[[], Volume] | None = None, weights: Path | None = None
) -> list[Check]:
    """Verify a result.

    Parameters
    ----------
    path : Path
        Folder of a result, or its JSON file.
    read_scan, weights
        As of `verify_folder`.

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
        same("result.json, its digest", provenance["result"], document_digest(document)),
        *_sums(document),
        same("weights, by result.json", provenance["weights"], document["model"]["weights_digest"]),
        same("scan, by result.json", provenance["scan"], document["series"].get("digest") or ""),
    ]
    labels = None
    if stored.file(LABELS) is None:
        checks.append(Check(LABELS, None, "is not there"))
    else:
        labels = stored.labels()
        start, stop = _box(document)
        found = labels_digest(labels.array, start, stop)
        checks.append(same(LABELS, provenance["labels"], found))
        checks.append(_beyond_box(labels, start, stop))
    objects, faults = read_objects(stored.folder)
    checks += [*faults, *check_objects(objects, document, labels)]
    checks += [Check(n, None, "holds no digest") for n in PAGES if stored.file(n) is not None]
    if weights is not None:
        checks.append(_weights(weights, provenance["weights"]))
    if read_scan is not None:
        checks += _scan(read_scan(), document, provenance)
    return checks


def _box(document: Mapping[str, Any]) -> tuple[Any, Any]:
    box = document["grid"]["box"]
    return tuple(box["start"]), tuple(box["stop"])


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
    return same("weights", expected, f"sha256:{sha.hexdigest()}")


def _scan(
    volume: Volume, document: Mapping[str, Any], provenance: Mapping[str, Any]
) -> Iterator[Check]:
    yield same("scan", provenance["scan"], volume.series.digest or "")
    z, y, x = document["grid"]["spacing_mm"]
    grid = resample_to_grid(volume, (z, y, x), HuRange(*provenance["hu_range"]))
    if list(grid.shape) != document["grid"]["shape"]:
        yield Check("preprocessing", False, f"a grid of {grid.shape}")
        return
    found = preprocessing_digest(volume.series.digest or "", grid, *_box(document))
    yield same("preprocessing", provenance["preprocessing"], found)
