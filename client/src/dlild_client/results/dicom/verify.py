"""Verifies DICOM objects against the documents that they were made of.

All that an object says must follow from `result.json` or `comparison.json`. The content of an SR is
made again and compared item by item: measurements, units, codes, texts, identifiers. UIDs of other
objects do not follow from a document: those that the SR names are taken for granted, and must be
among its evidence.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dlild_client.errors import BadSettingsError, DlildError
from dlild_client.preparation.native import Stack, sample
from dlild_client.reading.dicom.dicomlib import load_pydicom, quiet
from dlild_client.results.checks import Check, refers
from dlild_client.results.compare import Comparison
from dlild_client.results.dicom import capture, change, report, segmentation
from dlild_client.results.dicom.codes import AI, COMMENT, PRIVATE, category_in, code_in
from dlild_client.results.dicom.common import MANUFACTURER, algorithm_parameters, serial_number
from dlild_client.results.dicom.extra import load_highdicom
from dlild_client.results.dicom.uids import derive_uid, pixels_digest
from dlild_client.results.result import ModelUsed
from dlild_client.volume import Volume

SEG_AGREEMENT = 0.999
"""Least share of labelled voxels of a SEG that must have the label of the map: positions in DICOM
are rounded."""
IMAGING_MEASUREMENTS = "126010"
TRACKING = "112039"
TIME_POINT_ORDER = "126073"
SCAN_REPORT, RESULT_DIGEST = "SCAN-REPORT", "RESULT-DIGEST"

MEASUREMENTS, FLAGS, CONTENTS = "measurements", "flags", "texts and codes"
"""Parts of a report that are reported apart."""

Item = tuple[Any, ...]
Objects = Mapping[str, Any]
"""Data sets by the name of their file."""


def read_objects(folder: Path) -> tuple[Objects, list[Check]]:
    """Read the DICOM files of a folder that this software made; also what cannot be read."""
    pydicom = load_pydicom()
    found, faults = {}, []
    for path in sorted(folder.glob("*.dcm")):
        try:
            with quiet():
                dataset = pydicom.dcmread(path)
                ours = dataset.get("Manufacturer") == MANUFACTURER
        except Exception:
            faults.append(Check(path.name, False, "cannot be read"))
            continue
        if ours:
            found[path.name] = dataset
    return found, faults


def check_objects(
    objects: Objects, document: Mapping[str, Any], labels: Volume | None
) -> Iterator[Check]:
    """Check the objects of a result against its document, its label map and each other.

    Parameters
    ----------
    objects : mapping
        From `read_objects`.
    document : mapping
        Fields of `result.json`.
    labels : Volume or None
        The label map, where it is there.

    Yields
    ------
    Check
    """
    segs = [d for d in objects.values() if d.get("SOPClassUID") == segmentation.SEG_CLASS]
    for name, dataset in objects.items():
        modality = dataset.get("Modality")
        checks: Iterator[Check]
        if modality == "SEG":
            checks = _segmentation(name, dataset, document, labels)
        elif modality == "SR" and not _scan_reports(dataset):
            checks = _report(name, dataset, document, segs)
        elif modality == "OT":
            checks = _capture(name, dataset, document)
        elif modality == "DOC":
            checks = _pdf(name, dataset, document)
        else:
            continue
        yield from _readable(name, checks)


def check_change(objects: Objects, comparison: Comparison) -> Iterator[Check]:
    """Check the reports of a comparison against it.

    Parameters
    ----------
    objects : mapping
        From `read_objects`.
    comparison : Comparison

    Yields
    ------
    Check
    """
    for name, dataset in objects.items():
        if dataset.get("Modality") == "SR" and _scan_reports(dataset):
            yield from _readable(name, _change(name, dataset, comparison))


def _readable(name: str, checks: Iterator[Check]) -> Iterator[Check]:
    """Pass checks on; one that fails where an object breaks the rules of DICOM is a difference."""
    try:
        with quiet():
            yield from checks
    except DlildError:
        raise
    except Exception:
        yield Check(name, False, "cannot be read")


def _has_extra() -> bool:
    try:
        load_highdicom()
    except BadSettingsError:
        return False
    return True


def _header(name: str, dataset: Any, document: Mapping[str, Any], description: str) -> Check:
    """Compare the descriptions of an object, which say what made it, and that it is for research.

    The serial number is the start of the digest of the weights.
    """
    model = ModelUsed(**document["model"])
    expected = {"SeriesDescription": description, "ManufacturerModelName": model.name}
    if "DeviceSerialNumber" in dataset or dataset.Modality in {"SEG", "SR"}:
        expected["DeviceSerialNumber"] = serial_number(model)
    return _attributes(f"{name}, header", dataset, expected)


def _attributes(what: str, dataset: Any, expected: Mapping[str, Any]) -> Check:
    for attribute, value in expected.items():
        found = str(dataset.get(attribute, ""))
        if found != str(value):
            return Check(what, False, f"{attribute} is {found[:64]!r}, not {str(value)[:64]!r}")
    return Check(what, True, f"{len(expected)} attributes")


def _pixels(name: str, dataset: Any, digests: str) -> Check:
    """Compare the pixels with their digest, which stands among others in a text."""
    found = pixels_digest(dataset.PixelData)
    agrees = found in digests
    return Check(f"{name}, pixels", agrees, found[:19] if agrees else "changed since it was made")


# ---- capture and PDF -------------------------------------------------------------------------


def _capture(name: str, dataset: Any, document: Mapping[str, Any]) -> Iterator[Check]:
    comment = dataset.get("ImageComments", "")
    digest = document["provenance"]["result"]
    yield refers(f"{name}, result", digest in comment)
    yield _pixels(name, dataset, comment)
    yield _header(name, dataset, document, capture.CAPTURE_DESCRIPTION)
    pixels = re.search(r"sha256:[0-9a-f]{64}$", comment)
    expected = capture.comment(digest, pixels[0] if pixels else "")
    yield _attributes(f"{name}, texts", dataset, {"ImageComments": expected})


def _pdf(name: str, dataset: Any, document: Mapping[str, Any]) -> Iterator[Check]:
    content = dataset.EncapsulatedDocument[: dataset.EncapsulatedDocumentLength]
    page, result, digest = capture.split_pdf(content)
    if not digest:
        yield Check(name, None, "holds no digest")
    else:
        yield refers(f"{name}, result", result == document["provenance"]["result"])
        agrees = pixels_digest(page) == digest
        found = digest[:19] if agrees else "changed since it was made"
        yield Check(f"{name}, page", agrees, found)
    yield _header(name, dataset, document, capture.PDF_DESCRIPTION)
    yield _attributes(f"{name}, texts", dataset, {"DocumentTitle": capture.PDF_TITLE})


# ---- SEG -------------------------------------------------------------------------------------


def _segmentation(
    name: str, dataset: Any, document: Mapping[str, Any], labels: Volume | None
) -> Iterator[Check]:
    segment = dataset.SegmentSequence[-1].SegmentationAlgorithmIdentificationSequence[0]
    parameters = segment.AlgorithmParameters
    yield refers(f"{name}, result", document["provenance"]["result"] in parameters)
    yield _pixels(name, dataset, parameters)
    yield _header(name, dataset, document, segmentation.DESCRIPTION)
    content = {
        "ContentLabel": segmentation.CONTENT_LABEL,
        "ContentDescription": segmentation.CONTENT_DESCRIPTION,
    }
    yield _attributes(f"{name}, texts", dataset, content)
    yield _segments(name, dataset, document)
    if labels is None:
        return
    share = _agreement(dataset, labels)
    yield Check(
        f"{name}, label map", share >= SEG_AGREEMENT, f"{100 * share:.2f} % of its voxels agree"
    )


def _segments(name: str, dataset: Any, document: Mapping[str, Any]) -> Check:
    """Compare number, label, codes, colour and algorithm of each segment with the class."""
    what = f"{name}, segments"
    # A LABELMAP has its background as segment 0.
    items = {int(i.SegmentNumber): i for i in dataset.SegmentSequence if i.SegmentNumber}
    classes = {int(c["label"]): (key, c) for key, c in document["classes"].items()}
    for number in items.keys() ^ classes.keys():
        there = "no class" if number in items else "missing"
        return Check(what, False, f"segment {number} is {there}")
    digests = [f"{name}={value}" for name, value in algorithm_parameters(document).items()]
    model = document["model"]
    for number, item in items.items():
        key, figures = classes[number]
        (algorithm,) = item.SegmentationAlgorithmIdentificationSequence
        found: dict[str, Any] = {
            "label": str(item.SegmentLabel),
            "category": _triple(item.SegmentedPropertyCategoryCodeSequence[0]),
            "code": _triple(item.SegmentedPropertyTypeCodeSequence[0]),
            "tracking": (str(item.TrackingID), str(item.TrackingUID)),
            "algorithm": (
                str(item.SegmentAlgorithmType),
                str(algorithm.AlgorithmName),
                str(algorithm.AlgorithmVersion),
                _triple(algorithm.AlgorithmFamilyCodeSequence[0]),
            ),
        }
        expected: dict[str, Any] = {
            "label": figures["title"],
            "category": _triple(category_in(figures)),
            "code": _triple(code_in(figures)),
            "tracking": (key, derive_uid(str(dataset.SOPInstanceUID), "segment", key)),
            "algorithm": (
                "AUTOMATIC",
                PRIVATE["DLILD"],
                f"{model['name']} {model['version']}",
                AI,
            ),
        }
        # Changed pixels have a check of their own.
        if str(algorithm.AlgorithmParameters).partition(",pixels=")[0] != ",".join(digests):
            return Check(what, False, f"segment {number}: its digests differ")
        if "colour" in figures and _has_extra():
            colour = load_highdicom().color.CIELabColor.from_rgb(*figures["colour"])
            expected["colour"] = tuple(map(int, colour.value))
            found["colour"] = tuple(map(int, item.RecommendedDisplayCIELabValue))
        for field, value in expected.items():
            if found[field] != value:
                return Check(what, False, f"segment {number}: {field} {found[field]}, not {value}")
    return Check(what, True, f"{len(items)} classes")


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


# ---- SR --------------------------------------------------------------------------------------


def _report(
    name: str, dataset: Any, document: Mapping[str, Any], segs: Sequence[Any]
) -> Iterator[Check]:
    digest = document["provenance"]["result"]
    yield refers(f"{name}, result", digest in _texts(dataset, RESULT_DIGEST))
    yield _header(name, dataset, document, report.DESCRIPTION)
    seg, series = _first_segment(_groups(dataset))
    yield from _contents(name, dataset, lambda: report.report_content(document, seg, series))
    yield _evidence_of(name, dataset, [seg], segs)


def _change(name: str, dataset: Any, comparison: Comparison) -> Iterator[Check]:
    results = [result.document for result in comparison.results]
    digests = [(document.get("provenance") or {}).get("result") for document in results]
    known = [digest for digest in digests if digest]
    yield refers(f"{name}, results", known == _texts(dataset, RESULT_DIGEST))
    yield _header(name, dataset, results[-1], change.DESCRIPTION)
    evidence = {uid: series for series, uid in _evidence(dataset)}
    reports = [*_scan_reports(dataset), *[""] * len(results)][: len(results)]
    references = []
    for order, uid in enumerate(reports, start=1):
        groups = [g for g in _groups(dataset) if _order(g) == order]
        seg, series = _first_segment(groups)
        references.append(
            change.References(series, (evidence.get(seg, ""), seg), (evidence.get(uid, ""), uid))
        )
    yield from _contents(name, dataset, lambda: change.change_content(comparison, references))
    yield _evidence_of(name, dataset, [r.seg[1] for r in references] + reports, ())


def _contents(name: str, dataset: Any, make: Callable[[], Any]) -> Iterator[Check]:
    """Compare the content of a report with that which is made again."""
    if not _has_extra():
        for part in (MEASUREMENTS, FLAGS, CONTENTS):
            yield Check(f"{name}, {part}", None, "needs pip install 'dlild-client[dicom]'")
        return
    expected, found = Counter(_items(make())), Counter(_items(dataset))
    lacking, further = [*(expected - found)], [*(found - expected)]
    for part in (MEASUREMENTS, FLAGS, CONTENTS):
        lost = [one for one in lacking if _part(one[1]) == part]
        more = [one for one in further if _part(one[1]) == part]
        count = sum(n for one, n in expected.items() if _part(one[1]) == part)
        shown = _shown_difference(lost, more) or f"{count} agree"
        yield Check(f"{name}, {part}", not lost and not more, shown)


def _shown_difference(lost: Sequence[Item], more: Sequence[Item]) -> str:
    if lost:
        group, item = lost[0]
        others = [o for g, o in more if g == group and o[1][:2] == item[1][:2]]
        instead = f"is {_value(others[0])}, not" if others else "lacks"
        return f"{group}: {item[1][2]} {instead} {_value(item)}"
    if more:
        group, item = more[0]
        return f"{group}: has {item[1][2]} {_value(item)}"
    return ""


def _value(item: Item) -> str:
    value = item[3]
    if isinstance(value, tuple):
        value = " ".join(str(v[0] if isinstance(v, tuple) else v) for v in value)
    return str(value)[:48]


def _part(item: Item) -> str:
    kind, name = item[0], item[1][0]
    if kind == "NUM":
        return MEASUREMENTS
    return FLAGS if name in {"FLAG", "DIFFERS", COMMENT[0]} else CONTENTS


def _items(root: Any) -> Iterator[tuple[str, Item]]:
    """Content items of a report, each with what lies below it, by the group that they are in."""
    yield "report", _item(root, below=False)
    for item in root.ContentSequence:
        if _name(item)[0] != IMAGING_MEASUREMENTS:
            yield "report", _item(item)
            continue
        yield "report", _item(item, below=False)
        for group in item.ContentSequence:
            order = _order(group)
            name = _tracking(group) + (f", scan {order:.0f}" if order is not None else "")
            yield name, _item(group, below=False)
            for one in group.ContentSequence:
                yield name, _item(one)


def _item(item: Any, *, below: bool = True) -> Item:
    """Content item as plain values: kind, name, relationship, value, and the items below it."""
    kind = str(item.ValueType)
    value: Any = None
    if kind == "NUM":
        measured = item.MeasuredValueSequence[0]
        unit = _triple(measured.MeasurementUnitsCodeSequence[0])
        value = (f"{float(measured.NumericValue):.9g}", unit)
    elif kind == "CODE":
        value = _triple(item.ConceptCodeSequence[0])
    elif kind == "TEXT":
        value = str(item.TextValue)
    elif kind == "UIDREF":
        value = str(item.UID)
    elif kind in {"IMAGE", "COMPOSITE"}:
        value = tuple(
            (
                str(one.ReferencedSOPInstanceUID),
                str(one.ReferencedSOPClassUID),
                str(one.get("ReferencedSegmentNumber", "")),
            )
            for one in item.ReferencedSOPSequence
        )
    elif kind == "CONTAINER":
        templates = item.get("ContentTemplateSequence", ())
        value = (
            str(item.ContinuityOfContent),
            *(str(template.TemplateIdentifier) for template in templates),
        )
    children = tuple(_item(one) for one in item.get("ContentSequence", ())) if below else ()
    return kind, _name(item), str(item.get("RelationshipType", "")), value, children


def _name(item: Any) -> tuple[str, str, str]:
    names = item.get("ConceptNameCodeSequence")
    return _triple(names[0]) if names else ("", "", "")


def _triple(code: Any) -> tuple[str, str, str]:
    """Value, scheme and meaning of a code, of a data set or of pydicom's `Code`."""
    if hasattr(code, "CodeValue"):
        return str(code.CodeValue), str(code.CodingSchemeDesignator), str(code.CodeMeaning)
    return str(code.value), str(code.scheme_designator), str(code.meaning)


