"""A study held against its label maps: every reader with the label map, and with every other."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from dlild_client.contract import Contract
from dlild_client.contract.score import dl_ild_percent
from dlild_client.errors import InputError, UnreadableFileError
from dlild_client.reading.read import read_volume
from dlild_client.volume import Volume
from dlild_export.evaluation.statistics import (
    Estimate,
    ScoreAgreement,
    agree,
    intraclass_correlation,
    mean,
)
from dlild_export.readers.figures import Figures, Table, figures, tabulate
from dlild_export.readers.slices import (
    Frame,
    Plane,
    ReadSlice,
    Side,
    read_labels,
    read_side,
    slice_uids,
)
from dlild_export.readers.study import LABELS, Study, StudyScan

LABEL_MAP = "label map"
"""Name of the side that is no reader."""

Score = Callable[[Volume], Volume]
"""From a CT to its label map."""


@dataclass(frozen=True, eq=False)
class SlicePlanes:
    """One slice of a comparison, for its picture.

    Attributes
    ----------
    title : str
        Scan, slice and sides.
    hu : ndarray of int16, shape (rows, columns), or None
    first, second : ndarray of uint8, shape (rows, columns)
    pixel_mm : tuple of float
        Height and width of a pixel.
    figures : Figures
    """

    title: str
    hu: Any
    first: Plane
    second: Plane
    pixel_mm: tuple[float, float]
    figures: Figures


_NAN = float("nan")

Draw = Callable[[SlicePlanes], str]
"""Draws a slice, and returns the name of the picture."""


@dataclass(frozen=True)
class SliceResult:
    """One slice that both sides read.

    Attributes
    ----------
    scan : str
    slice : int
        Counted from the lowest, which is 0.
    z_mm : float
    first_percent, second_percent : float
        Extent, percent of the lung.
    dice, sensitivity, precision : float
        NaN where a side gave the extent only.
    picture : str or None
    """

    scan: str
    slice: int
    z_mm: float
    first_percent: float
    second_percent: float
    dice: float
    sensitivity: float
    precision: float
    picture: str | None = None


@dataclass(frozen=True)
class ExtentAgreement:
    """Agreement of two sides' extents: Bland-Altman, correlations, and ICC(A,1).

    Differences are second minus first: measured minus read, in points.
    """

    score: ScoreAgreement
    icc: Estimate


@dataclass(frozen=True)
class ZoneResult:
    """One zone: percent of its lung, as read and as measured."""

    scan: str
    zone: str
    first_percent: float
    second_percent: float


@dataclass(frozen=True)
class Comparison:
    """Two sides over a study.

    Attributes
    ----------
    first, second : str
        A reader, and `label map` or another reader.
    figures : Figures or None
        Over all slices that both outlined, by area; None where there is none.
    scans : mapping of str to Figures
    slice_dice : Estimate
        Mean over the slices in which a side has a lesion.
    slices : tuple of SliceResult
        Those that were estimated only, too.
    zones : tuple of ZoneResult
    over_slices, over_scans, over_zones : ExtentAgreement or None
    """

    first: str
    second: str
    figures: Figures | None
    scans: Mapping[str, Figures]
    slice_dice: Estimate
    slices: tuple[SliceResult, ...]
    zones: tuple[ZoneResult, ...]
    over_slices: ExtentAgreement | None
    over_scans: ExtentAgreement | None
    over_zones: ExtentAgreement | None


@dataclass(frozen=True, eq=False)
class _ScanContext:
    """One scan: where its sides are compared."""

    scan: str
    frame: Frame
    label_map: dict[int, Plane]
    contract: Contract

    def result(self, k: int, **values: Any) -> SliceResult:
        frame = self.frame
        return SliceResult(self.scan, frame.from_feet(k), float(frame.z_mm[k]), **values)

    def plane(self, side: Side, k: int) -> Plane | None:
        """Labels of a side; where it outlined lesions only, the lung is that of the label map."""
        if k not in side.slices:
            return None
        read, contract = side.slices[k], self.contract
        if read.has_lung:
            return read.labels
        lung = np.isin(self.label_map[k], contract.lung_labels) & (read.labels == 0)
        plane: Plane = np.where(lung, np.uint8(contract.healthy_label), read.labels)
        return plane


@dataclass(eq=False)
class _Pair:
    """Two sides, filled scan by scan."""

    tables: dict[str, Table] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    slices: list[SliceResult] = field(default_factory=list)
    zones: list[ZoneResult] = field(default_factory=list)


def compare_study(
    study: Study,
    contract: Contract,
    *,
    score: Score | None = None,
    draw: Draw | None = None,
    progress: Callable[[str], None] | None = None,
) -> list[Comparison]:
    """Compare every reader of a study with the label maps, and with every other reader.

    Parameters
    ----------
    study : Study
    contract : Contract
        The classes.
    score : callable, optional
        Makes the label maps from the CTs, in place of those of the study.
    draw : callable, optional
        Draws each slice that was outlined.
    progress : callable, optional
        Called with a line about each scan.

    Returns
    -------
    list of Comparison
        Readers with the label map first.

    Raises
    ------
    InputError
        A file of the study cannot be used; the message names the scan.
    """
    pairs: dict[tuple[str, str], _Pair] = {}
    for scan in study.scans:
        try:
            _compare_scan(scan, contract, pairs, score, draw)
        except InputError as error:
            raise type(error)(f"{scan.name}: {error}") from None
        if progress:
            progress(f"{scan.name}: {', '.join(scan.readers)}")
    order = sorted(pairs, key=lambda pair: pair[1] != LABEL_MAP)
    found = [_sum_up(*pair, pairs[pair], contract) for pair in order]
    found = [comparison for comparison in found if comparison.slices or comparison.zones]
    if not found:
        raise InputError("no slice and no zone was read by two sides: nothing can be compared")
    return found


def _compare_scan(
    scan: StudyScan,
    contract: Contract,
    pairs: dict[tuple[str, str], _Pair],
    score: Score | None,
    draw: Draw | None,
) -> None:
    volume = read_volume(scan.scan) if scan.scan else None
    labels, zones = _label_map(scan, volume, contract, score)
    frame = _frame(scan, volume, labels)
    sides = {name: read_side(files, frame, contract) for name, files in scan.readers.items()}
    for side in sides.values():
        if unknown := side.zones.keys() - zones.keys():
            known = ", ".join(sorted(zones)) or "none: give its result.json"
            raise InputError(f"zone {sorted(unknown)[0]!r} is none of the result's ({known})")
    read = sorted({k for side in sides.values() for k in (*side.slices, *side.extents)})
    context = _ScanContext(scan.name, frame, {k: frame.look_up(labels, k) for k in read}, contract)
    sides[LABEL_MAP] = Side({k: ReadSlice(context.label_map[k], True) for k in read}, zones=zones)
    for names in combinations(sides, 2):
        pair = pairs.setdefault(names, _Pair())
        first, second = (sides[name] for name in names)
        for k in read:
            _add_slice(pair, names, (first, second), k, context, draw)
        for zone in sorted(first.zones.keys() & second.zones.keys()):
            pair.zones.append(ZoneResult(scan.name, zone, first.zones[zone], second.zones[zone]))


def _label_map(
    scan: StudyScan, volume: Volume | None, contract: Contract, score: Score | None
) -> tuple[Volume, dict[str, float]]:
    """Label map, and the percent of lesion in each zone where the result has it."""
    if score is not None:
        if volume is None:
            raise InputError("to be scored it needs its CT: give `scan`")
        return score(volume), {}
    if scan.result is None:
        raise InputError("no label map: give `result`, or --weights to score the CT")
    if not scan.result.is_dir():
        return read_labels(scan.result, contract), {}
    path = scan.result / LABELS
    if not path.is_file():
        raise UnreadableFileError(
            f"{scan.result.name}: no {LABELS} in it; score the scan with --out"
        )
    return read_labels(path, contract), _zones(scan.result / "result.json", contract)


def _zones(path: Path, contract: Contract) -> dict[str, float]:
    if not path.is_file():
        return {}
    try:
        document = json.loads(path.read_text("utf-8"))
        labels = {name: entry["label"] for name, entry in document["classes"].items()}
        zones = {
            str(name): dl_ild_percent(zone["lesion_ml"], zone["lung_ml"])
            for name, zone in document["zones"].items()
            if zone["lung_ml"] > 0
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UnreadableFileError(f"{path.name}: no result of DL-ILD: {error}") from None
    ours = {c.name: c.label for c in contract.classes}
    if other := [name for name, label in labels.items() if ours.get(name) != label]:
        raise InputError(
            f"{path.name}: class {other[0]!r} has label {labels[other[0]]} there, but "
            f"{ours.get(other[0], 'none')} in the contract: give --repository of that model"
        )
    return zones


def _frame(scan: StudyScan, volume: Volume | None, labels: Volume) -> Frame:
    try:
        if volume is None or scan.scan is None:
            return Frame(labels, False, {})
        return Frame(volume, True, slice_uids(scan.scan))
    except InputError as error:
        name = (scan.scan or scan.result or Path(scan.name)).name
        raise InputError(f"{name}: {error}") from None


def _add_slice(
    pair: _Pair,
    names: tuple[str, str],
    sides: tuple[Side, Side],
    k: int,
    context: _ScanContext,
    draw: Draw | None,
) -> None:
    """Compare one slice, if both sides read it."""
    first, second = (context.plane(side, k) for side in sides)
    if first is None or second is None:
        extents = [_extent(side, k, context) for side in sides]
        if extents[0] is not None and extents[1] is not None:
            shares = dict.fromkeys(("dice", "sensitivity", "precision"), _NAN)
            pair.slices.append(
                context.result(k, first_percent=extents[0], second_percent=extents[1], **shares)
            )
        return
    frame, scan = context.frame, context.scan
    pixel_mm = frame.volume.spacing_mm[1:]
    hu = frame.volume.array[k] if frame.is_ct else None
    table = tabulate(first, second, context.contract, pixel_mm, hu)
    found = figures(table, 1, context.contract)
    pair.tables[scan] = pair.tables.get(scan, 0) + table
    pair.counts[scan] = pair.counts.get(scan, 0) + 1
    picture = None
    if draw:
        title = f"{scan}, z {frame.z_mm[k]:g} mm, {names[0]} and {names[1]}"
        picture = draw(SlicePlanes(title, hu, first, second, pixel_mm, found))
    pair.slices.append(
        context.result(
            k,
            first_percent=found.first_percent,
            second_percent=found.second_percent,
            dice=found.dice,
            sensitivity=found.sensitivity,
            precision=found.precision,
            picture=picture,
        )
    )


def _extent(side: Side, k: int, context: _ScanContext) -> float | None:
    if k in side.extents:
        return side.extents[k]
    plane = context.plane(side, k)
    if plane is None:
        return None
    table = tabulate(plane, plane, context.contract, (1.0, 1.0), None)
    return figures(table, 1, context.contract).first_percent


def _sum_up(first: str, second: str, pair: _Pair, contract: Contract) -> Comparison:
    scans = {name: figures(pair.tables[name], pair.counts[name], contract) for name in pair.tables}
    whole = np.sum(list(pair.tables.values()), axis=0) if pair.tables else None
    slices = [(s.first_percent, s.second_percent) for s in pair.slices]
    return Comparison(
        first=first,
        second=second,
        figures=None if whole is None else figures(whole, sum(pair.counts.values()), contract),
        scans=scans,
        slice_dice=mean([s.dice for s in pair.slices]),
        slices=tuple(pair.slices),
        zones=tuple(pair.zones),
        over_slices=_agreement(slices),
        over_scans=_agreement([(f.first_percent, f.second_percent) for f in scans.values()]),
        over_zones=_agreement([(z.first_percent, z.second_percent) for z in pair.zones]),
    )


def _agreement(pairs: list[tuple[float, float]]) -> ExtentAgreement | None:
    """Agreement of extents; slices without lung on a side have none, and do not count."""
    known = np.asarray([pair for pair in pairs if np.isfinite(pair).all()], np.float64)
    if not len(known):
        return None
    return ExtentAgreement(agree(known[:, 0], known[:, 1]), intraclass_correlation(known))
