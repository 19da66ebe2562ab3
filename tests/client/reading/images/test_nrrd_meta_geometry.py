"""NRRD and MetaImage: what their headers say of spacing, units, axes and types."""

from __future__ import annotations

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
from dlild_client.reading.read import read_volume
from dlild_client.volume import Volume

NRRD = {
    "type": "short", "dimension": "3", "space": "left-posterior-superior", "sizes": "20 24 30",
    "space directions": "(3,0,0) (0,2,0) (0,0,4)", "kinds": "domain domain domain",
    "endian": "little", "encoding": "raw", "space origin": "(1,2,3)",
}  # fmt: skip
META = {
    "ObjectType": "Image", "NDims": "3", "BinaryData": "True", "BinaryDataByteOrderMSB": "False",
    "CompressedData": "False", "TransformMatrix": "1 0 0 0 1 0 0 0 1", "Offset": "1 2 3",
    "ElementSpacing": "3 2 4", "DimSize": "20 24 30", "ElementType": "MET_SHORT",
}  # fmt: skip
Put = Callable[..., Path]


@pytest.fixture
def put(scan: Volume, tmp_path: Path) -> Put:
    """Write a scan as NRRD or MetaImage, with fields changed, or left out where they are None."""

    def write(kind: str, array: np.ndarray | None = None, **fields: str | None) -> Path:
        told = {**(NRRD if kind == "nrrd" else META), **fields}
        lines = [(name, value) for name, value in told.items() if value is not None]
        if kind == "nrrd":
            head = "NRRD0005\n" + "".join(f"{n}: {v}\n" for n, v in lines) + "\n"
        else:
            head = "".join(f"{n} = {v}\n" for n, v in lines) + "ElementDataFile = LOCAL\n"
        path = tmp_path / f"scan.{kind}"
        voxels = scan.array if array is None else array
        path.write_bytes(head.encode() + voxels.tobytes())
        return path

    return write


def same(path: Path, scan: Volume, *flags: str) -> Volume:
    volume = read_volume(path)
    np.testing.assert_array_equal(volume.array, scan.array)
    assert volume.spacing_mm == pytest.approx(scan.spacing_mm)
    assert volume.origin_mm == pytest.approx((1, 2, 3))
    np.testing.assert_allclose(volume.direction, scan.direction, atol=1e-9)
    known = {"thick_slices", "spacing_far_from_training"}
    assert tuple(f for f in volume.flags if f not in known) == flags
    return volume


@pytest.mark.parametrize(
    ("kind", "fields", "flags"),
    [
        ("nrrd", {}, ()),
        ("nrrd", {"space": "LPS"}, ()),
        ("nrrd", {"space": "right-anterior-superior", "space origin": "(-1,-2,3)",
                  "space directions": "(-3,0,0) (0,-2,0) (0,0,4)"}, ()),
        ("nrrd", {"space": "LAS", "space origin": "(1, -2, 3)",
                  "space directions": "(3,0,0)  ( 0, -2, 0 ) (0,0,4)"}, ()),
        ("nrrd", {"space": "scanner-xyz"}, ("orientation_assumed",)),
        ("nrrd", {"space": None, "space dimension": "3"}, ("orientation_assumed",)),
        ("nrrd", {"space units": '"mm" "mm" "mm"'}, ()),
        ("nrrd", {"space units": '"cm" "cm" "cm"', "space origin": "(.1,.2,.3)",
                  "space directions": "(.3,0,0) (0,.2,0) (0,0,.4)"}, ()),
        ("nrrd", {"space units": '"um" "µm" "microns"', "space origin": "(1e3,2e3,3e3)",
                  "space directions": "(3000,0,0) (0,2000,0) (0,0,4000)"}, ()),
        ("nrrd", {"space units": '"mm" "mm" "cm"', "space origin": "(1,2,.3)",
                  "space directions": "(3,0,0) (0,2,0) (0,0,.4)"}, ()),
        ("nrrd", {"spacings": "3 2 4"}, ()),
        ("nrrd", {"dimension": "4", "sizes": "1 20 24 30", "kinds": "list domain domain domain",
                  "space directions": "none (3,0,0) (0,2,0) (0,0,4)"}, ()),
        ("nrrd", {"dimension": "4", "sizes": "20 24 30 1", "kinds": "domain domain domain time",
                  "space directions": "(3,0,0) (0,2,0) (0,0,4) none"}, ()),
        ("mha", {}, ()),
        ("mha", {"ElementSize": "3 2 1"}, ()),  # slices thinner than their distance
        ("mha", {"ElementSpacing": None, "ElementSize": "3 2 4"}, ()),
        ("mha", {"TransformMatrix": "3 0 0 0 2 0 0 0 4", "ElementSpacing": "1 1 1"}, ()),
        ("mha", {"TransformMatrix": "0.9999 0 0 0 1 0 0 0 1.0001"}, ()),
        ("mha", {"TransformMatrix": None}, ("orientation_assumed",)),
        ("mha", {"TransformMatrix": None, "Rotation": "1 0 0 0 1 0 0 0 1", "Offset": None,
                 "Position": "1 2 3"}, ()),
        ("mha", {"DistanceUnits": "cm", "ElementSpacing": ".3 .2 .4", "Offset": ".1 .2 .3"}, ()),
        ("mha", {"ElementNumberOfChannels": "1"}, ()),
        ("mha", {"NDims": "4", "DimSize": "20 24 30 1", "ElementSpacing": "3 2 4 1",
                 "Offset": "1 2 3 0", "TransformMatrix": "1 0 0 0 0 1 0 0 0 0 1 0 0 0 0 1"}, ()),
    ],
)  # fmt: skip
def test_what_a_header_says_is_read(put, scan, kind, fields, flags):
    same(put(kind, **fields), scan, *flags)


