"""Files as odd writers, archives and disks leave them: read right, or refused by name."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless

from dlild_client.errors import MissingGeometryError, NotHUError, UnreadableFileError
from dlild_client.reading.read import read_volume


def bare(ds: Dataset, *, implicit: bool) -> bytes:
    """The data set alone, without preamble and meta information."""
    out = DicomBytesIO()
    out.is_implicit_VR, out.is_little_endian = implicit, True
    write_dataset(out, Dataset(ds))
    return out.getvalue()


def head(ds: Dataset, uid: str) -> bytes:
    """Preamble and meta information that name a transfer syntax."""
    out = io.BytesIO()
    copy = pydicom.dcmread(ds.filename, stop_before_pixels=True)
    copy.file_meta.TransferSyntaxUID = uid
    pydicom.filewriter.write_file_meta_info(out, copy.file_meta)
    return bytes(128) + b"DICM" + out.getvalue()


def rewrite(folder: Path, make) -> Path:
    for path in folder.iterdir():
        path.write_bytes(make(pydicom.dcmread(path)))
    return folder


@pytest.mark.parametrize(
    "make",
    [
        lambda ds: head(ds, ImplicitVRLittleEndian) + bare(ds, implicit=False),
        lambda ds: head(ds, ExplicitVRLittleEndian) + bare(ds, implicit=True),
        lambda ds: bare(ds, implicit=False),
        lambda ds: bare(ds, implicit=True),
    ],
    ids=["explicit as implicit", "implicit as explicit", "bare explicit", "bare implicit"],
)
def test_elements_are_read_as_they_are_written(series_writer, scan, make):
    """Whatever the transfer syntax says: pydicom finds out, and the pixels must not shift."""
    volume = read_volume(rewrite(series_writer.write(scan), make))
    np.testing.assert_array_equal(volume.array, scan.array)


def test_pixels_of_another_kind_than_the_transfer_syntax_says_are_refused(series_writer, scan):
    def packed(ds: Dataset) -> bytes:
        ds.compress(RLELossless, generate_instance_uid=False)
        return head(ds, ExplicitVRLittleEndian) + bare(ds, implicit=False)

    path = rewrite(series_writer.write(scan, "packed"), packed)
    with pytest.raises(UnreadableFileError, match=r"compressed pixels, but .* Explicit VR"):
        read_volume(path)
    path = rewrite(
        series_writer.write(scan, "plain"),
        lambda ds: head(ds, RLELossless) + bare(ds, implicit=False),
    )
    with pytest.raises(UnreadableFileError, match=r"cannot be decoded .*RLE"):
        read_volume(path)


def test_a_missing_sign_is_refused_where_it_matters(series_writer, scan):
    def unsigned(ds, i):
        ds.PixelData = (scan.array[i].astype(int) + 1024).astype("<u2").tobytes()
        ds.RescaleIntercept = -1024
        del ds.PixelRepresentation

    def unknown(ds, i):
        del ds.PixelRepresentation

    volume = read_volume(series_writer.write(scan, "unsigned", unsigned))
    np.testing.assert_array_equal(volume.array, scan.array)
    with pytest.raises(NotHUError, match="no pixel representation"):
        read_volume(series_writer.write(scan, "signed", unknown))


@pytest.mark.parametrize(
    ("change", "high_bit", "signed"),
    [
        (lambda a: (a + 1024) | 0xF000, 11, False),
        (lambda a: (a + 1024) | (0x8000 * (np.arange(20) < 6)), 11, False),
        (lambda a: a & 0x0FFF, 11, True),
        (lambda a: (a & 0x0FFF) << 4, 15, True),
        (lambda a: (a & 0x0FFF) << 4 | 0x000F, 15, True),
    ],
    ids=["all bits above", "a bit above", "no sign above", "high bit", "bits below"],
)
def test_bits_beyond_the_pixel_do_not_count(series_writer, scan, change, high_bit, signed):
    def edit(ds, i):
        ds.PixelData = change(scan.array[i].astype(int)).astype("<u2").tobytes()
        ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 12, high_bit, int(signed)
        ds.RescaleIntercept = 0 if signed else -1024

    volume = read_volume(series_writer.write(scan, edit=edit))
    np.testing.assert_array_equal(volume.array, scan.array)


def test_one_position_for_several_frames_is_none(series_writer, scan):
    def edit(ds, i):
        ds.NumberOfFrames = 2
        ds.PixelData *= 2

    with pytest.raises(MissingGeometryError, match="2 frames in one file without positions"):
        read_volume(series_writer.write(scan, edit=edit))


@pytest.mark.parametrize(
    "content", [b"", b"\x09\0\x10\0LO\x02\0A " * 3], ids=["zeros", "private element first"]
)
def test_a_file_of_zeros_is_given_up_soon(tmp_path, content):
    """As elements of no length, 100 MB of zeros would be read for half a minute and more."""
    with (tmp_path / "zeros.dcm").open("wb") as file:
        file.write(bytes(128) + b"DICM" + content)
        file.truncate(100_000_000)
    start = time.process_time()
    with pytest.raises(UnreadableFileError, match=r"zeros\.dcm"):
        read_volume(tmp_path)
    assert time.process_time() - start < 20


def test_links_are_followed_but_not_up(series_writer, scan, tmp_path):
    folder = series_writer.write(scan)
    series_writer.write(scan, "neighbour")
    place = tmp_path / "links"
    place.mkdir()
    (place / "series").symlink_to(folder)
    (place / "itself").symlink_to(place)
    (place / "up").symlink_to("..")
    (place / "nowhere").symlink_to("nothing")
    (folder / "round").symlink_to(place)
    os.mkfifo(place / "pipe")
    volume = read_volume(place)
    np.testing.assert_array_equal(volume.array, scan.array)
    assert "repeated_slices_dropped" not in volume.flags


def test_what_a_mac_leaves_in_archives_is_left_out(series_writer, scan, tmp_path):
    with zipfile.ZipFile(tmp_path / "study.zip", "w") as archive:
        for path in series_writer.write(scan).iterdir():
            archive.write(path, f"Übung 1/{path.name}")
            archive.writestr(f"__MACOSX/Übung 1/._{path.name}", b"\0\5\x16\7" * 9)
            archive.writestr(f"__MACOSX/Übung 1/{path.name}", b"Mac OS X")
    volume = read_volume(tmp_path / "study.zip")
    np.testing.assert_array_equal(volume.array, scan.array)
    assert "unreadable_files" not in volume.flags


def test_names_that_no_terminal_can_show_are_no_traceback(series_writer, scan, tmp_path):
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    series_writer.write(scan).rename(folder)
    shown = subprocess.run(
        [sys.executable, "-m", "dlild_client.cli", "series", str(folder)],
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        check=False,
    )
    assert (shown.returncode, shown.stderr) == (0, b"")
    assert b"chosen" in shown.stdout
