"""Assembles the volume of a DICOM series: headers, selected series, `Volume` in HU.

Reads all headers first, without pixels; then only the pixels of the selected series, which two
threads decode directly into the volume.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from dlild_client.errors import GeometryError
from dlild_client.flags import Flag
from dlild_client.reading.dicom.decode import check_size
from dlild_client.reading.dicom.dicomlib import quiet
from dlild_client.reading.dicom.headers import HeaderScan, read_headers, read_identity
from dlild_client.reading.dicom.hu import Rescaled, read_hu, settle_rescale
from dlild_client.reading.dicom.slices import SliceHeader
from dlild_client.reading.files import list_sources
from dlild_client.reading.quality import (
    check_blanks,
    check_jumps,
    check_range,
    header_flags,
    pixel_flags,
)
from dlild_client.reading.series.candidates import Candidate, SeriesRules
from dlild_client.reading.series.selection import Assessment, assess_series, settle
from dlild_client.reading.sources import FileSource, Listing
from dlild_client.slabs import HELD_VOXELS, Hu, Slabs, as_volume_array, thinned
from dlild_client.source import SourceSeries, SourceSlice
from dlild_client.volume import SeriesInfo, Volume, as_matrix


def read_dicom(
    path: Path,
    rules: SeriesRules | None = None,
    series: str | None = None,
    threads: int = 2,
    *,
    with_source: bool = False,
) -> Volume:
    """Read the chest CT series of a folder (through all its levels), archive, DICOMDIR or file.

    Parameters
    ----------
    path : Path
        Files that are not DICOM are skipped.
    rules : SeriesRules, optional
        Requirements on a series, with the tolerances of geometry.
    series : str, optional
        UID or number of the series to read; default: the one that ranks first.
    threads : int
        Threads that read and decode files.
    with_source : bool
        Also keep the headers, which identify the patient: `Volume.source`.

    Returns
    -------
    Volume
        int16 HU, (z, y, x) = (slice, row, column), slices in the order of the slice normal. HU
        below -1024 and padded pixels are -1024.

    Raises
    ------
    InputError
        No series that can be scored; its class says why.
    """
    with list_sources(path) as listing:
        rules = rules or SeriesRules()
        return _read_listing(listing, path.name, rules, series, threads, with_source=with_source)


def read_dicom_files(
    files: Sequence[Path], name: str = "", threads: int = 2, *, with_source: bool = False
) -> Volume:
    """Read the chest CT series of a list of files, as `read_dicom` does of a folder.

    Parameters
    ----------
    files : sequence of Path
    name : str
        Name of the files in messages.
    threads : int
        Threads that read and decode files.
    with_source : bool
        As of `read_dicom`.

    Raises
    ------
    InputError
        No series that can be scored; its class says why.
    """
    listing = Listing(tuple(FileSource(path) for path in files))
    return _read_listing(listing, name, SeriesRules(), None, threads, with_source=with_source)


def _read_listing(
    listing: Listing,
    name: str,
    rules: SeriesRules,
    series: str | None,
    threads: int,
    *,
    with_source: bool,
) -> Volume:
    with quiet():
        scan = read_headers(listing.sources, threads)
        found = assess_series(scan.headers, rules)
        settled = settle(found, rules, scan, series, name)
        if settled.chosen is None:
            assert settled.error is not None
            raise settled.error
        flags = _listing_flags(listing, scan, settled.assessment)
        volume = read_chosen(settled.chosen, flags, scan, threads)
        if not with_source:
            return volume
        return replace(volume, source=_source_series(settled.chosen, volume))


def _source_series(chosen: Candidate, volume: Volume) -> SourceSeries:
    """Collect the headers of the selected series."""
    first = chosen.slices[0]
    header = read_identity(first.source)
    indices = np.zeros((len(chosen.slices), 3))
    indices[:, 0] = np.arange(len(indices))
    _, column, row = np.asarray(volume.direction).T.tolist()
    return SourceSeries(
        header=header,
        slices=tuple(
            SourceSlice(
                sop_class=s.sop_class,
                sop_instance=s.instance_uid,
                series=s.series_uid,
                frame=s.frame + 1 if s.pixels.frames > 1 else None,
                position_mm=s.position or (),
                thickness_mm=s.slice_thickness_mm,
            )
            for s in chosen.slices
        ),
        shape=volume.shape[1:],
        pixel_spacing_mm=volume.spacing_mm[1:],
        row=tuple(row),
        column=tuple(column),
        origins_mm=volume.points_mm(indices),
    )


def read_chosen(chosen: Candidate, flags: list[Flag], scan: HeaderScan, threads: int = 2) -> Volume:
    """Read the pixels of the selected series.

    Parameters
    ----------
    chosen : Candidate
    flags : list of Flag
        Of the files that it was found among.
    scan : HeaderScan
    threads : int
        Threads that decode slices.

    Raises
    ------
    InputError
        Slices cannot be decoded, or hold no HU of a chest.
    """
    check_size(chosen.slices)
    rescaled = settle_rescale(chosen.slices)
    chosen = replace(chosen, slices=rescaled.slices)
    array = _decode(rescaled, threads)
    flags = [*chosen.flags, *flags, *header_flags(chosen), *rescaled.flags]
    check_range(thinned(array)[:: max(1, len(array) // 60)])
    flags += pixel_flags(array)
    if chosen.axial:  # slices of other views may lie wholly outside the body
        names = [s.name for s in chosen.slices]
        flags += check_blanks(array, names)
        check_jumps(thinned(array), names, _rescales(chosen.slices))
    volume = _volume(array, chosen, series_found=len({h.series for h in scan.headers}))
    if isinstance(array, Slabs):
        array.forget()
    return replace(volume, flags=tuple(flags))


def _rescales(slices: Sequence[SliceHeader]) -> list[tuple[float, float]]:
    """Slope and intercept of each slice, once known for all."""
    return [(s.slope or 0.0, s.intercept or 0.0) for s in slices]


def _listing_flags(listing: Listing, scan: HeaderScan, assessment: Assessment) -> list[Flag]:
    """Flag what is unusual about the files of the path and its other series."""
    flags = []
    faulty = sum(isinstance(o.reason, GeometryError) for o in assessment.others)
    if faulty:
        flags.append(Flag("other_series_with_faulty_geometry", series=faulty))
    if scan.unreadable:
        flags.append(Flag("unreadable_files", files=len(scan.unreadable)))
    if listing.missing:
        flags.append(Flag("files_missing", files=listing.missing))
    return flags


def _decode(rescaled: Rescaled, threads: int) -> Hu | Slabs:
    """Decode all slices to HU; lazily, as `Slabs`, for a large scan."""
    slices = rescaled.slices
    pixels = slices[0].pixels
    shape = (len(slices), pixels.rows, pixels.columns)

    def fill(first: int, out: Hu) -> None:
        def read(i: int) -> None:
            read_hu(slices[first + i], out[i], inverted=rescaled.inverted)

        with quiet():
            _for_each(range(len(out)), read, threads)

    if math.prod(shape) > HELD_VOXELS:
        return Slabs(shape, fill)
    array = np.empty(shape, dtype=np.int16)
    fill(0, array)
    return array


def _for_each(items: Sequence[int], work: Callable[[int], None], threads: int) -> None:
    """Run the work in threads; the first error cancels what has not begun."""
    with ThreadPoolExecutor(threads) as pool:
        jobs = [pool.submit(work, item) for item in items]
        try:
            for job in jobs:
                job.result()
        except BaseException:
            for job in jobs:
                job.cancel()
            raise


def _volume(array: Hu | Slabs, chosen: Candidate, series_found: int) -> Volume:
    stack, first = chosen.stack, chosen.slices[0]
    assert first.pixel_spacing is not None
    step = round(chosen.step_mm, 6)
    direction = np.stack([stack.step / np.linalg.norm(stack.step), stack.column, stack.row], axis=1)
    return Volume(
        array=as_volume_array(array),
        spacing_mm=(step, first.pixel_spacing[0], first.pixel_spacing[1]),
        origin_mm=(float(stack.origin_mm[0]), float(stack.origin_mm[1]), float(stack.origin_mm[2])),
        direction=as_matrix(direction),
        series=_info(array, chosen, step, series_found),
        slice_positions_mm=stack.positions_mm,
        slice_thicknesses_mm=_thicknesses_mm(chosen.slices),
    )


def _thicknesses_mm(slices: Sequence[SliceHeader]) -> tuple[float, ...] | None:
    """Thickness of each slice; None where a header lacks it."""
    known = [s.slice_thickness_mm for s in slices if s.slice_thickness_mm]
    usable = len(known) == len(slices) and all(math.isfinite(t) and t > 0 for t in known)
    return tuple(known) if usable else None


def _info(array: Hu | Slabs, chosen: Candidate, step: float, series_found: int) -> SeriesInfo:
    first: SliceHeader = chosen.slices[0]
    return SeriesInfo(
        source="dicom",
        modality=first.modality,
        manufacturer=first.manufacturer,
        kernel=first.kernel,
        slice_thickness_mm=first.slice_thickness_mm,
        slice_step_mm=step,
        slices=len(chosen.slices),
        image_shape=(first.pixels.rows, first.pixels.columns),
        digest=digest(array, [*chosen.stack.step, *(chosen.stack.positions_mm or ())]),
        series_found=series_found,
    )


def digest(array: Hu | Slabs, step: npt.ArrayLike) -> str:
    """Digest of a scan, over every fourth row and column: enough to distinguish scans."""
    sha = hashlib.sha256(np.asarray(step, dtype="<f8").tobytes())
    sha.update(np.ascontiguousarray(thinned(array), dtype="<i2").data)
    return f"sha256:{sha.hexdigest()}"