def test_spacings_alone_are_a_spacing(put, scan):
    path = put("nrrd", **{"space": None, "space directions": None, "space origin": None,
                          "spacings": "0.3 0.2 0.4", "units": '"cm" "cm" "cm"'})  # fmt: skip
    volume = read_volume(path)
    np.testing.assert_array_equal(volume.array, scan.array)
    assert volume.spacing_mm == pytest.approx(scan.spacing_mm)
    assert "orientation_assumed" in volume.flags


@pytest.mark.parametrize(
    ("kind", "fields", "error", "told"),
    [
        ("nrrd", {"space directions": None},
         MissingGeometryError, "neither space directions nor spac"),
        ("nrrd", {"space directions": "(3,0,0) (0,2,0)"}, MissingGeometryError, "not 3 vectors"),
        ("nrrd", {"space directions": "(3,0,0) (0,2,0) (0,0,x)"},
         MissingGeometryError, "not 3 vectors"),
        ("nrrd", {"space directions": "(3,0,0) (0,2,0) (0,0,0)"},
         MissingGeometryError, "zero length"),
        ("nrrd", {"space directions": "(nan,0,0) (0,2,0) (0,0,4)"}, MissingGeometryError, "NaN"),
        ("nrrd", {"space directions": "(3,0,0) (0,2,0) none"}, MissingGeometryError, "NaN"),
        ("nrrd", {"space origin": "(nan,nan,nan)"},
         MissingGeometryError, "origin that is no position"),
        ("nrrd", {"space origin": "here"},
         MissingGeometryError, "space origin here is no position"),
        ("nrrd", {"spacings": "1 1 1"}, GeometryError, "3 x 2 x 4 mm .* and of 1 x 1 x 1 mm"),
        ("nrrd", {"space directions": None, "spacings": "3 nan 4"}, MissingGeometryError, "NaN"),
        ("nrrd", {"space directions": None, "spacings": "3 2"},
         MissingGeometryError, "not 3 numbers"),
        ("nrrd", {"space units": '"px" "px" "px"'}, GeometryError, "lengths in 'px'"),
        ("nrrd", {"space": "talairach"}, MissingGeometryError, "unknown space talairach"),
        ("nrrd", {"endian": None}, UnreadableFileError, "byte order"),
        ("nrrd", {"type": "block"}, UnreadableFileError, "type block"),
        ("nrrd", {"sizes": "20 24"}, UnreadableFileError, "dimension 3 and sizes 20 24"),
        ("nrrd", {"sizes": None}, UnreadableFileError, "sizes none"),
        ("nrrd", {"dimension": "4", "sizes": "2 20 24 15", "kinds": "vector domain domain domain",
                  "space directions": "none (3,0,0) (0,2,0) (0,0,8)"}, NotCTError, r"2 value\(s\)"),
        ("mha", {"ElementSpacing": None}, MissingGeometryError, "no ElementSpacing"),
        ("mha", {"ElementSpacing": "3 2"}, MissingGeometryError, r"3 2 is not 3 number"),
        ("mha", {"ElementSpacing": "3 2 four"}, MissingGeometryError, "four is not 3 number"),
        ("mha", {"ElementSpacing": "3 2 0"}, MissingGeometryError, "zero length"),
        ("mha", {"ElementSpacing": "3 nan 4"}, MissingGeometryError, "NaN"),
        ("mha", {"Offset": "nan 0 0"}, MissingGeometryError, "origin that is no position"),
        ("mha", {"TransformMatrix": "0 0 0 0 0 0 0 0 0"}, MissingGeometryError, "is zero"),
        ("mha", {"TransformMatrix": "1 0 0 1 0 0 0 0 1"}, MissingGeometryError, "one plane"),
        ("mha", {"TransformMatrix": "3 0 0 0 2 0 0 0 4"}, GeometryError,
         "3 x 2 x 4 mm by ElementSpacing, and a TransformMatrix with axes 3 x 2 x 4 mm long"),
        ("mha", {"ElementToIntensityFunctionOffset": "-1024"}, NotHUError, "ElementToIntensity"),
        ("mha", {"DistanceUnits": "furlong"}, GeometryError, "lengths in furlong"),
        ("mha", {"ElementType": "MET_SHORT_ARRAY"}, UnreadableFileError, "MET_SHORT_ARRAY"),
        ("mha", {"ElementNumberOfChannels": "3"}, NotCTError, r"3 value\(s\)"),
        ("mha", {"DimSize": "20 24"}, UnreadableFileError, "NDims 3 and DimSize 20 24"),
        ("mha", {"NDims": "2", "DimSize": "480 30"}, NotCTError, "2 dimensions"),
    ],
)  # fmt: skip
def test_what_does_not_add_up_is_refused_with_what_stands_there(put, kind, fields, error, told):
    with pytest.raises(error, match=told):
        read_volume(put(kind, **fields))


