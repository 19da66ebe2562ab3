"""Phantoms of measured texture: fine cysts and lines, scanned, and a truth that is exact."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage
from typer.testing import CliRunner

from dlild_client.contract import HuRange
from dlild_client.preparation.resampling import resample
from dlild_client.volume import SeriesInfo, Volume
from dlild_export.cli import app
from dlild_export.phantom import Pattern, PhantomSpec, tiles
from dlild_export.phantom.anatomy.lungs import frame_lungs
from dlild_export.phantom.cases import write_measured
from dlild_export.phantom.check import Found, Measure, find_ridges, measure_patient
from dlild_export.phantom.lesions.fibrosis import place_fibrosis
from dlild_export.phantom.lesions.layers import Layer, SampleGrid, show_layer
from dlild_export.phantom.lesions.patterns import RETICULATION
from dlild_export.phantom.measured import (
    MeasuredPatient,
    MeasuredSpec,
    Scan,
    draw_measured,
    lifted_by_clipping,
    make_measured,
    scan_measured,
    slice_positions,
    to_grid_slices,
)
from dlild_export.phantom.optics import Optics, scan_noise, scanned
from dlild_export.phantom.plant import lung_density, plant_measured
from dlild_export.phantom.tiles import Cysts, Tile, cystic_tile, septal_tile
from dlild_export.training.cases import load_arrays, open_case

COARSE_MM = 4.0


@pytest.fixture(scope="module", autouse=True)
def _small_cubes() -> Iterator[None]:
    """Cubes of 16 mm do for coarse phantoms, and are made in no time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiles, "TILE_VOXELS", 36)
        tiles.tile.cache_clear()
        yield
    tiles.tile.cache_clear()


@pytest.fixture(scope="module")
def cysts() -> Tile:
    drawn = Cysts(4.6, 0.38, 15, 0.56, 0.5)
    return cystic_tile(drawn, np.random.default_rng(1), voxels=56, spacing_mm=0.5)


@pytest.fixture(scope="module")
def patient() -> MeasuredPatient:
    body = PhantomSpec(seed=3, pattern=Pattern.NSIP, severity=0.2, lung_hu=-890)
    scan = Scan(seed=3, thickness_mm=1.0, step_mm=10.0, noise_hu=60)
    return make_measured(MeasuredSpec(body=body, scan=scan), spacing_mm=COARSE_MM)


def test_cysts_have_the_measured_size_and_thin_walls(cysts: Tile) -> None:
    sizes: list[int] = []
    for plane in cysts.lumen > 0.5:
        pieces, count = ndimage.label(plane)
        sizes += np.bincount(pieces.ravel())[1 : count + 1].tolist()
    diameter = 2 * np.sqrt(np.array(sizes) / np.pi) * cysts.spacing_mm
    diameter = diameter[diameter > 1.5]

    assert 2.8 < np.median(diameter) < 4.5
    assert diameter.max() < 15
    assert (cysts.tissue + cysts.lumen).max() <= 1 + 1e-6
    assert 0.25 < cysts.lumen.mean() < 0.5
    assert 0.08 < cysts.tissue.mean() < 0.3


def test_a_cube_continues_into_itself(cysts: Tile) -> None:
    inner = np.abs(np.diff(cysts.lumen, axis=0)).mean()
    seam = np.abs(cysts.lumen[0] - cysts.lumen[-1]).mean()

    assert seam == pytest.approx(inner, rel=0.5)


def test_septa_are_mostly_thinner_than_a_voxel() -> None:
    net = septal_tile(np.random.default_rng(2), voxels=48, spacing_mm=0.5)

    assert 0.04 < net.tissue.mean() < 0.16
    assert not net.lumen.any()


def test_a_scanned_cube_is_what_the_client_makes_of_its_slices(cysts: Tile) -> None:
    optics = Optics(blur_mm=0.0, thickness_mm=0.0, pixel_mm=1.5, along_mm=1.5)
    tissue, _ = scanned(cysts, optics, 1.0)
    fine = np.tile(1000 * cysts.tissue, (3, 3, 3))
    count = 3 * 56 // 3  # voxels of 1.5 mm, with a common centre

    grid = resample(fine, (0.5,) * 3, (count,) * 3, (1.5,) * 3, HuRange(-1024, 2047, -1024))

    # The centre of a voxel of 1.5 mm is that of the middle one of three.
    expected = 1000 * np.tile(tissue, (3, 3, 3))[1::3, 1::3, 1::3]
    middle = slice(15, 40)
    error = (grid - expected)[middle, middle, middle]
    assert np.abs(error).mean() < 0.1 * expected.std()
    assert error.mean() == pytest.approx(0, abs=3)


