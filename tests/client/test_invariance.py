"""One scan, however it was written, is one volume on the grid, one lung box and one set of windows.

So the score cannot depend on the writing: what is sent to the server is the same, bit by bit.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk
from client.writers import (
    LOSSLESS,
    to_unsigned,
    transcode,
    write_enhanced,
    write_image,
    write_medium,
    zip_up,
)

from dlild_client.preparation.prepare import PreparedScan, prepare
from dlild_client.reading.read import read_volume
from dlild_client.volume import Volume

AXIAL, CORONAL, SAGITTAL = (1, 0, 0, 0, 1, 0), (1, 0, 0, 0, 0, -1), (0, 1, 0, 0, 0, -1)
ORIGIN = (-150.0, -130.0, -300.0)


@pytest.fixture(scope="module")
def scan(chest_maker) -> Volume:
    """A small chest with noise of its own, so that no voxel passes for another."""
    chest = chest_maker((40, 60, 80), (6.0, 4.5, 4.5))
    rng = np.random.default_rng(2)
    array = chest.array + rng.integers(-15, 16, chest.shape).astype(np.int16)
    return replace(chest, array=np.maximum(array, -1020), origin_mm=ORIGIN)


@pytest.fixture(scope="module")
def straight(scan, small_contract) -> PreparedScan:
    return prepare(scan, small_contract)


def same(path, straight, contract, *, exact=True) -> None:
    prepared = prepare(read_volume(path), contract)
    difference = np.abs(prepared.grid.array.astype(int) - straight.grid.array)
    assert difference.max() <= (0 if exact else 1)
    np.testing.assert_allclose(prepared.grid.origin_mm, straight.grid.origin_mm, atol=1e-3)
    assert prepared.box == straight.box
    assert prepared.plan == straight.plan


def place(scan, orientation, turned):
    """Rows and columns in the order of an orientation; the edit that says where each slice lies."""
    points = {AXIAL: (0, 1, 2), CORONAL: (1, 0, 2), SAGITTAL: (2, 0, 1)}[orientation]
    array, spacing = scan.array.transpose(points), [scan.spacing_mm[i] for i in points]
    if orientation != AXIAL:
        array = array[:, ::-1]  # their rows run from the head down
    row, column = np.array(orientation[:3], float), np.array(orientation[3:], float)
    if turned:
        array, row, column = array[:, ::-1, ::-1], -row, -column
    slices = Volume(np.ascontiguousarray(array), tuple(spacing))

    def edit(ds, i):
        z, y, x = (n - 1 for n in scan.shape)
        corner = {
            AXIAL: (i, y * turned, x * turned),
            CORONAL: (z * (not turned), i, x * turned),
            SAGITTAL: (z * (not turned), y * turned, i),
        }[orientation]
        ds.ImageOrientationPatient = [*row, *column]
        ds.ImagePositionPatient = [float(v) for v in scan.points_mm(corner)]

    return slices, edit


@pytest.mark.parametrize("turned", [False, True], ids=["straight", "turned"])
@pytest.mark.parametrize("orientation", [AXIAL, CORONAL, SAGITTAL], ids=str)
def test_in_any_orientation(series_writer, scan, straight, small_contract, orientation, turned):
    slices, edit = place(scan, orientation, turned)
    same(series_writer.write(slices, edit=edit), straight, small_contract)


@pytest.mark.parametrize("order", ["backwards", "shuffled"])
def test_in_any_order_of_slices(series_writer, scan, straight, small_contract, order):
    numbers = np.arange(len(scan.array))
    numbers = (
        numbers[::-1] if order == "backwards" else np.random.default_rng(0).permutation(numbers)
    )

    def edit(ds, i):
        ds.InstanceNumber = int(numbers[i]) + 1

    same(series_writer.write(scan, edit=edit), straight, small_contract)


@pytest.mark.parametrize("uid", LOSSLESS, ids=lambda uid: uid.keyword)
def test_in_any_transfer_syntax(series_writer, scan, straight, small_contract, uid):
    folder = series_writer.write(scan, edit=lambda ds, i: to_unsigned(ds, scan.array[i]))
    for path in folder.iterdir():
        transcode(path, uid)
    same(folder, straight, small_contract)


@pytest.mark.parametrize("name", ["zip", "medium", "enhanced", "nii.gz", "nrrd", "mha"])
def test_in_any_container(series_writer, scan, straight, small_contract, tmp_path, name):
    if name in {"zip", "medium", "enhanced"}:
        folder = series_writer.write(scan)
        writer = {"zip": zip_up, "medium": write_medium, "enhanced": write_enhanced}[name]
        same(writer(folder, tmp_path / f"scan.{name}"), straight, small_contract)
    else:
        path = tmp_path / f"scan.{name}"
        write_image(scan, path)
        same(path, straight, small_contract)


def test_in_a_nifti_with_axes_in_another_order(scan, straight, small_contract, tmp_path):
    image = sitk.GetImageFromArray(scan.array)
    image.SetSpacing(scan.spacing_mm[::-1])
    image.SetOrigin(scan.origin_mm)
    turned = sitk.DICOMOrient(image, "RSA")
    assert turned.GetSize() != image.GetSize()
    sitk.WriteImage(turned, str(tmp_path / "scan.nii.gz"))
    # NIfTI keeps directions as float32 quaternions: a voxel may be rounded the other way.
    same(tmp_path / "scan.nii.gz", straight, small_contract, exact=False)


@pytest.mark.parametrize("padding", [-2000, -2048, -3024])
def test_with_any_padding(series_writer, scan, straight, small_contract, padding, pixel_setter):
    def edit(ds, i):
        values = scan.array[i].copy()
        values[:, :2] = values[:, -2:] = padding
        ds.add_new("PixelPaddingValue", "SS", padding)
        pixel_setter(ds, values)

    prepared = prepare(read_volume(series_writer.write(scan, edit=edit)), small_contract)
    assert prepared.box == straight.box
    inside = tuple(slice(a, b) for a, b in zip(straight.box.start, straight.box.stop, strict=True))
    np.testing.assert_array_equal(prepared.grid.array[inside], straight.grid.array[inside])