def test_exactly_one_millimetre_is_a_doubt(put, scan):
    tall = np.concatenate([scan.array] * 4)
    for path in (
        put("nrrd", tall, **{"sizes": "20 24 120",
                             "space directions": "(1,0,0) (0,1,0) (0,0,1)"}),
        put("mha", tall, DimSize="20 24 120", ElementSpacing="1 1 1"),
    ):  # fmt: skip
        assert "spacing_doubtful" in read_volume(path).flags


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    ("nrrd", "meta", "kind"),
    [
        ("int16", "MET_SHORT", "i2"), ("int", "MET_INT", "i4"), (None, "MET_LONG", "i4"),
        ("long long", "MET_LONG_LONG", "i8"), ("float", "MET_FLOAT", "f4"),
        ("double", "MET_DOUBLE", "f8"),
    ],
)  # fmt: skip
def test_any_type_of_values_in_any_byte_order(put, scan, order, nrrd, meta, kind):
    for volume in _read_as(put, scan.array.astype(order + kind), order, nrrd, meta):
        np.testing.assert_array_equal(volume, scan.array)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    ("nrrd", "meta", "kind"),
    [
        ("signed char", "MET_CHAR", "i1"), ("uchar", "MET_UCHAR", "u1"),
        ("unsigned short", "MET_USHORT", "u2"), ("uint32", "MET_UINT", "u4"),
        ("uint64", "MET_ULONG_LONG", "u8"), (None, "MET_ULONG", "u4"),
    ],
)  # fmt: skip
def test_types_that_hold_no_hu_are_read_right_and_refused(put, scan, order, nrrd, meta, kind):
    stored = np.resize(np.arange(101), scan.shape).astype(order + kind)
    for names in ((nrrd, None), (None, meta)):
        if any(names):
            with pytest.raises(NotHUError, match="values from 0 to 100 are not the HU"):
                list(_read_as(put, stored, order, *names))


def _read_as(put, stored, order, nrrd, meta):
    if nrrd:
        endian = "big" if order == ">" else "little"
        yield read_volume(put("nrrd", stored, type=nrrd, endian=endian)).array
    if meta:
        big = str(order == ">")
        path = put("mha", stored, ElementType=meta, BinaryDataByteOrderMSB=big)
        yield read_volume(path).array


def test_a_data_file_that_moved_with_its_header_is_found(put, scan, tmp_path):
    (tmp_path / "x.raw").write_bytes(scan.array.tobytes())
    head = "".join(f"{name} = {value}\n" for name, value in META.items())
    for told in ("x.raw", "data\\x.raw", "C:\\scans\\x.raw", "/nowhere/x.raw"):
        (tmp_path / "scan.mhd").write_text(f"{head}ElementDataFile = {told}\n")
        same(tmp_path / "scan.mhd", scan)
    (tmp_path / "x.raw").write_bytes(b"another")
    with pytest.raises(UnreadableFileError, match=r"x\.raw: 7 bytes of voxels"):
        read_volume(tmp_path / "scan.mhd")
