"""SEG on the scanned slices: read back by highdicom, it is the label map, whatever was scanned."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace

import highdicom
import numpy as np
import pydicom
import pytest
from client.results.labelled import labelled_result
from client.writers import write_image

from dlild_client.errors import BadSettingsError, InputError
from dlild_client.reading.read import read_volume
from dlild_client.results.dicom.common import decimal_string
from dlild_client.results.dicom.objects import make_objects
from dlild_client.results.dicom.source import read_source
from dlild_client.results.result import Result
from dlild_client.volume import Volume

NAMES = ["axial", "backwards", "coronal", "sagittal", "tilted", "oblique", "uneven", "gaps",
         "odd sizes", "enhanced"]  # fmt: skip


def segment_frames(path) -> tuple[np.ndarray, list[pydicom.Dataset]]:
    """All frames as highdicom decodes them, one after the other, and their functional groups."""
    seg = highdicom.seg.segread(path)
    frames = np.stack([seg.get_frame(i + 1) for i in range(seg.number_of_frames)])
    return frames.astype(np.uint8), list(seg.PerFrameFunctionalGroupsSequence)


def on_grid(result: Result, path, labelmap: bool) -> np.ndarray:
    """The label map that a SEG holds, at the voxels of the grid: from the nearest frame's pixel."""
    frames, groups = segment_frames(path)
    source = result.image.source
    planes = np.zeros((len(source.slices), *source.shape), np.uint8)
    place = {tuple(np.round(s.position_mm, 3)): k for k, s in enumerate(source.slices)}
    for frame, group in zip(frames, groups, strict=True):
        position = group.PlanePositionSequence[0].ImagePositionPatient
        k = place[tuple(np.round([float(v) for v in position], 3))]
        if labelmap:
            planes[k] = frame
        else:
            label = group.SegmentIdentificationSequence[0].ReferencedSegmentNumber
            assert not planes[k][frame > 0].any(), "segments overlap"
            planes[k][frame > 0] = label
    grid = result.labels
    indices = np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), axis=-1)
    points = grid.points_mm(indices) - source.origins_mm[0]
    along = source.origins_mm[-1] - source.origins_mm[0]
    length = np.linalg.norm(along)
    spacing = source.pixel_spacing_mm
    axes = np.stack(
        [along / length, np.array(source.column) * spacing[0], np.array(source.row) * spacing[1]]
    )
    t, i, j = np.moveaxis(points @ np.linalg.inv(axes), -1, 0)
    known = np.linalg.norm(source.origins_mm - source.origins_mm[0], axis=1)
    k = np.searchsorted((known[1:] + known[:-1]) / 2, t)
    i, j = np.rint(i).astype(int), np.rint(j).astype(int)
    inside = (i >= 0) & (j >= 0) & (i < source.shape[0]) & (j < source.shape[1])
    inside &= (t > known[0] - 6) & (t < known[-1] + 6)
    return np.where(
        inside, planes[k, np.clip(i, 0, source.shape[0] - 1), np.clip(j, 0, source.shape[1] - 1)], 0
    )


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return float(2 * np.count_nonzero(a & b) / (np.count_nonzero(a) + np.count_nonzero(b)))


@pytest.mark.parametrize("kind", ["seg", "labelmap"])
@pytest.mark.parametrize("scored", NAMES, indirect=True)
def test_it_is_the_label_map_on_the_scanned_slices(scored, tmp_path, kind):
    (seg,) = make_objects(scored, scored.image.source, kinds=[kind])
    path = tmp_path / "seg.dcm"
    seg.save_as(path, enforce_file_format=True)
    found, expected = on_grid(scored, path, kind == "labelmap"), scored.labels.array
    # The slices are coarser than the grid, so borders differ; where they agree, classes do.
    assert dice(found > 0, expected > 0) > 0.9
    both = (found > 0) & (expected > 0)
    assert np.mean(found[both] == expected[both]) > 0.9


def test_on_slices_as_fine_as_the_grid_it_is_the_label_map(
    series_writer, chest_maker, contract, tmp_path
):
    chest = chest_maker((80, 60, 72), (1.5, 1.5, 1.5))
    folder = series_writer.write(chest)
    result = labelled_result(read_volume(folder, with_source=True), contract)
    (seg,) = make_objects(result, result.image.source, kinds=["seg"])
    seg.save_as(tmp_path / "seg.dcm", enforce_file_format=True)
    np.testing.assert_array_equal(on_grid(result, tmp_path / "seg.dcm", False), result.labels.array)


