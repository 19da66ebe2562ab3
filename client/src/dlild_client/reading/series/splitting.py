"""Splits a series that holds several stacks under one UID.

Scanners, archives and converters put scouts, other reconstructions, phases, postures and copies
under the UID of a CT series. A series that is one stack is not split. Otherwise its slices are
split by one attribute after the other, until a part is a stack by itself and the rest is not part
of the same chest.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from dlild_client.errors import GeometryError, InputError, TooFewSlicesError
from dlild_client.flags import Flag
from dlild_client.reading.dicom.slices import SliceHeader
from dlild_client.reading.series.acquisitions import SEPARATORS, group_by
from dlild_client.reading.series.candidates import Candidate, SeriesRules, candidate_of
from dlild_client.reading.series.ct_images import ct_images

DEPTH = 3
"""Most attributes that one series is split by."""

PASSES = 8
"""Most passes over the body; more mean instance numbers without order."""

ACQUISITIONS, GEOMETRY, COPIES = "acquisitions", "geometry", "copies"
FEW = 3
SAME_END = 0.6
"""Fraction of a step within which two ends coincide; the next slice of a stack is beyond."""

Values = Callable[[Sequence[SliceHeader], SeriesRules], Sequence[Hashable]]


@dataclass(frozen=True)
class Separator:
    """An attribute that splits a series.

    Attributes
    ----------
    values : callable
        The value of each slice.
    of : str
        What it separates: acquisitions, slices of another geometry, copies.
    """

    values: Values
    of: str = ACQUISITIONS


def assess(group: Sequence[SliceHeader], rules: SeriesRules) -> list[Candidate]:
    """Construct the candidates of one series.

    Parameters
    ----------
    group : sequence of SliceHeader
    rules : SeriesRules

    Returns
    -------
    list of Candidate
        One, or one for each stack that can be scored.

    Raises
    ------
    InputError
        Why the series cannot be scored.
    """
    slices, flags = ct_images(group)
    return _stacks(slices, flags, rules, ALL, DEPTH)


def _stacks(
    slices: Sequence[SliceHeader],
    met: Sequence[Flag],
    rules: SeriesRules,
    separators: Sequence[Separator],
    depth: int,
) -> list[Candidate]:
    whole, fault = None, None
    try:
        whole = candidate_of(slices, met, rules)
    except GeometryError as error:
        fault = error
    if whole is not None and all(_are_copies(*pair) for pair in whole.repeats):
        return [whole]
    if depth:
        for number, separator in enumerate(separators, start=1):
            found = _split(slices, met, rules, separator, separators[number:], depth - 1)
            if found:
                return found
    if whole is not None:
        return [whole]  # the pixels are compared later: images at one position may differ
    assert fault is not None
    raise fault


def _are_copies(a: SliceHeader, b: SliceHeader) -> bool:
    """Whether two headers are equal, as those of copies of one image."""
    return replace(a, source=b.source) == b


def _split(
    slices: Sequence[SliceHeader],
    met: Sequence[Flag],
    rules: SeriesRules,
    separator: Separator,
    further: Sequence[Separator],
    depth: int,
) -> list[Candidate]:
    """Construct candidates from the parts of a series that are stacks by themselves."""
    parts = group_by(slices, separator.values(slices, rules))
    if len(parts) == 1:
        return []
    candidates = []
    for number, part in enumerate(parts, start=1):
        try:
            if len(part) < rules.minimum_slices:
                raise TooFewSlicesError("too few for a stack")
            found = _stacks(part, met, rules, further, depth)
        except InputError:
            continue
        others = [other for other in parts if other is not part]
        flag = _flag(separator, number, parts)
        candidates += [
            replace(c, flags=(*c.flags, flag)) for c in found if _stands_alone(c, others, rules)
        ]
    return candidates


def _flag(separator: Separator, number: int, parts: Sequence[Sequence[SliceHeader]]) -> Flag:
    rest = sum(map(len, parts)) - len(parts[number - 1])
    if separator.of == COPIES and not parts[number - 1][0].lossy:
        return Flag("lossy_copies_dropped", slices=rest)
    if separator.of == GEOMETRY and rest <= FEW:
        return Flag("other_objects_dropped", objects=rest, kinds="images of another geometry")
    return Flag("several_acquisitions", acquisitions=len(parts), scored=number)


def _stands_alone(
    candidate: Candidate, others: Sequence[Sequence[SliceHeader]], rules: SeriesRules
) -> bool:
    """Whether a stack is a chest without the other slices of its series.

    The others may have another orientation, lie within the stack, be a few far from it, or be
    another pass over a chest that the stack covers. They may not be its other half, nor fill the
    gaps of a stack in uneven steps.
    """
    stack = candidate.stack
    normal = np.cross(stack.row, stack.column)
    turned = sum(len(other) - len(_positions_along(other, normal)) for other in others)
    if stack.positions_mm is not None and turned > FEW:
        return False
    own = _positions_along(candidate.slices, normal)
    return all(
        _is_apart(own, positions, candidate, rules)
        for positions in (_positions_along(other, normal) for other in others)
        if len(positions)
    )


def _positions_along(
    slices: Sequence[SliceHeader], normal: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Positions along a normal, in mm, of the slices perpendicular to it."""
    across = [
        s.position
        for s in slices
        if s.position is not None
        and s.orientation is not None
        and abs(float(np.dot(np.cross(s.orientation[:3], s.orientation[3:]), normal))) > 0.95
    ]
    return np.array(across, dtype=np.float64).reshape(-1, 3) @ normal