def _groups(dataset: Any) -> list[Any]:
    return [
        group
        for item in dataset.ContentSequence
        if _name(item)[0] == IMAGING_MEASUREMENTS
        for group in item.ContentSequence
    ]


def _tracking(group: Any) -> str:
    for item in group.ContentSequence:
        if _name(item)[0] == TRACKING:
            return str(item.TextValue).removeprefix("DL-ILD ")
    return "group"


def _order(group: Any) -> float | None:
    """Order of the scan that a group is of; None where it is of a change, or of a single scan."""
    for item in group.ContentSequence:
        if _name(item)[0] == TIME_POINT_ORDER:
            return float(item.MeasuredValueSequence[0].NumericValue)
    return None


def _first_segment(groups: Sequence[Any]) -> tuple[str, str]:
    """UIDs of the SEG and of the series that groups refer to first; empty where they do not."""
    for group in groups:
        seg = [i for i in group.ContentSequence if i.ValueType == "IMAGE"]
        series = [i for i in group.ContentSequence if i.ValueType == "UIDREF"]
        source = [i for i in series if _name(i)[0] == SOURCE_SERIES]
        if seg and source:
            uid = str(seg[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID)
            return uid, str(source[0].UID)
    return "", ""


SOURCE_SERIES = "121232"


def _texts(dataset: Any, code: str) -> list[str]:
    return [str(i.TextValue) for i in dataset.ContentSequence if _name(i)[0] == code]


def _scan_reports(dataset: Any) -> list[str]:
    """UIDs of the reports that a comparison refers to; empty for the report of a result."""
    return [
        str(item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID)
        for item in dataset.get("ContentSequence", ())
        if _name(item)[0] == SCAN_REPORT
    ]


def _evidence(dataset: Any) -> Iterator[tuple[str, str]]:
    """Series and object of each item of evidence."""
    for name in ("CurrentRequestedProcedureEvidenceSequence", "PertinentOtherEvidenceSequence"):
        for study in dataset.get(name, ()):
            for series in study.ReferencedSeriesSequence:
                for one in series.ReferencedSOPSequence:
                    yield str(series.SeriesInstanceUID), str(one.ReferencedSOPInstanceUID)


def _evidence_of(name: str, dataset: Any, uids: Sequence[str], segs: Sequence[Any]) -> Check:
    """Objects that a report names are in its evidence; the SEG beside it is the one it names."""
    what = f"{name}, references"
    there = {uid for _, uid in _evidence(dataset)}
    if any(uid not in there for uid in uids if uid):
        return Check(what, False, "an object that it names is not in its evidence")
    for seg in segs:
        if seg.SOPInstanceUID not in there:
            return Check(what, False, "the SEG beside it is another")
        slices = {
            str(one.ReferencedSOPInstanceUID)
            for series in seg.ReferencedSeriesSequence
            for one in series.ReferencedInstanceSequence
        }
        if not slices <= there:
            return Check(what, False, "the SEG beside it is of other slices")
    return Check(what, True, f"{len(there)} objects")