def test_noise_has_its_strength_and_its_grain() -> None:
    rng = np.random.default_rng(0)

    native = scan_noise((4, 200, 200), 100.0, 0.6, 0.42, rng, resampled=False)
    grid = scan_noise((4, 200, 200), 100.0, 0.6, 1.5, rng)

    power = (np.abs(np.fft.fft2(native)) ** 2).mean(axis=0)
    axis = np.fft.fftfreq(200, 0.42)
    radius = np.hypot(axis[:, None], axis[None, :])
    rings = [power[(radius >= f) & (radius < f + 0.1)].mean() for f in np.arange(0, 1.1, 0.1)]
    assert native.std() == pytest.approx(100, rel=0.1)
    assert np.argmax(rings) in (5, 6)
    # Little of a fine grain is left where voxels are coarse.
    assert 2 < grid.std() < 30


def test_dark_lumens_rise_where_noise_is_cut_off() -> None:
    hu = np.array([-1000.0, -900.0, -500.0, 40.0], np.float32)
    noise = np.random.default_rng(1).normal(0, 60, (100_000, 1))
    expected = np.maximum(hu + noise, -1024).mean(axis=0)

    lifted = lifted_by_clipping(hu, 60.0)

    assert lifted == pytest.approx(expected, abs=1)


def test_fibrosis_lies_at_the_edges_and_its_share_is_met() -> None:
    z, y, x = np.ogrid[:40, :50, :60]
    lungs = ((z - 20) / 18) ** 2 + ((y - 25) / 22) ** 2 + ((x - 30) / 27) ** 2 < 1
    frame = frame_lungs(lungs, COARSE_MM)

    labels = place_fibrosis(frame, frame.depth_mm, 0.2, np.random.default_rng(5))

    assert (labels >= 2).sum() == pytest.approx(0.2 * lungs.sum(), abs=1)
    assert np.array_equal(labels >= 1, lungs)
    assert frame.depth_mm[labels >= 2].mean() < frame.depth_mm[labels == 1].mean()


def test_in_a_gap_the_nearer_slice_stands(patient: MeasuredPatient) -> None:
    quiet = replace(patient.spec.scan, noise_hu=0.0)
    z_mm = slice_positions(len(patient.hu) * COARSE_MM, quiet, np.random.default_rng([3, 6]))

    scan = scan_measured(patient, quiet)

    # The grid is centred on the stack, which ends half a step beyond its outermost slices.
    middle, count = (z_mm[0] + z_mm[-1]) / 2, len(scan.hu)
    z = middle + (np.arange(count) - (count - 1) / 2) * COARSE_MM
    away = np.abs(z[:, None] - z_mm)
    nearest = away.argmin(axis=1)
    clear = np.sort(away, axis=1)[:, 1] - away.min(axis=1) > 0.1
    truth = np.clip(np.rint(z_mm[nearest] / COARSE_MM), 0, len(patient.labels) - 1).astype(int)
    assert np.array_equal(scan.labels[clear], patient.labels[truth[clear]])
    for number in np.unique(nearest):
        same = scan.hu[(nearest == number) & clear]
        assert all(np.array_equal(plane, same[0]) for plane in same)


def test_slices_that_touch_are_interpolated() -> None:
    slices = np.random.default_rng(0).normal(-800, 50, (8, 5, 6)).astype(np.float32)
    z_mm = 2.0 + 3.0 * np.arange(8)

    array, grid_mm = to_grid_slices(slices, z_mm, 3.0, 1.5)

    inside = (grid_mm > z_mm[0]) & (grid_mm < z_mm[-1])
    expected = [np.interp(grid_mm[inside], z_mm, slices[:, y, x]) for y in (0, 4) for x in (1, 5)]
    found = [array[inside, y, x] for y in (0, 4) for x in (1, 5)]
    assert np.abs(np.array(found) - np.array(expected)).max() <= 0.51


def test_lesions_are_little_denser_than_their_own_lung(patient: MeasuredPatient) -> None:
    scan = scan_measured(patient, Scan(seed=1, thickness_mm=1.0, step_mm=1.0, noise_hu=20))

    lung = np.median(scan.hu[scan.labels == 1])
    lines = np.median(scan.hu[scan.labels == RETICULATION])
    assert lung + 30 < lines < lung + 250


def test_the_same_patient_is_made_again(patient: MeasuredPatient) -> None:
    again = make_measured(patient.spec, spacing_mm=COARSE_MM)

    assert np.array_equal(again.hu, patient.hu)
    assert np.array_equal(scan_measured(again).hu, scan_measured(patient).hu)


def test_planting_changes_only_the_lungs_and_keeps_the_noise(patient: MeasuredPatient) -> None:
    healthy = scan_measured(
        replace(patient, layers=[], labels=(patient.labels >= 1).astype(np.uint8)),
        Scan(seed=2, thickness_mm=1.0, step_mm=1.0, noise_hu=30),
    )
    lungs = healthy.labels >= 1
    volume = Volume(healthy.hu, (COARSE_MM,) * 3, series=SeriesInfo(slice_thickness_mm=1.0))

    hu, labels = plant_measured(volume, lungs, pattern=Pattern.NSIP, severity=0.2, seed=4)

    far = ~ndimage.binary_dilation(labels >= 2, iterations=4)
    assert np.array_equal(labels >= 1, lungs)
    assert (labels >= 2).mean() == pytest.approx(0.2 * lungs.mean(), rel=0.1)
    assert np.array_equal(hu[far], healthy.hu[far])
    assert (hu - healthy.hu)[labels == RETICULATION].mean() > 30


