"""DICOM folder -> chosen series -> Volume in HU.

Headers first, without pixels; then the pixels of the chosen series only, decoded by two threads
straight into the volume.
"""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dlild_client.errors import (
    GeometryError,
    NoSeries,
    NotHU,
    RepeatedPosition,
    TooFewSlices,
    UnreadableFile,
)
from dlild_client.headers import SliceHeader, find_files, read_header, read_headers
from dlild_client.series import Candidate, SeriesRules, check_coverage, choose_series
from dlild_client.volume import AIR_HU, SeriesInfo, Volume, as_matrix

THICK_SLICE_MM = 3.0
"""Thicker slices (or wider steps) are flagged: the network has learnt on thin ones."""

DEFLATED = "1.2.840.10008.1.2.1.99"


def read_dicom_folder(folder: Path, rules: SeriesRules | None = None, threads: int = 2) -> Volume:
    """Read the chest CT series of a folder, searched through all its levels.

    Parameters
    ----------
    folder : Path
        Files that are not DICOM are skipped.
    rules : SeriesRules, optional
        What a series must be to be scored, with the tolerances of geometry.
    threads : int
        Files read and decoded at once.

    Returns
    -------
    Volume
        int16 HU, (z, y, x) = (slice, row, column), slices in the order of the slice normal. HU
        below
        -1024 and padded pixels are -1024.

    Raises
    ------
    InputError
        No series that can be scored; its kind says why.
    """
    rules = rules or SeriesRules()
    headers = read_headers(find_files(folder), threads)
    if not headers:
        raise NoSeries(
            f"{folder.name}: no DICOM image in this folder; give the folder of a chest CT series, "
            "or a NIfTI file"
        )
    chosen, others = choose_series(headers, rules)
    _check_hu(chosen.slices)
    if chosen.repeats:
        _check_repeats(chosen)
        check_coverage(chosen.stack, rules)
    flags = list(chosen.flags)
    if any(isinstance(o.reason, GeometryError) for o in others):
        flags.append("other_series_with_faulty_geometry")
    flags += _thickness_flags(chosen)
    array = _decode(chosen.slices, threads)
    return _volume(array, chosen, flags, series_found=len({h.series for h in headers}))


def read_dicom_file(path: Path) -> Volume:
    """Refuse a single DICOM file with the error that fits: one slice is no scan.

    Raises
    ------
    UnreadableFile
        The file is not DICOM.
    InputError
        What keeps this image from being scored; a lone CT slice is `TooFewSlices`.
    """
    header = read_header(path)
    if header is None:
        raise UnreadableFile(
            f"{path.name}: neither DICOM nor NIfTI, NRRD or MetaImage; give a chest CT series"
        )
    choose_series([header], SeriesRules())
    raise TooFewSlices(f"{path.name}: one CT slice only; give the folder with the whole series")


def _check_hu(slices: tuple[SliceHeader, ...]) -> None:
    """Raise `NotHU` unless stored values turn into HU by a known rule."""
    for s in slices:
        name = s.path.name
        if s.photometric != "MONOCHROME2" or s.samples_per_pixel != 1:
            kind = s.photometric or "unknown"
            raise NotHU(
                f"{name}: photometric interpretation {kind}, not MONOCHROME2; export the original "
                "CT"
            )
        if s.slope is None or s.intercept is None:
            raise NotHU(f"{name}: no rescale slope and intercept, so no HU; export the original CT")
        if s.slope <= 0:
            raise NotHU(f"{name}: rescale slope {s.slope:g} gives no HU; export the original CT")
        if s.rescale_type not in {"", "HU", "US"}:
            raise NotHU(f"{name}: rescale type {s.rescale_type}, not HU; export the original CT")


def _check_repeats(chosen: Candidate) -> None:
    """Raise `RepeatedPosition` unless slices at one position are the same image."""
    for kept, repeat in chosen.repeats:
        if not np.array_equal(_slice_hu(kept), _slice_hu(repeat)):
            count = len(chosen.repeats) + len(chosen.slices)
            assert kept.position is not None
            raise RepeatedPosition(
                f"{count} images share {len(chosen.slices)} position(s): {kept.path.name} and "
                f"{repeat.path.name} differ at z = {kept.position[2]:.2f} mm; give one acquisition"
            )


def _thickness_flags(chosen: Candidate) -> list[str]:
    step = float(np.linalg.norm(chosen.stack.step))
    thickness = chosen.slices[0].slice_thickness_mm
    flags = []
    if max(step, thickness or 0.0) > THICK_SLICE_MM:
        flags.append("thick_slices")
    if thickness and step > 2 * thickness:
        flags.append("gaps_between_slices")
    return flags


