"""The geometry of a NIfTI file stands in it three times: which counts where they disagree."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from dlild_client.errors import (
    GeometryError,
    MissingGeometryError,
    NotCTError,
    NotHUError,
    UnreadableFileError,
)
from dlild_client.reading.images.nifti import read_header
from dlild_client.reading.read import read_volume
from dlild_client.results.nifti import write_nifti
from dlild_client.volume import Volume

PIXDIM, CODES, QUATERNION, SFORM, UNITS = 80, 252, 256, 280, 123
NAN = float("nan")
Put = Callable[..., Path]


@pytest.fixture
def placed(scan: Volume) -> Volume:
    """Spacing (4, 2, 3) mm along (z, y, x)."""
    return Volume(scan.array, scan.spacing_mm, origin_mm=(5.0, -6.0, 7.0))


@pytest.fixture
def put(placed: Volume, tmp_path: Path) -> Put:
    """Write a scan as NIfTI with `fields` bent: place and what stands there, as of `struct`."""

    def write(*fields: tuple[int, str, tuple[float, ...]], name: str = "scan.nii") -> Path:
        write_nifti(placed, tmp_path / "straight.nii")
        content = bytearray((tmp_path / "straight.nii").read_bytes())
        for place, form, values in fields:
            struct.pack_into(f"<{form}", content, place, *values)
        (tmp_path / name).write_bytes(content)
        return tmp_path / name

    return write


def codes(q: int, s: int) -> tuple[int, str, tuple[float, ...]]:
    return CODES, "2h", (q, s)


def spacing(x: float, y: float, z: float) -> tuple[int, str, tuple[float, ...]]:
    return PIXDIM, "3f", (x, y, z)


def sform(matrix: list[list[float]], origin: tuple[float, ...] = (-5, 6, 7)) -> tuple:
    return SFORM, "12f", tuple(np.column_stack([matrix, origin]).ravel())


STRAIGHT = [[-3, 0, 0], [0, -2, 0], [0, 0, 4]]


def same(path: Path, placed: Volume, flags: tuple[str, ...] = ()) -> Volume:
    volume = read_volume(path)
    np.testing.assert_array_equal(volume.array, placed.array)
    assert volume.spacing_mm == pytest.approx(placed.spacing_mm)
    np.testing.assert_allclose(volume.direction, placed.direction, atol=1e-6)
    known = {"thick_slices", "spacing_far_from_training"}
    assert tuple(f for f in volume.flags if f not in known) == flags
    return volume


@pytest.mark.parametrize(
    ("fields", "flags"),
    [
        ([], ()),
        ([codes(0, 1)], ()),
        ([codes(0, 5), spacing(1, 1, 1)], ("spacing_doubtful",)),
        ([codes(0, 1), spacing(3, 2, 8)], ("spacing_doubtful",)),
        ([codes(1, 0), sform(np.eye(3))], ()),
        ([codes(1, 0), sform(np.full((3, 3), NAN))], ()),
        ([codes(1, 1), sform(np.zeros((3, 3)))], ("spacing_doubtful",)),
        ([codes(1, 1), sform(np.full((3, 3), NAN))], ("spacing_doubtful",)),
        ([codes(1, 1), (QUATERNION, "3f", (NAN, 0, 0))], ("spacing_doubtful",)),
        ([codes(1, 1), spacing(-3, 2, 4)], ()),
        ([codes(0, 1), spacing(-3, 2, 4)], ()),
        ([codes(1, 0), spacing(-3, -2, 4)], ("orientation_assumed",)),
        ([codes(0, 0)], ("orientation_assumed",)),
        ([codes(0, 0), spacing(-3, 2, 4)], ("orientation_assumed",)),
        ([codes(1, 2), sform(STRAIGHT, (90, -4, 300))], ()),  # moved by a registration
    ],
)
def test_the_affine_that_counts_is_the_geometry(put, placed, fields, flags):
    same(put(*fields), placed, flags)


@pytest.mark.parametrize("q", [0, 1])
@pytest.mark.parametrize("shear_deg", [0.01, 0.3, 1.0, 10.0])
def test_a_shear_is_that_of_the_sform(put, placed, shear_deg, q):
    """A qform cannot hold it, and so is no other geometry."""
    length = 4 * np.hypot(1, np.tan(np.radians(shear_deg)))
    shift = length * np.sin(np.radians(shear_deg))
    upward = length * np.cos(np.radians(shear_deg))
    matrix = [[-3, 0, 0], [0, -2, shift], [0, 0, upward]]
    path = put(codes(q, 1), sform(matrix), spacing(3, 2, length))
    volume = read_volume(path)
    np.testing.assert_array_equal(volume.array, placed.array)
    assert volume.spacing_mm == pytest.approx((length, 2, 3))
    assert volume.direction[1][0] == pytest.approx(-np.sin(np.radians(shear_deg)), abs=1e-6)
    tilt = [f.values["tilt_deg"] for f in volume.flags if f == "gantry_tilt_corrected"]
    assert tilt == (pytest.approx([shear_deg], rel=1e-3) if shear_deg > 0.2 else [])


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ([spacing(1, 1, 1)], r"3 x 2 x 4 mm by sform, 1 x 1 x 1 mm by qform"),
        ([sform(np.diag([-1, -1, 1]))], r"1 x 1 x 1 mm by sform, 3 x 2 x 4 mm by qform"),
        ([sform(np.diag([-3, -2, 5]))], r"3 x 2 x 5 mm by sform, 3 x 2 x 4 mm by qform"),
        ([sform(np.diag([3, -2, 4]))], r"voxels up to 57\.0 mm apart"),
        ([sform([[0, -2, 0], [-3, 0, 0], [0, 0, 4]])], r"2 x 3|3 x 2 x 4 mm by sform"),
    ],
)
def test_two_valid_affines_that_disagree_are_refused_with_both_spacings(put, fields, told):
    with pytest.raises(GeometryError, match=told):
        read_volume(put(codes(1, 1), *fields))


@pytest.mark.parametrize(
    ("fields", "kind", "told"),
    [
        ([codes(0, 1), sform(np.zeros((3, 3)))], MissingGeometryError, "its sform is zero"),
        (
            [codes(0, 1), sform(np.full((3, 3), NAN))],
            MissingGeometryError,
            "sform holds numbers that",
        ),
        ([codes(0, 1), sform(STRAIGHT, (NAN, 0, 0))], MissingGeometryError, "sform has an origin"),
        (
            [codes(0, 1), sform([[3, 0, 0], [0, 2, 0], [0, 0, 0]])],
            MissingGeometryError,
            "zero length",
        ),
        (
            [codes(0, 1), sform([[3, 3, 0], [2, 2, 0], [0, 0, 4]])],
            MissingGeometryError,
            "one plane",
        ),
        ([codes(1, 0), spacing(0, 0, 0)], MissingGeometryError, "its qform is zero"),
        ([codes(1, 0), spacing(3, NAN, 4)], MissingGeometryError, "qform holds numbers that"),
        ([codes(0, 0), spacing(3, 2, 0)], MissingGeometryError, "pixdim of 3 x 2 x 0 mm"),
        ([codes(0, 0), spacing(NAN, 2, 4)], MissingGeometryError, "pixdim of nan"),
        ([codes(0, 1), sform(np.diag([3000, 2000, 4000]))], GeometryError, "4000 x 2000 x 3000 mm"),
        ([(UNITS, "b", (3,))], GeometryError, r"0\.004 x 0\.002 x 0\.003 mm"),
        ([(112, "2f", (1, NAN))], NotHUError, "scl_slope and scl_inter are 1 and nan"),
        ([(70, "h", (128,))], NotCTError, "colours"),
        ([(70, "h", (32,))], NotCTError, "complex"),
        ([(70, "h", (1536,))], UnreadableFileError, "data type 1536"),
        ([(108, "f", (-8,))], UnreadableFileError, "voxels at byte -8"),
        ([(108, "f", (NAN,))], UnreadableFileError, "voxels at byte nan"),
        ([(344, "4s", (b"ni1\0",))], UnreadableFileError, "one half of a pair"),
        ([(40, "8h", (3, 20, 24, -30, 1, 1, 1, 1))], UnreadableFileError, "cannot be right"),
    ],
)
def test_what_is_no_geometry_is_refused_with_what_stands_there(put, fields, kind, told):
    with pytest.raises(kind, match=told):
        read_volume(put(*fields))


def test_an_eye_affine_is_a_doubt(put):
    eye = [codes(1, 1), spacing(1, 1, 1), sform(np.diag([-1, -1, 1]))]
    # 30 mm would be no chest: slices of a tall one.
    path = put(*eye)
    content = bytearray(path.read_bytes())
    struct.pack_into("<8h", content, 40, 3, 20, 24, 120, 1, 1, 1, 1)
    path.write_bytes(content[:352] + content[352:] * 4)
    flag = next(f for f in read_volume(path).flags if f == "spacing_doubtful")
    assert flag.values == {"x_mm": 1.0, "y_mm": 1.0, "z_mm": 1.0}


@pytest.mark.parametrize(("code", "factor"), [(0, 1), (1, 0.001), (2, 1), (3, 1000), (10, 1)])
def test_units_are_turned_into_mm(put, placed, code, factor):
    scaled = sform(np.array(STRAIGHT) * factor, tuple(np.array([-5, 6, 7]) * factor))
    for which in (codes(0, 1), codes(1, 1)):
        offsets = (268, "3f", tuple(np.array([-5, 6, 7]) * factor))
        path = put(which, (UNITS, "b", (code,)), spacing(*(np.array([3, 2, 4]) * factor)), scaled,
                   offsets)  # fmt: skip
        assert same(path, placed).origin_mm == pytest.approx((5, -6, 7))


@pytest.mark.parametrize(
    "slope", [(0, -500), (NAN, NAN), (NAN, 3), (1, 0)], ids=["zero", "nan", "half", "one"]
)
def test_a_slope_of_nothing_is_none(put, placed, slope):
    same(put((112, "2f", slope)), placed)


def test_names_say_nothing_of_compression(put, placed, tmp_path):
    plain = put().read_bytes()
    (tmp_path / "a.nii.gz").write_bytes(plain)
    (tmp_path / "b.nii").write_bytes(gzip.compress(plain))
    (tmp_path / "c.NII.GZ").write_bytes(gzip.compress(plain[:5000]) + gzip.compress(plain[5000:]))
    (tmp_path / "d.nii").write_bytes(plain + b"more")
    (tmp_path / "e.nii.gz").write_bytes(gzip.compress(plain) + bytes(512))
    for name in ("a.nii.gz", "b.nii", "c.NII.GZ", "d.nii", "e.nii.gz"):
        same(tmp_path / name, placed)
    (tmp_path / "f.nii.gz").write_bytes(gzip.compress(plain) + b"garbage")
    with pytest.raises(UnreadableFileError, match=r"f\.nii\.gz: cut short or corrupt"):
        read_volume(tmp_path / "f.nii.gz")


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"])
def test_any_type_of_values_in_any_byte_order_and_version(tmp_path, placed, order, kind):
    lowest = {"i1": -1024 + 8 * 128, "u1": -1024}.get(kind, -1024 if kind[0] == "u" else 0)
    slope = 8 if kind[1] == "1" else 1
    stored = ((placed.array.astype(float) - lowest) // slope).astype(order + kind)
    codes_of = {"u1": 2, "i2": 4, "i4": 8, "f4": 16, "f8": 64, "i1": 256, "u2": 512, "u4": 768,
                "i8": 1024, "u8": 1280}  # fmt: skip
    affine = np.column_stack([STRAIGHT, (-5, 6, 7)]).ravel()
    head = bytearray(544)
    struct.pack_into(order + "i8s2h", head, 0, 540, b"n+2\0\r\n\032\n", codes_of[kind], 0)
    struct.pack_into(order + "8q", head, 16, 3, 20, 24, 30, 1, 1, 1, 1)
    struct.pack_into(order + "8d", head, 104, 1, 3, 2, 4, 0, 0, 0, 0)
    struct.pack_into(order + "q2d", head, 168, 544, slope, lowest)
    struct.pack_into(order + "2i", head, 344, 0, 1)
    struct.pack_into(order + "12d", head, 400, *affine)
    struct.pack_into(order + "i", head, 500, 2)
    (tmp_path / "two.nii").write_bytes(bytes(head) + stored.tobytes())
    volume = read_volume(tmp_path / "two.nii")
    expected = stored.astype(float) * slope + lowest
    np.testing.assert_array_equal(volume.array, np.maximum(expected, -1024))
    assert volume.spacing_mm == pytest.approx(placed.spacing_mm)
    assert volume.origin_mm == pytest.approx((5, -6, 7))


def test_random_rotations_come_back_by_qform_and_by_sform(put, placed, tmp_path):
    rng = np.random.default_rng(0)
    for number in range(20):
        rotation = np.linalg.qr(rng.normal(size=(3, 3)))[0]  # half of them are reflections
        turned = Volume(placed.array, placed.spacing_mm, (5.0, -6.0, 7.0), rotation)
        path = tmp_path / f"{number}.nii"
        write_nifti(turned, path)
        for which in ((1, 0), (0, 1), (1, 1)):
            content = bytearray(path.read_bytes())
            struct.pack_into("<2h", content, CODES, *which)
            path.write_bytes(content)
            header = read_header(path)
            np.testing.assert_allclose(header.direction, turned.direction, atol=1e-6)
            assert header.origin_mm == pytest.approx(turned.origin_mm, abs=1e-5)
            assert header.spacing_mm == pytest.approx(turned.spacing_mm)