def fine_scan(writer, chest, name):
    """Slices with pixels finer than the grid: tilted, turned, uneven or gapped, as people have."""
    if name == "coronal":
        array = np.ascontiguousarray(chest.array.transpose(1, 0, 2)[:, ::-1])
        turned = Volume(array, tuple(chest.spacing_mm[i] for i in (1, 0, 2)))
        return writer.write(turned, orientation=(1, 0, 0, 0, 0, -1), step=(0, 1.2, 0))
    if name == "tilted":
        return writer.write(chest, step=(0, 0.3, 1.5))
    if name == "oblique":
        row, column = (np.cos(0.2), 0, -np.sin(0.2)), (0, 1, 0)
        step = tuple(np.cross(row, column) * 1.5)
        return writer.write(chest, orientation=(*row, *column), step=step)
    z = 1.5 * np.arange(len(chest.array))
    if name == "uneven":
        z = np.cumsum([0.0, *([1.0, 2.0] * len(z))])[: len(z)]

    def edit(ds, i):
        ds.SliceThickness = 1.25
        ds.ImagePositionPatient = [-150.0, -130.0, float(z[i])]
        return {"gaps": i % 7 == 0, "pairs": i % 8 in {0, 1}}.get(name, True)

    return writer.write(chest, edit=edit)


@pytest.mark.parametrize("name", ["coronal", "tilted", "oblique", "uneven", "gaps", "pairs"])
def test_resampled_to_the_grid_it_is_the_label_map_wherever_a_slice_was_scanned(
    series_writer, chest_maker, contract, tmp_path, name
):
    folder = fine_scan(series_writer, chest_maker((84, 84, 100), (1.5, 1.2, 1.2)), name)
    result = labelled_result(read_volume(folder, with_source=True), contract)
    source = result.image.source
    (seg,) = make_objects(result, source, kinds=["seg"])
    seg.save_as(tmp_path / "seg.dcm", enforce_file_format=True)
    found, expected = on_grid(result, tmp_path / "seg.dcm", False), result.labels.array
    indices = np.stack(np.meshgrid(*map(np.arange, expected.shape), indexing="ij"), axis=-1)
    normal = np.cross(source.row, source.column)
    apart = (result.labels.points_mm(indices) @ normal)[..., None] - source.origins_mm @ normal
    near = np.abs(apart).min(axis=-1) < 0.751  # half a voxel of the grid
    assert near.any(axis=(1, 2)).sum() > 5
    for label in range(1, 6):
        assert np.count_nonzero((expected == label) & near) > 500
        assert dice((found == label) & near, (expected == label) & near) > 0.98, label


@pytest.mark.parametrize(
    "scored", ["axial", "tilted", "odd sizes", "enhanced", "gaps"], indirect=True
)
def test_dciodvfy_reports_no_error(scored, tmp_path):
    if shutil.which("dciodvfy") is None:
        pytest.skip("no dciodvfy (Debian: dicom3tools)")
    (seg,) = make_objects(scored, scored.image.source, kinds=["seg"])
    seg.save_as(tmp_path / "seg.dcm", enforce_file_format=True)
    run = subprocess.run(
        ["dciodvfy", tmp_path / "seg.dcm"], check=False, capture_output=True, text=True
    )
    assert [line for line in run.stderr.splitlines() if line.startswith("Error")] == []
    assert "Segmentation" in run.stderr


def test_segments_are_the_classes_of_the_contract(scored, contract):
    (seg,) = make_objects(scored, scored.image.source, kinds=["seg"])
    classes = [c for c in contract.classes if c.lung]
    for item, kind in zip(seg.SegmentSequence, classes, strict=True):
        code = item.SegmentedPropertyTypeCodeSequence[0]
        assert (item.SegmentNumber, item.SegmentLabel) == (kind.label, kind.title)
        assert (code.CodingSchemeDesignator, code.CodeValue) == (kind.code.scheme, kind.code.value)
        colour = highdicom.color.CIELabColor.from_dicom_value(item.RecommendedDisplayCIELabValue)
        assert np.abs(np.array(colour.to_rgb()) - kind.colour).max() <= 2
    algorithm = seg.SegmentSequence[0].SegmentationAlgorithmIdentificationSequence[0]
    assert contract.model.weights_sha256 in algorithm.AlgorithmParameters