def _decode(slices: tuple[SliceHeader, ...], threads: int) -> npt.NDArray[np.int16]:
    first = slices[0]
    array = np.empty((len(slices), first.rows, first.columns), dtype=np.int16)

    def fill(index: int) -> None:
        array[index] = _slice_hu(slices[index])

    with ThreadPoolExecutor(threads) as pool:
        jobs = [pool.submit(fill, i) for i in range(len(slices))]
        try:
            for job in jobs:
                job.result()
        except BaseException:
            for job in jobs:
                job.cancel()
            raise
    return array


def _slice_hu(header: SliceHeader) -> npt.NDArray[np.int16]:
    """HU of one slice, int16 (rows, columns)."""
    stored = _stored_values(header)
    assert header.slope is not None
    assert header.intercept is not None
    if header.slope == 1 and header.intercept.is_integer():
        hu = stored.astype(np.int32) + int(header.intercept)
    else:
        hu = np.rint(stored * np.float64(header.slope) + header.intercept).astype(np.int64)
    if header.padding is not None:
        hu = np.where(_padding(stored, header), AIR_HU, hu)
    return np.clip(hu, AIR_HU, np.iinfo(np.int16).max).astype(np.int16)


def _stored_values(header: SliceHeader) -> npt.NDArray[Any]:
    from pydicom import dcmread  # noqa: PLC0415  (heavy: loaded when first used)
    from pydicom.pixels.utils import pixel_array  # noqa: PLC0415

    # From a path only the pixels are parsed, which is quicker, but a deflated file must be inflated
    # first.
    deflated = header.transfer_syntax == DEFLATED
    try:
        stored = pixel_array(dcmread(header.path) if deflated else header.path, raw=True)
    except Exception as error:
        raise UnreadableFile(
            f"{header.path.name}: pixels cannot be decoded "
            f"({_syntax_name(header.transfer_syntax)}): "
            f"{_first_line(error)}; export the series uncompressed"
        ) from None
    if stored.shape != (header.rows, header.columns):
        raise UnreadableFile(
            f"{header.path.name}: pixels of shape {stored.shape}, not "
            f"{(header.rows, header.columns)}"
        )
    return np.asarray(stored)


def _syntax_name(uid: str) -> str:
    from pydicom.uid import UID  # noqa: PLC0415

    name = UID(uid).name if uid else "no transfer syntax"
    return f"transfer syntax {name} {uid}" if name != uid else f"transfer syntax {uid}"


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    text = lines[0] if lines else type(error).__name__
    return text if len(text) <= 120 else text[:117] + "..."


def _padding(stored: npt.NDArray[Any], header: SliceHeader) -> npt.NDArray[np.bool_]:
    """Find padded pixels: those that reach in from the left or right edge without a break.

    A pixel inside the patient may have the padding value by chance and must keep its HU.
    """
    assert header.padding is not None
    limit = header.padding if header.padding_limit is None else header.padding_limit
    low, high = min(header.padding, limit), max(header.padding, limit)
    equal = (stored >= low) & (stored <= high)
    from_left = np.logical_and.accumulate(equal, axis=1)
    from_right = np.logical_and.accumulate(equal[:, ::-1], axis=1)[:, ::-1]
    return np.asarray(from_left | from_right)


def _volume(
    array: npt.NDArray[np.int16], chosen: Candidate, flags: list[str], series_found: int
) -> Volume:
    stack, first = chosen.stack, chosen.slices[0]
    assert first.pixel_spacing is not None
    step = round(float(np.linalg.norm(stack.step)), 6)
    direction = np.stack([stack.step / np.linalg.norm(stack.step), stack.column, stack.row], axis=1)
    info = SeriesInfo(
        source="dicom",
        modality=first.modality,
        manufacturer=first.manufacturer,
        kernel=first.kernel,
        slice_thickness_mm=first.slice_thickness_mm,
        slice_step_mm=step,
        slices=len(chosen.slices),
        image_shape=(first.rows, first.columns),
        digest=digest(array, stack.step),
        series_found=series_found,
    )
    return Volume(
        array=array,
        spacing_mm=(step, first.pixel_spacing[0], first.pixel_spacing[1]),
        origin_mm=(float(stack.origin_mm[0]), float(stack.origin_mm[1]), float(stack.origin_mm[2])),
        direction=as_matrix(direction),
        series=info,
        flags=tuple(flags),
    )


def digest(array: npt.NDArray[np.int16], step: npt.ArrayLike) -> str:
    """Digest of a scan: every fourth row and column is enough to tell scans apart, and quick."""
    sha = hashlib.sha256(np.asarray(step, dtype="<f8").tobytes())
    sha.update(np.ascontiguousarray(array[:, ::4, ::4], dtype="<i2").tobytes())
    return f"sha256:{sha.hexdigest()}"
