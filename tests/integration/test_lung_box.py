"""The lung box holds the true lung, also where it is as dense as liver."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from examples import examples
from hypothesis import given
from hypothesis import strategies as st

from dlild_client.contract import Contract
from dlild_client.preparation.grid import to_grid
from dlild_client.preparation.lungs import find_lungs
from dlild_client.preparation.surroundings import in_voxels
from dlild_client.reading.read import read_volume
from dlild_client.volume import Volume
from dlild_export.phantom import Pattern, PhantomSpec, make_phantom

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
Mask = np.ndarray

SPECS = [
    PhantomSpec(seed=3_100_001),
    PhantomSpec(seed=3_100_002, pattern=Pattern.ORGANISING, severity=0.6),
    PhantomSpec(seed=3_100_003, pattern=Pattern.UIP, severity=0.5, blood_hu=250),
    PhantomSpec(seed=3_100_004, pattern=Pattern.NSIP, severity=0.4, noise_hu=60),
]


def lower_third(lung: Mask) -> Mask:
    return lower(lung, 1 / 3)


def lower_half(lung: Mask) -> Mask:
    return lower(lung, 1 / 2)


def lower(lung: Mask, share: float) -> Mask:
    z = np.flatnonzero(lung.any(axis=(1, 2)))
    part = np.zeros_like(lung)
    part[: int(z[0] + share * (z[-1] - z[0]))] = True
    return lung & part


def lower_lobes(lung: Mask) -> Mask:
    """Below an oblique plane, as the fissure lies: from three quarters at the back to the base."""
    z, y, _ = (np.flatnonzero(lung.any(axis=axes)) for axes in ((1, 2), (0, 2), (0, 1)))
    height = (np.arange(lung.shape[0]) - z[0]) / (z[-1] - z[0])
    depth = (np.arange(lung.shape[1]) - y[0]) / (y[-1] - y[0])
    return lung & (height[:, None] < 0.75 * depth[None])[:, :, None]


def lowest_40_mm(lung: Mask) -> Mask:
    z = np.flatnonzero(lung.any(axis=(1, 2)))
    return lower(lung, 27 / (z[-1] - z[0]))


def left_lung(lung: Mask) -> Mask:
    x = np.flatnonzero(lung.any(axis=(0, 1)))
    part = lung.copy()
    part[:, :, : (x[0] + x[-1]) // 2] = False
    return part


PARTS = [lower_third, lower_half, lower_lobes, lowest_40_mm, left_lung]


def held(scan: Volume, lung: Mask, part: Callable[[Mask], Mask] | None) -> float:
    """Share of the true lung in the box, with one part of it painted solid."""
    hu = scan.array.copy()
    if part is not None:
        solid = part(lung)
        noise = np.random.default_rng(5).normal(30, 20, int(solid.sum()))
        hu[solid] = np.clip(noise, -100, 160)
    box = find_lungs(scan.with_array(hu))
    inside = tuple(slice(a, b) for a, b in zip(box.start, box.stop, strict=True))
    sent = ~in_voxels(box.seen.outside, box.seen.factors, lung.shape)
    return float((lung & sent)[inside].sum() / lung.sum())


@pytest.fixture(
    scope="module",
    params=[SPECS[0], *(pytest.param(spec, marks=pytest.mark.slow) for spec in SPECS[1:])],
    ids=lambda s: str(s.pattern),
)
def chest(request: pytest.FixtureRequest) -> tuple[Volume, Mask]:
    phantom = make_phantom(request.param)
    return Volume(phantom.hu, (phantom.spacing_mm,) * 3), phantom.labels > 0


@pytest.mark.parametrize("part", [None, *PARTS])
def test_the_box_holds_the_lung_of_a_phantom(
    chest: tuple[Volume, Mask], part: Callable[[Mask], Mask] | None
) -> None:
    assert held(*chest, part) >= 0.999


def aerated(grid: Volume) -> Mask:
    """Lungs of a healthy scan: air within the body, closed over vessels, without what is small."""
    air = sitk.GetImageFromArray((grid.array < -400).astype(np.uint8))
    parts = sitk.GetArrayFromImage(sitk.RelabelComponent(sitk.ConnectedComponent(air)))
    border = np.unique(parts[:, [0, -1]])
    lung = (parts > 0) & (parts <= 3) & ~np.isin(parts, border)
    closed = sitk.BinaryMorphologicalClosing(
        sitk.GetImageFromArray(lung.astype(np.uint8)), [4, 4, 4]
    )
    return sitk.GetArrayFromImage(closed).astype(bool)


@pytest.fixture(scope="module")
def real(contract: Contract) -> tuple[Volume, Mask]:
    if not SHARED.is_dir():
        pytest.skip("no ../shared/data beside the repository: the real scan is not tried")
    grid = to_grid(read_volume(SHARED / "lidc-idri-0314" / "dicom"), contract)
    lung = aerated(grid)
    assert lung.sum() * 3.375 / 1000 == pytest.approx(2850, rel=0.05)
    return grid, lung


@pytest.mark.parametrize("part", [None, *PARTS])
def test_the_box_holds_the_lung_of_a_real_scan(
    real: tuple[Volume, Mask], part: Callable[[Mask], Mask] | None
) -> None:
    assert held(*real, part) >= 0.999


@examples(20)
@given(
    height=st.floats(0.0, 0.6),
    to_back=st.floats(-0.5, 0.8),
    to_left=st.floats(-0.4, 0.4),
    both=st.booleans(),
)
def test_the_box_holds_what_is_solid_below_any_plane(
    real: tuple[Volume, Mask], height: float, to_back: float, to_left: float, both: bool
) -> None:
    """Planes that tilt any way, through both lungs or the left one only."""

    def below(lung: Mask) -> Mask:
        z, y, x = (
            np.interp(np.arange(n), np.flatnonzero(lung.any(axis=axes))[[0, -1]], [0.0, 1.0])
            for n, axes in zip(lung.shape, ((1, 2), (0, 2), (0, 1)), strict=True)
        )
        plane = height + to_back * (y[:, None] - 0.5) + to_left * (x - 0.5)
        solid = lung & (z[:, None, None] < plane[None])
        if not both:
            solid[:, :, x < 0.5] = False
        return solid

    assert held(*real, below) >= 0.999


def rim(lung: Mask) -> Mask:
    """All lung within 15 mm of its surface."""
    inner = sitk.BinaryErode(sitk.GetImageFromArray(lung.astype(np.uint8)), [10, 10, 10])
    return lung & ~sitk.GetArrayFromImage(inner).astype(bool)


def test_the_box_holds_a_solid_rim_all_round_the_lungs(real: tuple[Volume, Mask]) -> None:
    assert held(*real, rim) >= 0.999
