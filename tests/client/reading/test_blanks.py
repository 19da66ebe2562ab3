"""A slice without a picture within a scan is a missing slice."""

from __future__ import annotations

import numpy as np
import pytest
from client.writers import write_image

from dlild_client.errors import MissingSlicesError, NotHUError
from dlild_client.reading.quality import check_blanks
from dlild_client.reading.read import read_volume


@pytest.mark.parametrize(
    "spoil", [lambda ds: ds.__setattr__("PixelData", bytes(len(ds.PixelData))),
              lambda ds: ds.__setattr__("RescaleIntercept", -1024)],
    ids=["zeros", "air only"],
)  # fmt: skip
def test_a_blank_slice_among_others_is_refused_by_name(series_writer, chest, spoil):
    path = series_writer.write(chest, edit=lambda ds, i: spoil(ds) if i in {30, 31} else None)
    with pytest.raises(MissingSlicesError, match=r"2 slices hold no picture .* 0110-30\.dcm"):
        read_volume(path)


def test_blank_slices_at_the_ends_are_flagged(series_writer, chest, tmp_path):
    array = chest.array.copy()
    array[:3] = array[57:] = -1024
    volume = read_volume(series_writer.write(chest.with_array(array)))
    assert next(f for f in volume.flags if f == "blank_slices").values == {"slices": 6}
    write_image(chest.with_array(array), tmp_path / "scan.nii.gz")
    assert "blank_slices" in read_volume(tmp_path / "scan.nii.gz").flags


@pytest.mark.parametrize("axes", [(0, 1, 2), (1, 0, 2), (2, 1, 0)])
def test_a_blank_slice_of_an_image_file_in_any_axis_order(tmp_path, chest, axes):
    array = chest.array.copy()
    array[20] = 0
    direction = np.asarray(chest.direction)[:, list(axes)]
    turned = chest.__class__(
        np.ascontiguousarray(array.transpose(axes)),
        tuple(chest.spacing_mm[axis] for axis in axes),
        direction=tuple(map(tuple, direction)),
    )
    write_image(turned, tmp_path / "scan.nrrd")
    with pytest.raises(
        MissingSlicesError, match=r"scan\.nrrd: 1 slice holds no picture .* slice 21"
    ):
        read_volume(tmp_path / "scan.nrrd")


def test_a_narrow_part_of_the_body_is_no_blank_slice():
    """A neck, and the tip of a head at the end."""
    array = np.full((40, 64, 64), -1000, np.int16)
    array += (np.arange(64) % 2).astype(np.int16)
    array[:25, 8:56, 4:60] = 40
    array[25:38, 24:40, 24:40] = 40
    array[38:, 30:34, 30:34] = 40
    assert check_blanks(array) == []


@pytest.mark.parametrize("dtype", [">i2", "<u2"], ids=["byte order", "sign"])
def test_values_of_a_wrong_order_or_sign_are_no_hu(series_writer, chest, dtype):
    def edit(ds, i):
        ds.PixelData = chest.array[i].astype(dtype).tobytes()
        ds.PixelRepresentation = int(dtype == ">i2")

    with pytest.raises(NotHUError, match="above 4000 HU"):
        read_volume(series_writer.write(chest, edit=edit))