def test_frames_refer_to_their_slices_and_empty_ones_are_left_out(scored):
    source = scored.image.source
    (seg,) = make_objects(scored, source, kinds=["seg"])
    planes = {s.sop_instance: tuple(s.position_mm) for s in source.slices}
    indices = set()
    for group in seg.PerFrameFunctionalGroupsSequence:
        image = group.DerivationImageSequence[0].SourceImageSequence[0]
        position = tuple(map(float, group.PlanePositionSequence[0].ImagePositionPatient))
        assert planes[image.ReferencedSOPInstanceUID] == pytest.approx(position)
        indices.add(tuple(group.FrameContentSequence[0].DimensionIndexValues))
    assert len(indices) == seg.NumberOfFrames < 5 * len(source.slices)
    bits = np.unpackbits(np.frombuffer(seg.PixelData, np.uint8), bitorder="little")
    frames = bits[: seg.NumberOfFrames * 40 * 56].reshape(-1, 40 * 56)
    assert frames.any(axis=1).all()
    assert seg.FrameOfReferenceUID == seg.get("FrameOfReferenceUID")
    assert seg.StudyInstanceUID == source.header.StudyInstanceUID
    assert seg.PatientID == "SECRET-ID"


@pytest.mark.parametrize("scored", ["enhanced"], indirect=True)
def test_frames_of_an_enhanced_series_name_the_frame(scored):
    (seg,) = make_objects(scored, scored.image.source, kinds=["seg"])
    numbers = {
        g.DerivationImageSequence[0].SourceImageSequence[0].ReferencedFrameNumber
        for g in seg.PerFrameFunctionalGroupsSequence
    }
    assert len(numbers) > 15
    assert len(seg.ReferencedSeriesSequence[0].ReferencedInstanceSequence) == 1


def test_it_can_be_written_in_another_transfer_syntax(scored, tmp_path):
    (seg,) = make_objects(scored, scored.image.source, kinds=["seg"])
    seg.file_meta.TransferSyntaxUID = pydicom.uid.ImplicitVRLittleEndian
    seg.save_as(tmp_path / "seg.dcm", implicit_vr=True, little_endian=True)
    again = pydicom.dcmread(tmp_path / "seg.dcm")
    assert len(again.PerFrameFunctionalGroupsSequence) == again.NumberOfFrames


def test_the_same_scan_gives_the_same_uids_and_another_model_others(scored):
    source = scored.image.source
    first, again = (make_objects(scored, source, kinds=["seg"])[0] for _ in range(2))
    model = replace(scored.model, weights_digest="sha256:" + "0" * 64)
    other = make_objects(replace(scored, model=model), source, kinds=["seg"])[0]
    for name in ("SOPInstanceUID", "SeriesInstanceUID"):
        assert first[name].value == again[name].value != other[name].value
        assert first[name].value.startswith("2.25.")
        assert len(first[name].value) <= 64
    assert first.PixelData == again.PixelData


def test_a_series_without_thickness_or_frame_of_reference_has_a_segmentation(scored):
    source = scored.image.source
    slices = tuple(replace(s, thickness_mm=None) for s in source.slices)
    assert not source.header.get("FrameOfReferenceUID")
    (seg,) = make_objects(scored, replace(source, slices=slices), kinds=["seg"])
    measures = seg.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    assert measures.SliceThickness == pytest.approx(6.0)
    assert seg.FrameOfReferenceUID.startswith("2.25.")


def test_what_cannot_be_made_is_refused_in_one_line(scored, series_writer, chest, tmp_path):
    source = scored.image.source
    with pytest.raises(BadSettingsError, match="no DICOM object 'nifti'"):
        make_objects(scored, source, kinds=["nifti"])
    bare = replace(source, slices=tuple(replace(s, sop_instance="") for s in source.slices))
    with pytest.raises(InputError, match="lacks SOPInstanceUID"):
        make_objects(scored, bare)
    empty = replace(scored, labels=scored.labels.with_array(np.zeros_like(scored.labels.array)))
    with pytest.raises(InputError, match="no voxel is labelled"):
        make_objects(empty, source, kinds=["seg"])


def test_an_image_file_has_no_series_to_refer_to(chest, tmp_path):
    with pytest.raises(InputError, match=r"ct\.nii\.gz: no DICOM series") as error:
        read_source(write_image(chest, tmp_path / "ct.nii.gz"))
    assert "\n" not in str(error.value)


def test_headers_are_kept_only_where_asked_for_and_never_shown(series_writer, chest):
    folder = series_writer.write(chest)
    assert read_volume(folder).source is None
    volume = read_volume(folder, with_source=True)
    assert volume.source.header.PatientID == "SECRET-ID"
    for shown in (repr(volume), repr(volume.source), repr(volume.source.slices[0])):
        assert "SECRET" not in shown
        assert volume.source.slices[0].sop_instance not in shown


@pytest.mark.parametrize(
    "value", [0.0, -150.0, 1 / 3, -1234.56789012345, 1e-17, 123456789.123456789]
)
def test_numbers_fit_in_16_characters(value):
    shown = decimal_string(value)
    assert len(shown) <= 16
    assert float(shown) == pytest.approx(value, rel=1e-8, abs=1e-12)
