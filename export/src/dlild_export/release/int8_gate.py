"""Make the INT8 form of a network, and hold it against FP32 on twenty scans of all kinds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from scipy import ndimage

from dlild_client.contract import Contract
from dlild_client.contract.classes import Label
from dlild_client.preparation.grid import to_grid
from dlild_client.reading.read import read_volume
from dlild_client.volume import Volume
from dlild_export.data.digest import sha256
from dlild_export.evaluation.cases import (
    EvaluationCase,
    measured_cases,
    phantom_cases,
    release_plan,
)
from dlild_export.serving.engines import IN_FP32, Engine, openvino_engine
from dlild_export.serving.int8_calibration import Crop, quantise
from dlild_export.serving.parity import Parity, Progress, measure_parity
from dlild_export.serving.sliding import Labels

LIMIT_POINTS = 0.05
"""Largest difference in DL-ILD from FP32 that passes, in percentage points."""
LEAST_SCANS = 20
MEASURED, PLAIN = 8, 7
"""Phantoms of measured texture and of the old plan that go through the gate."""
FIRST_SEED, FIRST_PLAIN_SEED = 1_700_000, 1_800_000
"""Of these; training, evaluation and calibration have others."""

CROPS, EDGE = 21, 96
CROPPED, CROPPED_PLAIN = 9, 5
"""Phantoms of both kinds that crops for the calibration are taken from."""
FIRST_CROPPED_SEED, FIRST_CROPPED_PLAIN_SEED = 1_900_000, 2_000_000
SOURCE = "dlild.int8.weights_sha256"
"""Key of the digest of the network that an INT8 form was made of, in the metadata."""

_GAPS = (5, 10)
_BLUR_PIXELS = 1.0


@dataclass(frozen=True, eq=False)
class GateScan:
    """One scan of the gate.

    Attributes
    ----------
    name : str
        Identifies no patient.
    grid : Volume
        HU on the model grid.
    truth : ndarray of uint8, shape (z, y, x), or None
        True labels, where they are known.
    """

    name: str
    grid: Volume
    truth: Labels | None = None


def calibration_crops(contract: Contract, lung_masks: list[Path]) -> Iterator[Crop]:
    """Cut crops from phantoms that no training has.

    Parameters
    ----------
    contract : Contract
        Grid.
    lung_masks : list of pathlib.Path
        Masks of real lungs for every second phantom.

    Yields
    ------
    ndarray of float16, shape (96, 96, 96)
        HU round a voxel of a lesion, in every third crop round any voxel of lung.
    """
    seeds = range(FIRST_CROPPED_SEED, FIRST_CROPPED_SEED + CROPPED)
    measured = measured_cases(seeds, contract, lung_masks)
    specs = release_plan(FIRST_CROPPED_PLAIN_SEED)[:CROPPED_PLAIN]
    plain = phantom_cases(specs, contract, lung_masks)
    for number, case in enumerate(chain(measured, plain)):
        for index in range(number, CROPS, CROPPED + CROPPED_PLAIN):
            yield _crop(case, index)


def _crop(case: EvaluationCase, index: int) -> Crop:
    lung = (case.truth >= Label.LUNG) & (case.truth <= Label.CONSOLIDATION)
    lesion = lung & (case.truth != Label.LUNG)
    centres = np.argwhere(lesion if index % 3 and lesion.any() else lung)
    centre = centres[np.random.default_rng(index).integers(len(centres))]
    starts = np.clip(centre - EDGE // 2, 0, np.array(case.truth.shape) - EDGE)
    crop: Crop = case.grid.array[tuple(slice(s, s + EDGE) for s in starts)].astype(np.float16)
    return crop


def write_int8(
    weights: Path,
    out: Path,
    contract: Contract,
    lung_masks: list[Path],
    progress: Progress | None = None,
) -> None:
    """Write the INT8 form of an ONNX file, with the digest of that file in its metadata.

    Parameters
    ----------
    weights, out : pathlib.Path
        The ONNX file, and the Q/DQ graph.
    contract : Contract
        Grid.
    lung_masks : list of pathlib.Path
        As in `calibration_crops`.
    progress : callable, optional
        Called with what is about to be done.

    Raises
    ------
    OSError
        A file cannot be read or written.
    Int8Error
        The file holds no U-Net of this package.
    """
    if progress:
        progress(f"{CROPS} crops of {CROPPED + CROPPED_PLAIN} phantoms")
    crops = list(calibration_crops(contract, lung_masks))
    quantised = quantise(onnx.load(str(weights)), crops, progress)
    entry = quantised.metadata_props.add()
    entry.key, entry.value = SOURCE, sha256(weights)
    onnx.save(quantised, str(out))


def gate_scans(
    contract: Contract, folders: Iterable[Path], lung_masks: list[Path]
) -> Iterator[GateScan]:
    """Make the scans of the gate.

    Parameters
    ----------
    contract : Contract
        Grid.
    lung_masks : list of pathlib.Path
        Masks of real lungs for every second phantom.
    folders : iterable of pathlib.Path
        Real scans: DICOM folders or image files. Each is taken as it is, with every 5th and every
        10th slice alone, and through a softer and a sharper kernel.

    Yields
    ------
    GateScan
        8 phantoms of measured texture, 7 of the old plan, then five of each real scan.

    Raises
    ------
    InputError
        A folder without a chest CT.
    """
    measured = measured_cases(range(FIRST_SEED, FIRST_SEED + MEASURED), contract, lung_masks)
    plain = phantom_cases(release_plan(FIRST_PLAIN_SEED)[:PLAIN], contract, lung_masks)
    for case in (*measured, *plain):
        yield GateScan(f"{case.name}, {case.pattern}", case.grid, case.truth)
    for folder in folders:
        volume = read_volume(folder)
        digest = (volume.series.digest or "").removeprefix("sha256:")
        for name, changed in variants(volume):
            yield GateScan(f"scan {digest[:8]}{name}", to_grid(changed, contract))


def variants(volume: Volume) -> Iterator[tuple[str, Volume]]:
    """Yield a scan, the same with gaps, and through other kernels, each with what to call it."""
    yield "", volume
    for step in _GAPS:
        yield f", every {step}th slice", with_gaps(volume, step)
    array = np.asarray(volume.array).astype(np.float32)
    soft = ndimage.gaussian_filter(array, (0, _BLUR_PIXELS, _BLUR_PIXELS))
    yield ", softer", replace(volume, array=_whole(soft))
    yield ", sharper", replace(volume, array=_whole(2 * array - soft))


def with_gaps(volume: Volume, step: int) -> Volume:
    """Return every `step`-th slice of a scan, as thick as they were."""
    positions, thicknesses = volume.slice_positions_mm, volume.slice_thicknesses_mm
    return replace(
        volume,
        array=np.asarray(volume.array)[::step],
        spacing_mm=(volume.spacing_mm[0] * step, *volume.spacing_mm[1:]),
        slice_positions_mm=positions and positions[::step],
        slice_thicknesses_mm=thicknesses and thicknesses[::step],
    )


def _whole(array: npt.NDArray[np.float32]) -> npt.NDArray[np.int16]:
    return np.clip(np.rint(array), -1024, 3071).astype(np.int16)


def pass_gate(
    weights: Path,
    quantised: Path,
    scans: Iterable[GateScan],
    contract: Contract,
    weights_sha256: str,
    progress: Progress | None = None,
) -> Parity:
    """Hold the INT8 form of a network against FP32.

    Parameters
    ----------
    weights, quantised : pathlib.Path
        The ONNX file, and its INT8 form.
    scans : iterable of GateScan
    contract : Contract
        Windows and classes.
    weights_sha256 : str
        Of the ONNX file, for the record.
    progress : callable, optional
        Called with what is about to run.

    Returns
    -------
    Parity
        It passes where every scan is within 0.05 point and the mean Dice of the lesions loses at
        most 0.005. That there are twenty is `enough`.
    """
    known = {scan.name: scan for scan in scans}
    return measure_parity(
        gate_engines(weights, quantised),
        {name: scan.grid for name, scan in known.items()},
        contract,
        weights_sha256,
        progress,
        limit_points=LIMIT_POINTS,
        truths={name: s.truth for name, s in known.items() if s.truth is not None},
    )


def gate_engines(weights: Path, quantised: Path) -> list[Engine]:
    """Return OpenVINO in FP32, the reference, and in INT8 as the embedded profile runs it.

    On a CPU without kernels for 8 bits INT8 is computed in FP32; `as_served` tells.
    """
    return [openvino_engine(weights, "fp32"), openvino_engine(quantised, "int8")]


def as_served(parity: Parity) -> bool:
    """Tell whether INT8 was computed by the kernels that serve it, not in FP32."""
    return all(row.note != IN_FP32 for row in parity.rows)


def refusals(parity: Parity) -> list[str]:
    """Name why an INT8 form is not released; empty: it may be."""
    scans = len({row.scan for row in parity.rows})
    few = [f"only {scans} scans went through the gate, {LEAST_SCANS} are asked for"]
    return parity.failures() + (few if scans < LEAST_SCANS else [])
