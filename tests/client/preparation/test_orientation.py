"""Scans that a header turns or mirrors, and right ones that only look strange."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from dlild_client.flags import merge
from dlild_client.preparation.grid import to_grid
from dlild_client.preparation.inspection import inspect_chest
from dlild_client.preparation.lungs import find_lungs
from dlild_client.preparation.orientation import (
    find_spine,
    find_table,
    flag_orientation,
    judge_orientation,
)
from dlild_client.reading.read import read_volume
from dlild_client.volume import Volume

SHAPE, SPACING = (130, 120, 150), (3.0, 3.0, 3.0)
AXES = {"z": 0, "y": 1, "x": 2}
SEEN = {"z": "apices", "y": "spine", "x": "heart_and_liver"}
EVERY_WAY = ["z", "y", "x", "yx", "zy", "zx", "zyx"]


@cache
def body() -> Volume:
    """A supine patient: lungs on a liver and a stomach, heart, aorta, spine, windpipe, table."""
    z, y, x = np.meshgrid(*(3.0 * (np.arange(n) - n / 2) for n in SHAPE), indexing="ij")
    hu = np.full(SHAPE, -1000.0)
    hu[(y / 120) ** 2 + (x / 190) ** 2 < 1] = -90
    hu[(y / 100) ** 2 + (x / 170) ** 2 < 1] = 50
    below = z < -60
    fat = below & (x > 20) & (((x // 15).astype(int) + (y // 15).astype(int)) % 2 == 0)
    hu[fat & ((y / 85) ** 2 + (x / 150) ** 2 < 1)] = -100
    lungs = np.zeros(SHAPE, dtype=bool)
    for side, dome in ((-1, -20), (1, -40)):
        centre = side * 75
        radius = 55 * np.clip((110 - z) / 70, 0.05, 1) ** 0.5
        lung = ((x - centre) / radius) ** 2 + (y / (1.4 * radius)) ** 2 < 1
        bulge = dome - ((x - centre) ** 2 + (y + 20) ** 2) / 60
        lungs |= lung & (z > bulge) & (z < 110) & (z > -120 + np.abs(60 - y) * 0.5)
    heart = ((z + 15) / 55) ** 2 + ((y + 40) / 40) ** 2 + ((x - 22) / 45) ** 2 < 1
    aorta = ((x - 22) / 13) ** 2 + ((y - 25) / 13) ** 2 < 1
    hu[lungs & ~heart & ~aorta] = -850
    hu[heart] = 40
    hu[(x / 20) ** 2 + ((y - 60) / 20) ** 2 < 1] = 350
    hu[(np.abs(x) < 15) & (np.abs(y + 88) < 5) & (z > -30)] = 300
    hu[(x / 9) ** 2 + ((y - 5) / 9) ** 2 < (z > 20)] = -1000
    hu[(np.abs(y - 135) < 6) & (np.abs(x) < 180)] = -100
    noise = np.random.default_rng(3).normal(0, 8, SHAPE)
    return Volume(np.rint(np.clip(hu + noise, -1024, 2047)).astype(np.int16), SPACING)


def turned(volume: Volume, way: str) -> Volume:
    """The scan under a header that has some axes the wrong way round."""
    axes = [AXES[name] for name in way]
    return volume.with_array(np.ascontiguousarray(np.flip(volume.array, axes)))


def seen_in(grid: Volume):
    return find_lungs(grid).seen


def told(grid: Volume):
    return {str(flag): flag.values for flag in flag_orientation(judge_orientation(seen_in(grid)))}


def test_a_right_header_raises_no_doubt():
    found = judge_orientation(seen_in(body()))
    assert told(body()) == {}
    assert found.table == "behind"
    assert min(found.front_back, found.head_feet, found.left_right) > 1


@pytest.mark.parametrize("way", EVERY_WAY)
def test_every_axis_that_a_header_turns_is_seen(way):
    values = told(turned(body(), way))["orientation_doubtful"]
    assert {name for name in SEEN.values() if name in values} == {SEEN[axis] for axis in way}
    assert values["front_back"] < 0 or "y" not in way
    assert values["table"] == ("in front" if "y" in way else "behind")


def test_transposed_slices_have_the_spine_at_the_side():
    array = np.ascontiguousarray(body().array.transpose(0, 2, 1))
    assert told(Volume(array, SPACING))["orientation_doubtful"]["spine"] == "at the side"


def test_a_prone_patient_is_recognised_by_the_table_and_is_no_doubt_about_the_header():
    array = body().array.copy()
    array[:, 100:][body().array[:, 100:] > -300] = -1000
    array[:, 12:16, 15:135] = -100
    array[:, 12:16, 15:135] += (np.arange(4) * 10).astype(np.int16)[:, None]
    assert told(Volume(array, SPACING)) == {"prone_likely": {"table": "in front"}}


def test_a_prone_patient_whose_header_was_turned_is_a_doubt_about_the_header():
    """The table is where the header expects it, and the spine is not."""
    supine = body().array
    prone = np.flip(supine, (1, 2)).copy()
    for plane, other in zip(prone, supine, strict=True):
        plane[:20], plane[-20:] = -1000, other[-20:]
    values = told(Volume(prone, SPACING))["orientation_doubtful"]
    assert values["spine"] == "in front"
    assert values["heart_and_liver"] == "on the other side"
    assert "table" not in values or values["table"] == "behind"


def test_contrast_medium_does_not_turn_the_spine_to_the_front():
    volume = body()
    array = volume.array.copy()
    heart = (array > 0) & (array < 120)
    heart[:, :, :60], heart[:, :, 110:], heart[:, 75:] = False, False, False
    array[heart] += 260
    for way, doubt in (("", False), ("y", True)):
        assert ("orientation_doubtful" in told(turned(Volume(array, SPACING), way))) is doubt


def test_one_lung_only_is_no_doubt_about_the_sides():
    for side in (np.s_[:, :, :75], np.s_[:, :, 75:]):
        array = body().array.copy()
        part = array[side]
        part[(part < -700) & (part > -960)] = 40
        assert told(Volume(array, SPACING)) == {}


def test_no_bone_is_no_doubt_about_front_and_sides():
    soft = np.minimum(body().array, 60)
    seen = seen_in(Volume(soft, SPACING))
    assert find_spine(seen) is None
    found = judge_orientation(seen)
    assert (found.front_back, found.left_right) == (0.0, 0.0)
    assert told(turned(Volume(soft, SPACING), "z"))["orientation_doubtful"]["apices"] == "below"


def test_nothing_seen_is_nothing_said():
    seen = seen_in(body())
    empty = replace(seen, lungs=np.zeros_like(seen.lungs))
    assert flag_orientation(judge_orientation(empty)) == []


@pytest.fixture(scope="module")
def real(shared_data, contract):
    return to_grid(read_volume(shared_data / "lidc-idri-0314" / "dicom"), contract)


@pytest.mark.parametrize("way", EVERY_WAY)
def test_a_real_scan_is_seen_to_be_turned(real, way):
    values = told(turned(real, way))["orientation_doubtful"]
    assert {name for name in SEEN.values() if name in values} == {SEEN[axis] for axis in way}


def test_a_real_scan_whose_lower_lungs_are_white_or_cut_off_is_no_doubt(real):
    seen = seen_in(real)
    assert find_table(seen) == "behind"
    lungs = np.kron(seen.lungs, np.ones(seen.factors, dtype=bool))[
        : real.shape[0], : real.shape[1], : real.shape[2]
    ]
    used = np.flatnonzero(lungs.any(axis=(1, 2)))
    middle = int(used.mean())
    white = [np.s_[:middle], np.s_[:middle, :, : real.shape[2] // 2], np.s_[:middle, :, 130:]]
    for part in white:
        array = real.array.copy()
        array[part][lungs[part]] = 40
        assert "orientation_doubtful" not in codes(real.with_array(array))
    for cut in (slice(middle, None), slice(0, middle), slice(used[0] + 40, used[-1] - 40)):
        grid = replace(real, array=np.ascontiguousarray(real.array[cut]))
        assert "orientation_doubtful" not in codes(grid)


def test_blood_is_measured_where_the_body_shows_the_heart(real):
    """The spine in its place would pass for contrast medium."""
    assert "contrast_likely" not in codes(real)
    for way in ("y", "zy", "yx"):
        assert "contrast_likely" not in codes(turned(real, way))
    bright = np.where((real.array > 20) & (real.array < 90), real.array + 150, real.array)
    contrast = real.with_array(bright.astype(real.array.dtype))
    assert "contrast_likely" in codes(contrast)
    assert "contrast_likely" in codes(turned(contrast, "y"))


def codes(grid: Volume):
    box = find_lungs(grid)
    return merge(inspect_chest(grid, box.seen, box.aerated_ml))
