"""Candidates: series that can be scored, by image type, geometry and coverage.

Set aside, each with a reason: other modalities; localizers; captures, projections (MIP, MinIP) and
maps; reformats; slices without geometry; stacks with inconsistent geometry; stacks with too few
slices or too little coverage. Candidates are ranked by `dlild_client.reading.series.ranking`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from dlild_client.errors import (
    MissingGeometryError,
    MixedShapeError,
    NotCTError,
    TooFewSlicesError,
)
from dlild_client.flags import Flag
from dlild_client.reading.dicom.slices import SliceHeader
from dlild_client.reading.series.acquisitions import check_one_acquisition
from dlild_client.reading.series.ct_images import why_reformat
from dlild_client.reading.series.geometry import (
    Stack,
    Tolerances,
    common_orientation,
    regular_stack,
    repeated_positions,
)
from dlild_client.reading.series.spacing import describe_steps


@dataclass(frozen=True)
class SeriesRules:
    """Requirements on a series.

    Attributes
    ----------
    minimum_slices : int
        Least number of slices; a chest in 8 mm slices has about 35.
    minimum_coverage_mm : float
        Least length of a stack that can hold a pair of lungs.
    maximum_step_mm : float
        Widest mean step; wider ones leave too much lung unseen.
    axial_cosine : float
        Least cosine between the slice normal and the body axis; below it a stack is coronal or
        sagittal.
    whole_lungs_mm : float
        Coverage of a pair of lungs; more is no advantage in the ranking.
    fine_mm : float
        Thickness of the model grid; thinner slices are no advantage in the ranking.
    tolerances : Tolerances
    """

    minimum_slices: int = 10
    minimum_coverage_mm: float = 100.0
    maximum_step_mm: float = 15.0
    axial_cosine: float = 0.7
    whole_lungs_mm: float = 240.0
    fine_mm: float = 1.5
    tolerances: Tolerances = field(default_factory=Tolerances)


@dataclass(frozen=True)
class Candidate:
    """A series that can be scored.

    Attributes
    ----------
    slices : tuple of SliceHeader
        In the order of `stack`.
    stack : Stack
    repeats : tuple of pairs of SliceHeader
        Slices (kept, repeat) at one position, not yet compared.
    axial : bool
    flags : tuple of Flag
    only_if_asked : NotCTError or None
        Why it is scored only when selected by its UID.
    """

    slices: tuple[SliceHeader, ...]
    stack: Stack
    repeats: tuple[tuple[SliceHeader, SliceHeader], ...]
    axial: bool
    flags: tuple[Flag, ...]
    only_if_asked: NotCTError | None = None

    @property
    def images(self) -> tuple[SliceHeader, ...]:
        """All images: slices, then repeats."""
        return (*self.slices, *(repeat for _, repeat in self.repeats))

    @property
    def step_mm(self) -> float:
        """Distance between neighbouring slices; the mean where steps differ."""
        return float(np.linalg.norm(self.stack.step))

    @property
    def thickness_mm(self) -> float:
        """Slice thickness, or the widest step where that is wider."""
        return max(self.slices[0].slice_thickness_mm or 0.0, self.stack.widest_step_mm)

    @property
    def coverage_mm(self) -> float:
        """Length along the body."""
        return self.stack.coverage_mm if self.axial else _body_extent_mm(self.slices, self.stack)


def candidate_of(
    slices: Sequence[SliceHeader], met: Sequence[Flag], rules: SeriesRules
) -> Candidate:
    """Construct a candidate from the CT slices of one stack.

    Parameters
    ----------
    slices : sequence of SliceHeader
    met : sequence of Flag
        Flags raised so far.
    rules : SeriesRules

    Raises
    ------
    GeometryError
        The slices do not form a volume; its class says why.
    TooFewSlicesError, NotCTError
        The slices cannot hold a pair of lungs.
    """
    positions, orientations = _geometry(slices)
    row, column = common_orientation(orientations, rules.tolerances)
    _check_shape(slices)
    flags = list(met)
    normal = np.cross(row, column)
    axial = abs(float(normal[2])) >= rules.axial_cosine
    asked = why_reformat(slices, normal, axial=axial)
    if asked is not None:
        flags.append(Flag("reformat_scored"))
    if not axial:
        flags.append(Flag("reoriented"))
    repeats, keep = _first_of_each_position(positions, normal, rules.tolerances)
    pairs = tuple((slices[a], slices[b]) for a, b in repeats)
    if repeats:
        flags.append(Flag("repeated_slices_dropped", slices=len(repeats)))
    if len(keep) == 1 and not repeats:
        raise TooFewSlicesError("one CT slice only; give the folder with the whole series")
    if len(keep) == 1:
        # All at one position: only the pixels distinguish repeats from a time series.
        stack = Stack((0,), positions[keep[0]], row, column, normal, 0.0)
        return Candidate((slices[keep[0]],), stack, pairs, axial, tuple(flags), asked)
    numbers = [slices[i].instance_number for i in keep]
    thicknesses = [slices[i].slice_thickness_mm for i in keep]
    stack = regular_stack(positions[keep], row, column, numbers, rules.tolerances, thicknesses)
    if stack.positions_mm is not None:
        check_one_acquisition([slices[i] for i in keep], stack)
        flags.append(_uneven_flag(stack))
    if stack.tilt_deg:
        flags.append(Flag("gantry_tilt_corrected", tilt_deg=stack.tilt_deg))
    ordered = tuple(slices[keep[i]] for i in stack.order)
    candidate = Candidate(ordered, stack, pairs, axial, tuple(flags), asked)
    if not repeats:
        try:
            check_coverage(candidate, rules)
        except TooFewSlicesError as error:
            # Being a reformat takes precedence over its length.
            raise asked or error from None
    return candidate


def _uneven_flag(stack: Stack) -> Flag:
    steps = stack.steps_mm
    return Flag(
        "uneven_steps",
        narrowest_mm=float(steps.min()),
        usual_mm=float(np.median(steps)),
        widest_mm=float(steps.max()),
        steps=describe_steps(steps),
    )


def check_coverage(candidate: Candidate, rules: SeriesRules) -> None:
    """Raise `TooFewSlicesError` where a stack cannot hold a pair of lungs."""
    count, coverage = len(candidate.stack.order), candidate.coverage_mm
    if count < rules.minimum_slices or coverage < rules.minimum_coverage_mm:
        raise TooFewSlicesError(
            f"{count} slice{'s' if count > 1 else ''} over {coverage:.0f} mm; a chest needs at "
            f"least {rules.minimum_slices} slices and {rules.minimum_coverage_mm:.0f} mm; give the "
            "whole series"
        )
    if candidate.step_mm > rules.maximum_step_mm:
        raise TooFewSlicesError(
            f"slices are {candidate.step_mm:.1f} mm apart, more than {rules.maximum_step_mm:.0f} "
            "mm; give a series with smaller steps"
        )


def _body_extent_mm(slices: Sequence[SliceHeader], stack: Stack) -> float:
    """Length along the body of a non-axial stack."""
    first = slices[0]
    assert first.pixel_spacing is not None
    edges = (
        stack.step * len(slices),
        stack.column * first.pixel_spacing[0] * first.pixels.rows,
        stack.row * first.pixel_spacing[1] * first.pixels.columns,
    )
    return float(sum(abs(edge[2]) for edge in edges))


def _geometry(slices: Sequence[SliceHeader]) -> tuple[np.ndarray, np.ndarray]:
    """Positions (n, 3) and orientations (n, 6), or `MissingGeometryError`."""
    for s in slices:
        spacing = s.pixel_spacing
        for name, tag, value in (
            ("image position", "ImagePositionPatient", s.position),
            ("image orientation", "ImageOrientationPatient", s.orientation),
            ("pixel spacing", "PixelSpacing", spacing),
        ):
            if value is None:
                stands = s.unreadable.get(tag)
                where = "in the header" if stands is None else f"in numbers, but '{stands}'"
                raise MissingGeometryError(f"{s.name}: no {name} {where}; export the series again")
        if spacing is not None and not all(0.05 <= v <= 10 for v in spacing):
            raise MissingGeometryError(
                f"{s.name}: a pixel spacing of {spacing} mm cannot be right; export the "
                "series again"
            )
        if s.position is not None and max(map(abs, s.position)) > 100_000:
            raise MissingGeometryError(
                f"{s.name}: an image position of {s.position} mm cannot be right; export the "
                "series again"
            )
    positions = np.array([s.position for s in slices], dtype=np.float64)
    return positions, np.array([s.orientation for s in slices], dtype=np.float64)


def _check_shape(slices: Sequence[SliceHeader]) -> None:
    shapes = {(s.pixels.rows, s.pixels.columns) for s in slices}
    if len(shapes) > 1:
        raise MixedShapeError(
            f"one series holds slices of {_list(shapes)} pixels; give a series of one size"
        )
    spacings = np.array([s.pixel_spacing for s in slices])
    if np.any(np.ptp(spacings, axis=0) > 1e-3 * spacings.min(axis=0)):
        odd = spacings[int(np.argmax(np.abs(spacings - spacings[0]).max(axis=1)))]
        raise MixedShapeError(
            f"one series holds pixel spacings of {spacings[0].tolist()} and {odd.tolist()} mm; "
            "give a series of one size"
        )


def _list(shapes: set[tuple[int, int]]) -> str:
    return " and ".join(f"{r} x {c}" for r, c in sorted(shapes)[:3])


def _first_of_each_position(
    positions: np.ndarray, normal: np.ndarray, tolerances: Tolerances
) -> tuple[list[tuple[int, int]], list[int]]:
    """Pairs (kept, repeat) of slices at one position, and the indices kept."""
    pairs = [
        (group[0], other)
        for group in map(sorted, repeated_positions(positions, normal, tolerances))
        for other in group[1:]
    ]
    dropped = {other for _, other in pairs}
    return pairs, [i for i in range(len(positions)) if i not in dropped]