def test_the_level_of_the_lung_is_not_moved_by_vessels() -> None:
    hu = np.full((20, 20, 20), -880.0, np.float32)
    hu[::5, ::5] = 40
    level = lung_density(hu, np.ones(hu.shape, bool), 1.5)

    assert level == pytest.approx(np.full(hu.shape, -880.0), abs=1)


def test_vessels_run_through_a_texture() -> None:
    weight = np.ones((4, 12, 12), np.float32)
    layer = Layer("septa", 0, (0, 1, 2), 0.3, 1.0, (1.0, 2.0, 3.0), weight, 1.0, -985.0,
                  np.zeros((3, 4, 12, 12), np.float16))  # fmt: skip
    hu = np.full(weight.shape, -890, np.float32)
    hu[:, 5] = 40
    sampling = SampleGrid(np.arange(4), np.arange(12), np.arange(12), 1.5)

    show_layer(hu, np.full(weight.shape, -890, np.float32), layer, sampling,
               Optics(0.5, 1.0, 1.5, None))  # fmt: skip

    assert hu[:, 5] == pytest.approx(40)
    assert hu[:, 8:].mean() > -880


def test_a_line_is_measured_as_it_was_drawn() -> None:
    pixel, thickness = 0.42, 0.8
    x = (np.arange(200) - 100) * pixel
    fine = np.linspace(-40, 40, 40_001)
    share = (np.abs(fine) < thickness / 2).astype(float)
    blurred = ndimage.gaussian_filter1d(share, 0.5 / (fine[1] - fine[0]))
    profile = -900 + 940 * np.interp(x, fine, blurred)
    hu = np.repeat(profile[None], 200, axis=0).astype(np.float32)

    found = find_ridges(hu, np.ones(hu.shape, bool), pixel)

    assert np.median(found.thickness_mm) == pytest.approx(thickness, abs=0.1)
    assert np.median(found.width_mm) == pytest.approx(1.35, abs=0.3)
    assert found.length_mm == pytest.approx(200 * pixel, rel=0.2)


def test_half_of_what_is_drawn_is_uip_and_gapped_scans_are_common() -> None:
    drawn = [draw_measured(seed) for seed in range(200)]

    uip = np.mean([spec.body.pattern is Pattern.UIP for spec in drawn])
    gapped = np.mean([spec.scan.gapped for spec in drawn])
    assert 0.4 < uip < 0.7
    assert 0.25 < gapped < 0.55
    assert draw_measured(7) == draw_measured(7)


def test_a_patient_is_scanned_twice_and_stays_one_group(tmp_path: Path) -> None:
    names = list(
        write_measured(tmp_path, [4], lung_masks=[], spacing_mm=COARSE_MM, workers=1, scans=2)
    )

    first, second = (open_case(tmp_path / f"{name}.npz") for name in names)
    assert names == ["measured-000004", "measured-000004-1"]
    assert first.group == second.group
    assert first.shape == second.shape
    assert not np.array_equal(load_arrays(first.path)[0], load_arrays(second.path)[0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--texture", "velvet"], "velvet"),
        (["--texture", "measured", "--pattern", "uip"], "pattern"),
        (["--texture", "measured", "--lung-hu", "-900", "-800"], "lung_hu"),
        (["--scans", "2"], "only measured phantoms"),
    ],
)
def test_what_does_not_go_together_is_refused(
    tmp_path: Path, options: list[str], message: str
) -> None:
    result = CliRunner().invoke(app, ["phantom", str(tmp_path / "out"), *options])

    assert result.exit_code == 2
    assert message in result.output
    assert not (tmp_path / "out").exists()


def test_a_texture_that_is_none_is_not_planted(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["plant", str(tmp_path), "out", "--texture", "velvet"])

    assert result.exit_code == 2
    assert "velvet" in result.output


def test_the_check_says_what_lies_outside() -> None:
    measure = Measure("rise", "rise, HU", 80, 190)

    assert Found(measure, (90.0, 120.0, 400.0)).within
    assert not Found(measure, (20.0, 40.0, 120.0)).within
    assert not Found(measure, ()).within


def test_a_phantom_is_measured_as_patients_were(patient: MeasuredPatient) -> None:
    found = measure_patient(patient)

    assert 20 < found["rise_reticulation"] < 260
    assert 0 < found["edge_above"] < 1
    assert found["reticulation_10mm"] <= found["reticulation_15mm"] <= 1
    assert found["noise_tissue"] == pytest.approx(100, rel=0.1)