def _is_apart(
    own: npt.NDArray[np.float64],
    positions: npt.NDArray[np.float64],
    candidate: Candidate,
    rules: SeriesRules,
) -> bool:
    low, high = own.min(), own.max()
    step = (high - low) / max(1, len(own) - 1)
    beyond = max(low - positions.min(), positions.max() - high)
    if beyond <= SAME_END * step:
        return True
    shared = min(high, positions.max()) - max(low, positions.min())
    length = np.ptp(positions)
    if shared < 0:
        return bool(-shared > 2 * step and (len(positions) <= FEW or length < step))
    whole = candidate.coverage_mm >= rules.whole_lungs_mm or beyond <= 0.1 * (high - low)
    return bool(whole and shared >= min(high - low, length) / 3)


def _has_no_position(slices: Sequence[SliceHeader], _rules: SeriesRules) -> list[bool]:
    """Mark pages without geometry elements; unreadable elements do not make a page."""
    tags = {"ImagePositionPatient", "ImageOrientationPatient"}
    return [
        s.position is None and s.orientation is None and not tags & set(s.unreadable)
        for s in slices
    ]


def _direction(slices: Sequence[SliceHeader], rules: SeriesRules) -> list[int]:
    """Assign each slice the number of its orientation."""
    limit = np.radians(rules.tolerances.angle_deg)
    kinds: list[npt.NDArray[np.float64]] = []
    numbers = []
    for s in slices:
        vector = np.array(s.orientation or (0.0,) * 6)
        near = [i for i, kind in enumerate(kinds) if np.linalg.norm(vector - kind) <= limit]
        if not near:
            near = [len(kinds)]
            kinds.append(vector)
        numbers.append(near[0])
    return numbers


def _shape(slices: Sequence[SliceHeader], _rules: SeriesRules) -> list[Hashable]:
    return [
        (s.pixels.rows, s.pixels.columns, *(f"{v:.3g}" for v in s.pixel_spacing or ()))
        for s in slices
    ]


def _passes(slices: Sequence[SliceHeader], rules: SeriesRules) -> list[int]:
    """Assign each slice its pass: a monotonic run of positions, by instance number."""
    none = [0] * len(slices)
    numbers = [s.instance_number for s in slices]
    first = slices[0].orientation
    if first is None or None in numbers or len(set(numbers)) < len(numbers):
        return none
    normal = np.cross(first[:3], first[3:])
    positions = _positions_along(slices, normal)
    if len(positions) < len(slices):
        return none
    order = np.argsort(np.array(numbers, dtype=np.float64))
    found, run, sign = [0] * len(slices), 0, 0
    for before, here in pairwise(order):
        step = positions[here] - positions[before]
        moved = 0 if abs(step) <= rules.tolerances.same_position_mm else int(np.sign(step))
        if sign and moved != sign:
            run, sign = run + 1, 0
        else:
            sign = moved
        found[here] = run
    return none if run >= PASSES else found


def _by(key: Callable[[SliceHeader], Hashable]) -> Values:
    return lambda slices, _rules: [key(s) for s in slices]


ALL = (
    Separator(_has_no_position, GEOMETRY),
    Separator(_direction, GEOMETRY),
    Separator(_shape, GEOMETRY),
    Separator(_by(lambda s: s.lossy), COPIES),
    *(Separator(_by(key)) for key in SEPARATORS),
    Separator(_passes),
)
"""All separators, in the order of trial."""
