from __future__ import annotations

import os
import shutil
import zipfile

import numpy as np
import pydicom
import pytest
from client.writers import write_medium, zip_up

from dlild_client.errors import InputError, NoSeriesError, TooLargeError, UnreadableFileError
from dlild_client.reading import files
from dlild_client.reading.read import read_volume
from dlild_client.reading.survey import survey_series


def test_an_archive_and_a_medium_give_the_volume_of_the_folder(series_writer, scan, tmp_path):
    folder = series_writer.write(scan)
    straight = read_volume(folder)
    archive = zip_up(folder, tmp_path / "study.zip")
    dicomdir = write_medium(folder, tmp_path / "medium")
    for place in (archive, dicomdir, dicomdir.parent):
        volume = read_volume(place)
        np.testing.assert_array_equal(volume.array, scan.array)
        assert volume.series == straight.series
        assert volume.flags == straight.flags
    assert survey_series(archive).chosen == survey_series(dicomdir).chosen


def test_an_archive_is_known_by_its_content_not_its_name(series_writer, scan, tmp_path):
    archive = zip_up(series_writer.write(scan), tmp_path / "study.bin")
    assert read_volume(archive).shape == scan.shape


def test_names_in_an_archive_lead_nowhere(series_writer, scan, tmp_path):
    folder = series_writer.write(scan)
    place = tmp_path / "deep" / "er"
    place.mkdir(parents=True)
    archive = place / "evil.zip"
    before = sorted(tmp_path.rglob("*"))
    with zipfile.ZipFile(archive, "w") as file:
        for i, path in enumerate(sorted(folder.iterdir())):
            name = ["../../up", "/etc/absolute", "C:\\windows\\x", "ok/fine"][i % 4]
            file.write(path, f"{name}-{path.name}")
    assert read_volume(archive).shape == scan.shape
    # Nothing was unpacked, here or anywhere above.
    assert sorted(tmp_path.rglob("*")) == sorted([*before, archive])


def test_archives_that_cannot_be_read_say_why(series_writer, scan, tmp_path):
    folder = series_writer.write(scan)
    whole = zip_up(folder, tmp_path / "whole.zip").read_bytes()
    broken = tmp_path / "broken.zip"
    broken.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(
        UnreadableFileError, match=r"broken\.zip: a zip archive that cannot be opened"
    ):
        read_volume(broken)
    locked = tmp_path / "locked.zip"
    # The flag of encryption in every entry of the table of contents.
    locked.write_bytes(_with_flag(whole))
    with pytest.raises(UnreadableFileError, match=r"locked\.zip: an encrypted archive"):
        read_volume(locked)
    letter = tmp_path / "letter.zip"
    with zipfile.ZipFile(letter, "w") as file:
        file.writestr("letter.txt", "Dear all")
    with pytest.raises(NoSeriesError, match=r"letter\.zip: no DICOM image"):
        read_volume(letter)


def _with_flag(content: bytes) -> bytes:
    out = bytearray(content)
    for mark, offset in ((b"PK\x01\x02", 8), (b"PK\x03\x04", 6)):
        place = -1
        while (place := content.find(mark, place + 1)) >= 0:
            out[place + offset] |= 1
    return bytes(out)


def test_a_damaged_member_of_an_archive_is_named(series_writer, scan, tmp_path):
    archive = zip_up(series_writer.write(scan), tmp_path / "study.zip")
    with zipfile.ZipFile(archive) as file:
        info = file.infolist()[12]
    content = bytearray(archive.read_bytes())
    middle = info.header_offset + info.compress_size - 50
    content[middle : middle + 40] = b"\xaa" * 40
    archive.write_bytes(content)
    with pytest.raises(InputError, match=info.filename.rsplit("/", 1)[-1]):
        read_volume(archive)


def test_bombs_are_refused_before_they_are_unpacked(tmp_path, monkeypatch):
    big = tmp_path / "big.zip"
    with zipfile.ZipFile(big, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("small.dcm", b"\0" * 1000)
        file.writestr("bomb.dcm", b"\0" * 5000)
    monkeypatch.setattr(files, "MAXIMUM_FILE_BYTES", 4000)
    with pytest.raises(TooLargeError, match=r"bomb\.dcm unpacks to"):
        read_volume(big)
    monkeypatch.setattr(files, "MAXIMUM_FILES", 1)
    with pytest.raises(TooLargeError, match=r"big\.zip: more than 1 files"):
        read_volume(big)


def test_names_on_a_medium_may_have_changed_their_case(series_writer, scan, tmp_path):
    dicomdir = write_medium(series_writer.write(scan), tmp_path / "medium")
    for path in sorted(dicomdir.parent.rglob("*"), reverse=True):
        if path != dicomdir:
            path.rename(path.with_name(path.name.lower()))
    assert read_volume(dicomdir).shape == scan.shape


def test_files_that_a_medium_lacks_are_never_passed_over(series_writer, scan, tmp_path):
    dicomdir = write_medium(series_writer.write(scan), tmp_path / "medium")
    by_height = sorted(
        (p for p in dicomdir.parent.rglob("*") if p.is_file() and p != dicomdir),
        key=lambda p: pydicom.dcmread(p).ImagePositionPatient[2],
    )
    by_height[-1].unlink()
    volume = read_volume(dicomdir)
    assert volume.shape[0] == 29
    assert next(f for f in volume.flags if f == "files_missing").values == {"files": 1}
    for path in by_height[:-1]:
        path.unlink()
    with pytest.raises(UnreadableFileError, match="names 30 files and none is there"):
        read_volume(dicomdir)


def test_a_dicomdir_does_not_lead_out_of_its_folder(series_writer, scan, tmp_path):
    folder = series_writer.write(scan)
    dicomdir = write_medium(folder, tmp_path / "medium")
    shutil.copytree(folder, tmp_path / "OUT")
    ds = pydicom.dcmread(dicomdir)
    for record, path in zip(
        [r for r in ds.DirectoryRecordSequence if "ReferencedFileID" in r],
        sorted((tmp_path / "OUT").iterdir()),
        strict=True,
    ):
        record.ReferencedFileID = ["..", "OUT", path.name]
    ds.save_as(dicomdir)
    with pytest.raises(UnreadableFileError, match="none is there"):
        read_volume(dicomdir)


def test_a_dicomdir_that_is_none_is_refused(tmp_path):
    (tmp_path / "DICOMDIR").write_bytes(b"\0" * 128 + b"DICM" + b"\xff" * 500)
    with pytest.raises(UnreadableFileError, match="DICOMDIR cannot be read"):
        read_volume(tmp_path / "DICOMDIR")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this system")
def test_a_pipe_is_neither_waited_for_nor_read(series_writer, scan, tmp_path):
    folder = series_writer.write(scan)
    os.mkfifo(folder / "pipe.dcm")
    assert read_volume(folder).shape == scan.shape
    with pytest.raises(UnreadableFileError, match="neither a file nor a folder"):
        read_volume(folder / "pipe.dcm")


@pytest.mark.parametrize("path", ["", "no such", "a\0b", "x" * 5000])
def test_what_is_no_path_is_refused_in_one_line(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises((UnreadableFileError, NoSeriesError)) as error:
        read_volume(path)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 200
