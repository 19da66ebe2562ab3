"""Phantom patients of the tests of servers: one of full size, and one that is scored soon."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from dlild_export.phantom import Pattern, PhantomSpec, make_phantom
from dlild_export.phantom.dicom import write_dicom_series

SPEC = PhantomSpec(seed=2_000_005, pattern=Pattern.UIP, severity=0.25)
_COARSE_MM, _CHILD_MM = 3.0, 1.8


def write_child(folder: Path) -> None:
    """Write the chest of a child as a DICOM series: coarse voxels, taken for finer ones."""
    child = replace(make_phantom(SPEC, spacing_mm=_COARSE_MM), spacing_mm=_CHILD_MM)
    write_dicom_series(child, folder, pixel_mm=_CHILD_MM, slice_mm=_CHILD_MM)
