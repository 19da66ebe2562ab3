"""Checks of an SR against its document.

The content is made again and compared item by item: measurements, units, codes, texts,
identifiers. UIDs of other objects do not follow from a document: those that the SR names are taken
for granted, and must be among its evidence.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from dlild_client.results.checks import Check, refers
from dlild_client.results.compare import Comparison
from dlild_client.results.dicom import change, report
from dlild_client.results.dicom.codes import COMMENT
from dlild_client.results.dicom.verify.attributes import check_header, has_extra, triple

IMAGING_MEASUREMENTS = "126010"
TRACKING = "112039"
TIME_POINT_ORDER = "126073"
SOURCE_SERIES = "121232"
SCAN_REPORT, RESULT_DIGEST = "SCAN-REPORT", "RESULT-DIGEST"

MEASUREMENTS, FLAGS, CONTENTS = "measurements", "flags", "texts and codes"
"""Parts of a report that are reported apart."""

CONSTANT = {
    "SOPClassUID": "1.2.840.10008.5.1.4.1.1.88.33",
    "CompletionFlag": "COMPLETE",
    "VerificationFlag": "UNVERIFIED",
    "PreliminaryFlag": "PRELIMINARY",
}
"""Attributes of every report: nobody has verified it."""

Item = tuple[Any, ...]


def check_report(
    name: str, dataset: Any, document: Mapping[str, Any], segs: Sequence[Any]
) -> Iterator[Check]:
    """Check the report of a result, and its references to the SEGs beside it."""
    digest = document["provenance"]["result"]
    yield refers(f"{name}, result", digest in _texts(dataset, RESULT_DIGEST))
    yield check_header(name, dataset, document, report.DESCRIPTION, CONSTANT)
    seg, series = _first_segment(_groups(dataset))
    yield from _contents(name, dataset, lambda: report.report_content(document, seg, series))
    yield _evidence_of(name, dataset, [seg], segs)


def check_change(name: str, dataset: Any, comparison: Comparison) -> Iterator[Check]:
    """Check the report of a comparison."""
    results = [result.document for result in comparison.results]
    digests = [(document.get("provenance") or {}).get("result") for document in results]
    known = [digest for digest in digests if digest]
    yield refers(f"{name}, results", known == _texts(dataset, RESULT_DIGEST))
    yield check_header(name, dataset, results[-1], change.DESCRIPTION, CONSTANT)
    evidence = {uid: series for series, uid in _evidence(dataset)}
    reports = [*scan_reports(dataset), *[""] * len(results)][: len(results)]
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
    if not has_extra():
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
        unit = triple(measured.MeasurementUnitsCodeSequence[0])
        value = (_number(measured), unit)
    elif kind == "CODE":
        value = triple(item.ConceptCodeSequence[0])
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


def _number(measured: Any) -> str:
    """Write the number of a measurement, also the double that stands beside it, if that differs."""
    number = f"{float(measured.NumericValue):.9g}"
    double = f"{float(measured.get('FloatingPointValue', measured.NumericValue)):.9g}"
    return number if number == double else f"{number} ({double} as double)"


def _name(item: Any) -> tuple[str, str, str]:
    names = item.get("ConceptNameCodeSequence")
    return triple(names[0]) if names else ("", "", "")


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


def _texts(dataset: Any, code: str) -> list[str]:
    return [str(i.TextValue) for i in dataset.ContentSequence if _name(i)[0] == code]


def scan_reports(dataset: Any) -> list[str]:
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
