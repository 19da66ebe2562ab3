"""Resampling across slices that are not evenly spaced, or have gaps between them.

Between slices that touch, values are interpolated along the true positions, as
`dlild_client.preparation.resampling` does between even ones. In a gap nothing was seen, and
interpolation makes vessels fade out over one centimetre, which the network takes for fibrosis: so
each slice goes on to the middle of the gap. There it is smoothed about as much as slices that touch
smooth each other, for its noise goes on, too. What gaps do to the index is measured in
`docs/inputs.md`.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from dlild_client.preparation.resampling import Band
from dlild_client.volume import Volume

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

GAP_MM = 5.0
"""Only steps that are wider are gaps: below, interpolation moves the index less."""

GAP_THICKNESSES = 2.0
"""Only steps wider than this many slice thicknesses are gaps."""

TIE_MM = 0.01
"""Voxels this near to the middle of a gap take the mean of both slices."""


def find_gaps(volume: Volume) -> Mask:
    """Tell of each step between slices whether it is a gap, shape (n - 1,).

    Where the slice thickness is not known, slices are taken to touch.
    """
    steps = np.diff(_positions_mm(volume))
    if volume.slice_thicknesses_mm is None:
        return np.zeros(len(steps), dtype=np.bool_)
    thickness = np.array(volume.slice_thicknesses_mm)
    mean = (thickness[1:] + thickness[:-1]) / 2
    return np.asarray((steps > GAP_MM) & (steps > GAP_THICKNESSES * mean), dtype=np.bool_)


def has_plain_slices(volume: Volume) -> bool:
    """Tell whether slices are evenly spaced and touch: then a triangle kernel resamples them."""
    return volume.slice_positions_mm is None and not find_gaps(volume).any()


def slice_faces_mm(volume: Volume) -> tuple[float, float]:
    """Outer faces of the first and the last slice: half a step before and behind their centres."""
    places = _positions_mm(volume)
    low = places[0] - (places[1] - places[0]) / 2
    return float(low), float(places[-1] + (places[-1] - places[-2]) / 2)


def slice_band(volume: Volume, count: int, spacing_mm: float, *, backwards: bool = False) -> Band:
    """Weights of slices in evenly spaced voxels, centred between the faces of the stack.

    Parameters
    ----------
    volume : Volume
        With its slices along axis 0, two or more.
    count : int
        Voxels of the output.
    spacing_mm : float
        Of the output.
    backwards : bool
        The output runs from the last slice to the first, and so does the array it is made of.

    Returns
    -------
    Band
    """
    places, gaps = _positions_mm(volume), find_gaps(volume)
    centre = sum(slice_faces_mm(volume)) / 2
    if backwards:
        places, gaps, centre = -places[::-1], gaps[::-1], -centre
    wanted = np.round(centre + (np.arange(count) - (count - 1) / 2) * spacing_mm, 6)
    return _as_band(_weights(places, gaps, wanted, spacing_mm), gaps[_steps_of(places, wanted)])


def _steps_of(places: Array, wanted: Array) -> npt.NDArray[np.intp]:
    """Index of the step between slices that each place lies in; beyond the ends, the outermost."""
    steps = np.searchsorted(places, wanted, side="right") - 1
    return np.asarray(np.clip(steps, 0, len(places) - 2), dtype=np.intp)


def _positions_mm(volume: Volume) -> Array:
    """Distances of the slices from the first, along axis 0."""
    if volume.slice_positions_mm is not None:
        return np.array(volume.slice_positions_mm)
    return np.arange(len(volume.array), dtype=np.float64) * np.float64(volume.spacing_mm[0])


def _weights(places: Array, gaps: Mask, wanted: Array, spacing_mm: float) -> Array:
    """Weights, shape (voxels, slices), not normalised.

    Between slices as far apart as voxels or further the weights are those of linear interpolation,
    or of the nearest slice in a gap. Where slices are nearer to each other they are those of a
    triangle as wide as a voxel, times the length that each slice stands for.
    """
    at = np.clip(wanted, places[0], places[-1])
    before = _steps_of(places, at)
    step = np.diff(places)[before]
    share = (at - places[before]) / step
    beyond_middle = (share - 0.5) * step
    nearest = np.where(np.abs(beyond_middle) < TIE_MM, 0.5, beyond_middle > 0)
    share = np.where(gaps[before], nearest, share)
    rows = np.arange(len(at))
    weights = np.zeros((len(at), len(places)))
    weights[rows, before] = 1 - share
    weights[rows, before + 1] = share
    fine = step < spacing_mm
    halves = np.minimum(np.diff(places), spacing_mm) / 2
    length = np.concatenate([halves[:1], halves[1:] + halves[:-1], halves[-1:]])
    distance = np.abs(at[fine, None] - places)
    weights[fine] = np.maximum(0.0, 1 - distance / spacing_mm) * length
    return weights


def _as_band(weights: Array, in_gap: Mask) -> Band:
    """Keep of each row only the slices that count."""
    used = weights > 0
    first = used.argmax(axis=1)
    last = weights.shape[1] - 1 - used[:, ::-1].argmax(axis=1)
    k = int((last - first).max()) + 1
    first = np.minimum(first, weights.shape[1] - k)
    taps = np.take_along_axis(weights, first[:, None] + np.arange(k), axis=1)
    return Band(first, (taps / taps.sum(axis=1, keepdims=True)).astype(np.float32), in_gap)
