from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from client.writers import write_image

from dlild_client.errors import NotHUError
from dlild_client.reading.quality import check_jumps
from dlild_client.reading.read import read_volume
from dlild_client.reading.survey import survey_series


@pytest.fixture(scope="module")
def real(shared_data):
    return read_volume(shared_data / "lidc-idri-0314" / "dicom").array[:, ::4, ::4]


def bend(array, part, slope=1.0, shift=0.0):
    """HU of some slices under another rescale; air is -1000 HU."""
    out = array.astype(np.float64)
    out[part] = (out[part] + 1000) * slope - 1000 + shift
    return np.clip(np.rint(out), -1024, 32767).astype(np.int16)


@pytest.mark.parametrize("part", [slice(100, 110), slice(150, 151), slice(272, None)], ids=str)
@pytest.mark.parametrize("change", [{"shift": 1000}, {"shift": 1024}, {"slope": 2}], ids=str)
def test_another_rescale_of_some_slices_is_refused_with_their_names(real, part, change):
    names = [f"IM{i:03d}" for i in range(len(real))]
    with pytest.raises(NotHUError, match="HU jump") as error:
        check_jumps(bend(real, part, **change), names)
    odd = names[part]
    assert f"{len(odd)} slice" in str(error.value)
    assert odd[0] in str(error.value)
    assert odd[-1] in str(error.value)


@pytest.mark.parametrize("step", [1, 2, 5, 10, 15])
def test_real_anatomy_does_not_jump_at_any_step(real, step):
    check_jumps(real[::step])
    check_jumps(np.array([real[i : i + step].mean(axis=0) for i in range(0, 260, step)]))


def test_noise_and_dark_ends_do_not_jump(real):
    noise = np.random.default_rng(0).normal(0, 120, real.shape)
    check_jumps((real + noise).astype(np.int16))
    dark = bend(bend(real, slice(0, 1), slope=0.7), slice(274, None), slope=0.7)
    check_jumps(dark)


def test_a_lost_intercept_is_reported_by_score_and_by_series_alike(
    series_writer, chest, pixel_setter
):
    def edit(ds, i):
        ds.RescaleIntercept = 0 if 20 <= i < 24 else -1024
        pixel_setter(ds, chest.array[i] + 1024)

    path = series_writer.write(chest, edit=edit)
    with pytest.raises(
        NotHUError, match=r"4 slices .*intercept 0, the others 1 and -1024"
    ) as error:
        read_volume(path)
    survey = survey_series(path)
    assert str(survey.error) == str(error.value)
    assert [(s.verdict, s.error) for s in survey.series] == [("aside", "NotHU")]


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("name", ["scan.nii", "scan.nrrd"])
def test_an_image_file_whose_hu_jump_is_refused(tmp_path, chest, name, axis):
    array = chest.array.copy()
    array[20:24] += 1024
    order = np.roll([0, 1, 2], axis)
    turned = replace(
        chest,
        array=np.ascontiguousarray(array.transpose(order)),
        spacing_mm=tuple(chest.spacing_mm[i] for i in order),
        direction=tuple(tuple(row[i] for i in order) for row in chest.direction),
    )
    write_image(turned, tmp_path / name)
    with pytest.raises(
        NotHUError, match=rf"{name}: HU jump by .* 4 slices \(slice 21, .*slice 24\)"
    ):
        read_volume(tmp_path / name)
    write_image(
        turned.with_array(np.ascontiguousarray(chest.array.transpose(order))), tmp_path / name
    )
    assert read_volume(tmp_path / name).shape == turned.shape


def test_tissue_that_leaves_a_resampled_image_at_its_edge_does_not_jump():
    """Of an image that was turned, the last slices show a wedge of the body, and less and less."""
    array = np.full((30, 100, 100), -1024, np.int16)
    array[:, :10] = 1000
    array[:20, 10:12] = 40
    array[20:, 10] = np.r_[np.full(60, 40), np.full(40, -1024)]
    check_jumps(array)
    array[20:, 10:12] = 1064
    with pytest.raises(NotHUError, match=r"10 slices \(slice 21, "):
        check_jumps(array)
