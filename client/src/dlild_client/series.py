"""Which series of a folder is the chest CT, and why not the others.

Set aside, each with a reason: other modalities; localizers; captures and projections (MIP, MinIP);
slices without geometry; coronal and sagittal reformats; multi-frame objects; stacks whose geometry
does not add up; stacks with too few slices or too little coverage.

Of what remains, the best by this ranking is scored:

1. more coverage along the body, in steps of 20 mm, up to 240 mm (a pair of lungs);
2. the header names the chest;
3. original before derived;
4. smaller step between slices;
5. more slices;
6. lower series number, then digest, so that the choice never depends on file names.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from dlild_client.errors import (
    InputError,
    MissingGeometry,
    MixedShape,
    NoSeries,
    NotCT,
    SeveralStudies,
    TooFewSlices,
    UnreadableFile,
)
from dlild_client.geometry import (
    Stack,
    Tolerances,
    common_orientation,
    regular_stack,
    repeated_positions,
)
from dlild_client.headers import SliceHeader

LOCALIZERS = {"LOCALIZER", "SCOUT", "TOPOGRAM", "SURVIEW", "SCANOGRAM"}
PROJECTIONS = {
    "MIP",
    "MINIP",
    "MIN_IP",
    "MPR_MIP",
    "MAX_IP",
    "VRT",
    "3D",
    "SCREEN SAVE",
    "SCREENSHOT",
}
CHEST_WORDS = ("CHEST", "THORAX", "LUNG")
CAPTURE_CLASS = "1.2.840.10008.5.1.4.1.1.7"


@dataclass(frozen=True)
class SeriesRules:
    """What a series must be to be scored.

    Attributes
    ----------
    minimum_slices : int
        Fewer are no chest. Chests in 8 mm slices have about 35.
    minimum_coverage_mm : float
        Shorter stacks cannot hold a pair of lungs.
    maximum_step_mm : float
        Wider steps leave too much lung unseen.
    axial_cosine : float
        Least cosine between the slice normal and the body axis; below it a stack is coronal or
        sagittal.
    tolerances : Tolerances
    """

    minimum_slices: int = 10
    minimum_coverage_mm: float = 100.0
    maximum_step_mm: float = 15.0
    axial_cosine: float = 0.7
    tolerances: Tolerances = field(default_factory=Tolerances)


@dataclass(frozen=True)
class Candidate:
    """A series that can be scored: its slices in the order of `stack`, and the flags met."""

    slices: tuple[SliceHeader, ...]
    stack: Stack
    repeats: tuple[tuple[SliceHeader, SliceHeader], ...]
    flags: tuple[str, ...]

    @property
    def rank(self) -> tuple[float, ...]:
        """Smaller is better; see the module's docstring."""
        first = self.slices[0]
        return (
            -min(int(self.stack.coverage_mm // 20), 12),
            -float(any(word in first.body_part for word in CHEST_WORDS)),
            -float(first.image_type[:1] == ("ORIGINAL",)),
            round(float(np.linalg.norm(self.stack.step)), 2),
            -len(self.slices),
            float("inf") if first.series_number is None else first.series_number,
            float(int(first.series, 16)),
        )


@dataclass(frozen=True)
class SetAside:
    """A series that cannot be scored, and why."""

    slices: tuple[SliceHeader, ...]
    reason: InputError


def choose_series(
    headers: Sequence[SliceHeader], rules: SeriesRules
) -> tuple[Candidate, list[SetAside]]:
    """Pick the series to score.

    Parameters
    ----------
    headers : sequence of SliceHeader
        Of all files of a folder.
    rules : SeriesRules

    Returns
    -------
    chosen : Candidate
    others : list of SetAside
        Series that cannot be scored; series that merely rank lower are not in it.

    Raises
    ------
    NoSeries
        No DICOM image at all.
    SeveralStudies
        Series of two studies or patients could be scored.
    InputError
        Of the kind that keeps the most promising series from being scored.
    """
    if not headers:
        raise NoSeries(
            "no DICOM image in this folder; give the folder of a chest CT series, or a NIfTI file"
        )
    candidates, others = assess_series(headers, rules)
    if not candidates:
        raise _why_none(others)
    studies = {c.slices[0].study for c in candidates}
    if len(studies) > 1:
        raise SeveralStudies(
            f"chest CT series of {len(studies)} different studies are in this folder; give one "
            "study"
        )
    return min(candidates, key=lambda c: c.rank), others


def assess_series(
    headers: Sequence[SliceHeader], rules: SeriesRules
) -> tuple[list[Candidate], list[SetAside]]:
    """Divide series into those that can be scored and those that cannot, with the reason."""
    groups: dict[str, list[SliceHeader]] = defaultdict(list)
    for header in headers:
        groups[header.series].append(header)
    candidates: list[Candidate] = []
    others: list[SetAside] = []
    for group in groups.values():
        try:
            candidates.append(assess(group, rules))
        except InputError as reason:
            others.append(SetAside(tuple(group), reason))
    return candidates, others


def assess(group: Sequence[SliceHeader], rules: SeriesRules) -> Candidate:
    """Make a candidate of the slices of one series, or raise the `InputError` that says why not."""
    _check_kind(group)
    slices = [s for s in group if not _is_localizer(s)]
    flags = ["localizer_images_dropped"] if len(slices) < len(group) else []
    if not slices:
        raise NotCT(
            f"a localizer ({_count(group, 'image')}), not a chest CT; give the axial series"
        )
    positions, orientations = _geometry(slices)
    row, column = common_orientation(orientations, rules.tolerances)
    _check_shape(slices)
    normal = np.cross(row, column)
    if abs(normal[2]) < rules.axial_cosine:
        view = "coronal" if abs(normal[1]) > abs(normal[0]) else "sagittal"
        raise NotCT(f"a {view} reformat ({_count(slices, 'slice')}); give the axial series")
    repeats, keep = _first_of_each_position(positions, normal, rules.tolerances)
    pairs = tuple((slices[a], slices[b]) for a, b in repeats)
    if repeats:
        flags.append("repeated_slices_dropped")
    if len(keep) == 1 and not repeats:
        raise TooFewSlices("one CT slice only; give the folder with the whole series")
    if len(keep) == 1:
        # All at one place: only the pixels can tell repeats from a measurement over time.
        stack = Stack((0,), positions[keep[0]], row, column, normal, 0.0)
        return Candidate((slices[keep[0]],), stack, pairs, tuple(flags))
    numbers = [slices[i].instance_number for i in keep]
    stack = regular_stack(positions[keep], row, column, numbers, rules.tolerances)
    if not repeats:
        check_coverage(stack, rules)
    if stack.tilt_deg:
        flags.append("gantry_tilt_corrected")
    ordered = tuple(slices[keep[i]] for i in stack.order)
    return Candidate(ordered, stack, pairs, tuple(flags))


def check_coverage(stack: Stack, rules: SeriesRules) -> None:
    """Raise `TooFewSlices` where a stack cannot hold a pair of lungs."""
    count, coverage = len(stack.order), stack.coverage_mm
    if count < rules.minimum_slices or coverage < rules.minimum_coverage_mm:
        raise TooFewSlices(
            f"{count} slice{'s' if count > 1 else ''} over {coverage:.0f} mm; a chest needs at "
            "least "
            f"{rules.minimum_slices} slices and {rules.minimum_coverage_mm:.0f} mm; give the "
            "whole series"
        )
    step = coverage / count
    if step > rules.maximum_step_mm:
        raise TooFewSlices(
            f"slices are {step:.1f} mm apart, more than {rules.maximum_step_mm:.0f} mm; "
            "give a series with smaller steps"
        )


def _check_kind(group: Sequence[SliceHeader]) -> None:
    """Raise unless these are single-frame CT images with pixels."""
    first = group[0]
    others = Counter(s.modality or "no modality" for s in group if s.modality != "CT")
    if others:
        kinds = "/".join(sorted(others))
        raise NotCT(f"{kinds}, not CT ({_describe(group)}); give a chest CT series")
    if any(s.sop_class.startswith(CAPTURE_CLASS) for s in group):
        raise NotCT(
            f"a secondary capture ({_count(group, 'image')}), not the CT itself; give the axial "
            "series"
        )
    if any(PROJECTIONS & set(s.image_type) for s in group):
        kind = "/".join(sorted(PROJECTIONS & set(first.image_type))) or "projection"
        raise NotCT(
            f"a projection ({kind}, {_count(group, 'image')}), not slices; give the axial series"
        )
    for s in group:
        if not s.has_pixels:
            raise UnreadableFile(f"{s.path.name}: no pixel data; export the series again")
        if s.frames > 1:
            raise UnreadableFile(
                f"{s.path.name}: a multi-frame object of {s.frames} frames cannot be read yet; "
                "export it as single slices"
            )


def _describe(group: Sequence[SliceHeader]) -> str:
    """Count images and orientations, for a message."""
    known = {tuple(round(v, 2) for v in s.orientation) for s in group if s.orientation is not None}
    text = _count(group, "image")
    return f"{text} in {len(known)} orientations" if len(known) > 1 else text


def _count(group: Sequence[SliceHeader], noun: str) -> str:
    return f"{len(group)} {noun}{'' if len(group) == 1 else 's'}"


def _is_localizer(header: SliceHeader) -> bool:
    return bool(LOCALIZERS & set(header.image_type))


def _geometry(slices: Sequence[SliceHeader]) -> tuple[np.ndarray, np.ndarray]:
    """Positions (n, 3) and orientations (n, 6), or `MissingGeometry`."""
    for s in slices:
        spacing = s.pixel_spacing
        for name, value in (
            ("image position", s.position),
            ("image orientation", s.orientation),
            ("pixel spacing", spacing),
        ):
            if value is None:
                raise MissingGeometry(
                    f"{s.path.name}: no {name} in the header; export the series again"
                )
        if spacing is not None and not all(0.05 <= v <= 10 for v in spacing):
            raise MissingGeometry(f"{s.path.name}: a pixel spacing of {spacing} mm cannot be right")
    positions = np.array([s.position for s in slices], dtype=np.float64)
    return positions, np.array([s.orientation for s in slices], dtype=np.float64)


def _check_shape(slices: Sequence[SliceHeader]) -> None:
    shapes = {(s.rows, s.columns) for s in slices}
    if len(shapes) > 1:
        raise MixedShape(
            f"one series holds slices of {_list(shapes)} pixels; give a series of one size"
        )
    spacings = np.array([s.pixel_spacing for s in slices])
    if np.any(np.ptp(spacings, axis=0) > 1e-3 * spacings.min(axis=0)):
        odd = spacings[int(np.argmax(np.abs(spacings - spacings[0]).max(axis=1)))]
        raise MixedShape(
            f"one series holds pixel spacings of {spacings[0].tolist()} and {odd.tolist()} mm; "
            "give a series of one size"
        )


def _list(shapes: set[tuple[int, int]]) -> str:
    return " and ".join(f"{r} x {c}" for r, c in sorted(shapes)[:3])


def _first_of_each_position(
    positions: np.ndarray, normal: np.ndarray, tolerances: Tolerances
) -> tuple[list[tuple[int, int]], list[int]]:
    """Pairs (kept, repeat) of slices at one position, and the indices that are kept."""
    pairs = [
        (group[0], other)
        for group in map(sorted, repeated_positions(positions, normal, tolerances))
        for other in group[1:]
    ]
    dropped = {other for _, other in pairs}
    return pairs, [i for i in range(len(positions)) if i not in dropped]


def _why_none(others: Sequence[SetAside]) -> InputError:
    """Pick the reason of the series that came nearest to a chest CT, with a word on the others."""

    def nearness(item: SetAside) -> tuple[int, int]:
        trivial = isinstance(item.reason, NotCT | UnreadableFile)
        return (1 if trivial else 0, -len(item.slices))

    nearest = min(others, key=nearness)
    rest = len(others) - 1
    if not rest:
        return nearest.reason
    text = f"none of {len(others)} series can be scored; the nearest: {nearest.reason}"
    return type(nearest.reason)(text)
