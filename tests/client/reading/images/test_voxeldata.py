"""NRRD and MetaImage files whose voxels are not whole are refused, and the line says which."""

from __future__ import annotations

import bz2
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given
from hypothesis import strategies as st

from dlild_client.errors import UnreadableFileError
from dlild_client.reading.read import read_volume

SHAPE = (30, 24, 20)
NRRD = (
    "NRRD0004\n# made by hand\ntype: short\ndimension: 3\nspace: left-posterior-superior\n"
    "sizes: 20 24 30\nspace directions: (3,0,0) (0,2,0) (0,0,4)\nkinds: domain domain domain\n"
    "endian: little\nspace origin: (1,2,3)\nkey:=value: of no meaning\n"
)
META = (
    "ObjectType = Image\nNDims = 3\nBinaryData = True\nBinaryDataByteOrderMSB = False\n"
    "Offset = 1 2 3\nElementSpacing = 3 2 4\nDimSize = 20 24 30\nElementType = MET_SHORT\n"
)


@pytest.fixture(scope="module")
def voxels() -> np.ndarray:
    """Small steps: so it packs to less than half, as a real scan does."""
    rng = np.random.default_rng(3)
    return rng.integers(-100, 50, SHAPE).astype(np.int16) * 8


@pytest.fixture(scope="module")
def files(voxels: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What ITK writes."""
    folder = tmp_path_factory.mktemp("images")
    image = sitk.GetImageFromArray(voxels)
    image.SetSpacing((3, 2, 4))
    for kind in ("mha", "mhd", "nrrd", "nhdr"):
        sitk.WriteImage(image, str(folder / f"packed.{kind}"), useCompression=True)
        sitk.WriteImage(image, str(folder / f"plain.{kind}"), useCompression=False)
    return folder


@pytest.fixture
def put(tmp_path: Path, files: Path) -> Callable[..., Path]:
    """Write a header with its data, bent by `change`; return the header."""

    def write(header: str, data: str, change: Callable[[bytes], bytes] = bytes) -> Path:
        (tmp_path / header).write_bytes((files / header).read_bytes())
        (tmp_path / data).write_bytes(change((files / data).read_bytes()))
        return tmp_path / header

    return write


PLACES = [
    ("plain.mha", "plain.mha"), ("packed.mha", "packed.mha"),
    ("plain.nrrd", "plain.nrrd"), ("packed.nrrd", "packed.nrrd"),
    ("plain.mhd", "plain.raw"), ("packed.mhd", "packed.zraw"),
    ("plain.nhdr", "plain.raw"), ("packed.nhdr", "packed.raw.gz"),
]  # fmt: skip


@pytest.mark.parametrize(("header", "data"), PLACES)
def test_whole_files_are_read(put, voxels, header, data):
    np.testing.assert_array_equal(read_volume(put(header, data)).array, voxels)


@pytest.mark.parametrize(("header", "data"), PLACES)
@pytest.mark.parametrize("lost", [1, 8, 1000, 5000])
def test_what_is_cut_short_is_refused(put, capfd, header, data, lost):
    with pytest.raises(UnreadableFileError, match=header):
        read_volume(put(header, data, lambda content: content[:-lost]))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(("header", "data"), [p for p in PLACES if p[0].startswith("plain")])
def test_more_voxels_than_the_header_says_are_refused(put, header, data):
    """Which of them would be the right ones?"""
    with pytest.raises(
        UnreadableFileError, match=r"28900 bytes of voxels where the header says 28800"
    ):
        read_volume(put(header, data, lambda content: content + bytes(100)))


@given(place=st.integers(0, 1 << 20), bit=st.integers(0, 7), name=st.sampled_from(["mha", "nrrd"]))
def test_no_wrong_bit_of_packed_voxels_passes(files, tmp_path_factory, place, bit, name):
    content = bytearray((files / f"packed.{name}").read_bytes())
    mark = {"mha": b"LOCAL\n", "nrrd": b"\n\n"}[name]
    # A gzip stream begins with ten bytes that have no checksum: its time of writing and the like.
    header = content.index(mark) + len(mark) + (10 if name == "nrrd" else 0)
    content[header + place % (len(content) - header)] ^= 1 << bit
    path = tmp_path_factory.getbasetemp() / f"bit.{name}"
    path.write_bytes(content)
    with pytest.raises(UnreadableFileError, match=f"bit.{name}: .*(corrupt|bytes of voxels)"):
        read_volume(path)


@pytest.mark.parametrize(("header", "data"), [p for p in PLACES if p[0] != p[1]])
def test_a_data_file_that_is_not_there_is_named(put, tmp_path, capfd, header, data):
    path = put(header, data)
    (tmp_path / data).unlink()
    with pytest.raises(UnreadableFileError, match=f"{header}: its data file {data}"):
        read_volume(path)
    os.mkfifo(tmp_path / data)
    with pytest.raises(UnreadableFileError, match=f"{header}: its data file {data}"):
        read_volume(path)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("list.nhdr", NRRD + "encoding: raw\ndata file: LIST\n{names}"),
        ("numbers.nhdr", NRRD + "encoding: raw\ndata file: s%02d.raw 0 29 1\n"),
        ("list.mhd", META + "ElementDataFile = LIST\n{names}"),
        ("numbers.mhd", META + "ElementDataFile = s%02d.raw 0 29 1\n"),
    ],
)
def test_a_file_a_slice(tmp_path, voxels, name, text):
    for number, plane in enumerate(voxels):
        (tmp_path / f"s{number:02d}.raw").write_bytes(plane.tobytes())
    names = "".join(f"s{number:02d}.raw\n" for number in range(len(voxels)))
    (tmp_path / name).write_text(text.format(names=names))
    np.testing.assert_array_equal(read_volume(tmp_path / name).array, voxels)

    (tmp_path / "s07.raw").write_bytes(b"short")
    with pytest.raises(UnreadableFileError, match=r"s07\.raw: 5 bytes of voxels where .* says 960"):
        read_volume(tmp_path / name)
    (tmp_path / "s07.raw").unlink()
    with pytest.raises(UnreadableFileError, match=r"its data file s07\.raw"):
        read_volume(tmp_path / name)


def test_a_list_that_lacks_a_slice_is_refused(tmp_path, voxels):
    for number, plane in enumerate(voxels):
        (tmp_path / f"s{number:02d}.raw").write_bytes(plane.tobytes())
    names = "".join(f"s{number:02d}.raw\n" for number in range(len(voxels) - 1))
    for name, text in (("x.nhdr", NRRD + "encoding: raw\ndata file: LIST\n"),
                       ("x.mhd", META + "ElementDataFile = LIST\n")):  # fmt: skip
        (tmp_path / name).write_text(text + names)
        with pytest.raises(UnreadableFileError, match=name):
            read_volume(tmp_path / name)


def test_voxels_behind_a_head_of_their_own(tmp_path, voxels):
    (tmp_path / "x.raw").write_bytes(b"h" * 99 + b"\n" + voxels.tobytes())
    for name, text in (
        ("a.mhd", META + "HeaderSize = 100\nElementDataFile = x.raw"),
        ("b.mhd", META + "HeaderSize = -1\nElementDataFile = x.raw\n"),
        ("c.nhdr", NRRD + "encoding: raw\nbyte skip: 100\ndata file: x.raw\n"),
        ("d.nhdr", NRRD + "encoding: raw\nbyte skip: -1\ndata file: x.raw\n"),
        ("e.nhdr", NRRD + "encoding: raw\nline skip: 1\ndata file: x.raw\n"),
    ):
        (tmp_path / name).write_text(text)
        np.testing.assert_array_equal(read_volume(tmp_path / name).array, voxels, err_msg=name)


def test_encodings_that_are_not_read_are_refused_by_name(tmp_path, voxels):
    for name, content, words in (
        ("a.nrrd", NRRD.encode() + b"encoding: bzip2\n\n" + bz2.compress(voxels.tobytes()),
         "encoding bzip2"),
        ("b.nrrd", NRRD.encode() + b"encoding: hex\n\n" + voxels.tobytes().hex().encode(),
         "encoding hex"),
        ("c.nrrd", NRRD.encode() + b"\n" + voxels.tobytes(), "encoding none"),
        ("d.mha", META.replace("BinaryData = True", "BinaryData = False").encode()
         + b"ElementDataFile = LOCAL\n1 2 3", "as text"),
        ("e.mha", META.encode(), "no ElementDataFile"),
        ("f.mhd", META.encode() + b"ElementDataFile = s%d.raw 0 x\n", "where the voxels lie"),
        ("g.nhdr", NRRD.encode() + b"encoding: raw\nbyte skip: many\n", "where the voxels lie"),
        ("h.nrrd", b"", "not an NRRD file"),
    ):  # fmt: skip
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UnreadableFileError, match=f"{name}: .*{words}"):
            read_volume(tmp_path / name)
