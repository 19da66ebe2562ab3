"""DICOM SEG of all kinds onto its CT: by position, by code or name, or refused with the reason."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
import pydicom
import pytest
from pydicom.sr.codedict import codes

from dlild_client.contract import Contract
from dlild_client.reading.read import read_volume
from dlild_client.volume import Volume
from dlild_export.data.check import check_dataset
from dlild_export.data.faults import DatasetError, Kind
from dlild_export.data.plausible import look_at
from dlild_export.data.prepare import prepare
from dlild_export.data.scans import LabelledScan
from dlild_export.data.segments import find_segmentations, read_segmentations
from dlild_export.phantom.dicom import Scanner, slice_labels

Writer = Callable[..., Path]


def read(case: Path, contract: Contract, **overrides: str) -> tuple[Volume, np.ndarray]:
    volume = read_volume(case)
    return volume, read_segmentations(find_segmentations(case), volume, contract, overrides)


def on_the_scan(labels: np.ndarray, volume: Volume) -> np.ndarray:
    """Truth, feet to head, in the order of the volume's slices."""
    return labels if volume.direction[2][0] > 0 else labels[::-1]


FINE = {"pixel_mm": 2.0, "slice_mm": 6.0}
TILTED_AND_PADDED = {"pixel_mm": 3.0, "tilt_deg": 14.0, "padding_hu": -3024}
TILTED_BACK = {"pixel_mm": 4.0, "tilt_deg": -8.0}


@pytest.mark.parametrize(
    ("kind", "slices"),
    [
        pytest.param("labelmap", {}, id="grid-labelmap"),
        pytest.param("binary", {}, id="grid-binary", marks=pytest.mark.slow),
        pytest.param("labelmap", FINE, id="fine-labelmap", marks=pytest.mark.slow),
        pytest.param("binary", FINE, id="fine-binary", marks=pytest.mark.slow),
        pytest.param("labelmap", TILTED_AND_PADDED, id="padded-labelmap", marks=pytest.mark.slow),
        pytest.param("binary", TILTED_AND_PADDED, id="padded-binary", marks=pytest.mark.slow),
        pytest.param("labelmap", TILTED_BACK, id="back-labelmap", marks=pytest.mark.slow),
        pytest.param("binary", TILTED_BACK, id="back-binary"),
    ],
)
def test_truth_comes_back(
    scan: LabelledScan, contract: Contract, dicom_writer: Writer, kind: str, slices: dict[str, Any]
) -> None:
    folder = dicom_writer(scan, seg_kind=kind, **slices)

    volume, labels = read(folder / "a", contract)

    scanner = Scanner(**({"pixel_mm": 5.0, "slice_mm": 5.0} | slices))
    truth = slice_labels(scan.labels, scan.volume.spacing_mm[0], scanner)
    np.testing.assert_array_equal(labels, on_the_scan(truth, volume))
    assert check_dataset(folder, contract).faults == ()


def test_labels_lie_where_they_lay_in_the_patient(
    scan: LabelledScan, contract: Contract, dicom_writer: Writer
) -> None:
    folder = dicom_writer(scan, pixel_mm=4.0, slice_mm=4.0, tilt_deg=10.0)

    volume, labels = read(folder / "a", contract)

    there = np.argwhere(labels > 0)
    x, y, z = (volume.points_mm(there) - scan.volume.origin_mm).T / 5.0
    truth = scan.labels[tuple(np.rint(v).astype(int) for v in (z, y, x))]
    # Only voxels half-way between two of the phantom may have either's label.
    assert np.mean(truth == labels[tuple(there.T)]) > 0.995
    lung_mm3 = (labels > 0).sum() * volume.voxel_volume_mm3
    assert lung_mm3 == pytest.approx((scan.labels > 0).sum() * 5.0**3, rel=0.01)


def test_prepared_truth_is_exact(
    scan: LabelledScan, contract: Contract, dicom_writer: Writer, tmp_path: Path
) -> None:
    (path,) = prepare(dicom_writer(scan), tmp_path / "out", contract=contract)

    with np.load(path) as stored:
        np.testing.assert_array_equal(stored["labels"], scan.labels)
        np.testing.assert_array_equal(stored["hu"], scan.volume.array)


def change(case: Path, edit: Callable[[Any], Any]) -> Path:
    """Change the SEG of a case in place."""
    dataset = pydicom.dcmread(case / "seg.dcm")
    edit(dataset)
    dataset.save_as(case / "seg.dcm")
    return case


def shuffle(dataset: Any) -> None:
    order = np.random.default_rng(1).permutation(int(dataset.NumberOfFrames))
    pixels = dataset.pixel_array[order]
    frames = dataset.PerFrameFunctionalGroupsSequence
    dataset.PerFrameFunctionalGroupsSequence = [frames[i] for i in order]
    dataset.PixelData = pixels.astype(np.uint8).tobytes()


def test_the_order_of_frames_does_not_matter(
    scan: LabelledScan, contract: Contract, dicom_writer: Writer
) -> None:
    case = dicom_writer(scan) / "a"
    _, before = read(case, contract)

    _, after = read(change(case, shuffle), contract)

    np.testing.assert_array_equal(after, before)


def write_overlapping(case: Path, masks: dict[str, np.ndarray], code: Any = None) -> None:
    """Write a BINARY SEG whose segments may share voxels; masks as the slices lie, head first."""
    slices = [pydicom.dcmread(p) for p in sorted((case / "ct").iterdir())]
    descriptions = [
        hd.seg.SegmentDescription(
            segment_number=number,
            segment_label=name,
            segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
            segmented_property_type=code or codes.SCT.Lesion,
            algorithm_type=hd.seg.SegmentAlgorithmTypeValues.MANUAL,
        )
        for number, name in enumerate(masks, start=1)
    ]
    hd.seg.Segmentation(
        source_images=slices,
        pixel_array=np.stack([m[::-1] for m in masks.values()], axis=-1).astype(np.uint8),
        segmentation_type="BINARY",
        segment_descriptions=descriptions,
        series_instance_uid=hd.UID(),
        series_number=9,
        sop_instance_uid=hd.UID(),
        instance_number=1,
        manufacturer="Maker",
        manufacturer_model_name="Model",
        software_versions="1",
        device_serial_number="1",
    ).save_as(case / "seg.dcm")


@pytest.fixture
def case(scan: LabelledScan, dicom_writer: Writer) -> Path:
    return dicom_writer(scan) / "a"


def test_a_lesion_within_a_segment_of_the_lung_counts_as_lesion(
    scan: LabelledScan, contract: Contract, case: Path
) -> None:
    truth = scan.labels
    masks = {"GGO": truth == 2, "whole lungs": truth >= 1, "Honeycombing": truth == 4}
    write_overlapping(case, masks)

    volume, labels = read(case, contract, **{"whole lungs": "lung"})

    expected = np.where(np.isin(truth, (2, 4)), truth, np.minimum(truth, 1))
    np.testing.assert_array_equal(labels, on_the_scan(expected, volume))


def test_segments_may_come_in_several_files(
    scan: LabelledScan, contract: Contract, case: Path
) -> None:
    volume, before = read(case, contract)
    for name, label in (("Lung", 1), ("Reticulation", 3)):
        write_overlapping(case, {name: scan.labels == label})
        (case / "seg.dcm").rename(case / f"{name}.dcm")

    volume, labels = read(case, contract)

    np.testing.assert_array_equal(labels == 3, before == 3)
    np.testing.assert_array_equal(labels == 1, before == 1)
    assert not (labels == 2).any()
    assert volume.array.shape == labels.shape


def test_two_lesions_in_one_voxel_are_refused(
    scan: LabelledScan, contract: Contract, case: Path
) -> None:
    write_overlapping(case, {"GGO": scan.labels >= 2, "Reticulation": scan.labels == 3})

    with pytest.raises(DatasetError, match="classes 2 and 3 share") as refused:
        read(case, contract)
    assert refused.value.faults[0].kind is Kind.OVERLAP


def test_names_and_codes(scan: LabelledScan, contract: Contract, case: Path) -> None:
    lesion = scan.labels == 2
    write_overlapping(case, {"emphysema": lesion})
    with pytest.raises(DatasetError, match="'emphysema' is none of"):
        read(case, contract)
    _, labels = read(case, contract, emphysema="ignore")
    assert (labels == 255).sum() == lesion.sum()

    write_overlapping(case, {"Segment 1": lesion}, codes.DCM.HoneycombPattern)
    _, labels = read(case, contract)
    assert (labels == 4).sum() == lesion.sum()

    write_overlapping(case, {"ground glass": lesion}, codes.DCM.HoneycombPattern)
    with pytest.raises(DatasetError, match="coded as class 4 but labelled 'ground glass'"):
        read(case, contract)
    _, labels = read(case, contract, Ground_Glass="reticulation")
    assert (labels == 3).sum() == lesion.sum()


def of_every_frame(edit: Callable[[Any], None]) -> Callable[[Any], None]:
    def run(dataset: Any) -> None:
        for frame in dataset.PerFrameFunctionalGroupsSequence:
            edit(frame)

    return run


def shift(frame: Any) -> None:
    plane = frame.PlanePositionSequence[0]
    plane.ImagePositionPatient = [float(v) + 2.0 for v in plane.ImagePositionPatient]


def lift(frame: Any) -> None:
    plane = frame.PlanePositionSequence[0]
    x, y, z = (float(v) for v in plane.ImagePositionPatient)
    plane.ImagePositionPatient = [x, y, z + 500]


def coarsen(dataset: Any) -> None:
    measures = dataset.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    measures.PixelSpacing = [7.0, 7.0]


@pytest.mark.parametrize(
    ("edit", "kind", "words"),
    [
        (of_every_frame(shift), Kind.GEOMETRY, "voxels off those of the CT"),
        (of_every_frame(lift), Kind.GEOMETRY, "reaches beyond the CT"),
        (coarsen, Kind.GEOMETRY, "7 x 7 mm"),
        (
            of_every_frame(lambda f: f.pop("PlanePositionSequence")),
            Kind.GEOMETRY,
            "no PlanePosition",
        ),
        (lambda d: d.SegmentSequence.pop(), Kind.UNKNOWN_LABEL, "no segments of it"),
        (lambda d: d.pop("SegmentSequence"), Kind.UNREADABLE, "no segments or no pixels"),
        (
            lambda d: setattr(d, "PixelData", d.PixelData[: len(d.PixelData) // 2]),
            Kind.UNREADABLE,
            "pixels cannot be decoded",
        ),
    ],
    ids=["shifted", "elsewhere", "coarse", "no position", "undescribed", "no segments", "short"],
)
def test_a_seg_that_does_not_fit_is_refused(
    contract: Contract,
    case: Path,
    edit: Callable[[Any], Any],
    kind: Kind,
    words: str,
) -> None:
    change(case, edit)

    report = check_dataset(case.parent, contract)

    (fault,) = report.faults
    assert (fault.kind, fault.where, fault.case) == (kind, "a/seg.dcm", "a")
    assert words in fault.reason


def test_a_ct_without_a_seg_and_a_seg_without_a_ct(contract: Contract, case: Path) -> None:
    (case / "seg.dcm").rename(case.parent / "seg.dcm")
    (fault,) = check_dataset(case.parent, contract).faults
    assert (fault.kind, fault.where) == (Kind.PAIR, "a")

    for slice_file in (case / "ct").iterdir():
        slice_file.unlink()
    (case.parent / "seg.dcm").rename(case / "seg.dcm")
    (fault,) = check_dataset(case.parent, contract).faults
    assert fault.kind is Kind.NOT_A_CHEST


def test_scans_of_one_patient_are_one_group(
    scan: LabelledScan, contract: Contract, case: Path
) -> None:
    for number in (1, 2):
        place = case.parent / f"later-{number}" / "ct"
        place.mkdir(parents=True)
        for path in (case / "ct").iterdir():
            dataset = pydicom.dcmread(path)
            if number == 2:
                dataset.PatientID = "SOMEBODY-ELSE"
            dataset.save_as(place / path.name)
    (case.parent / "groups.csv").unlink()

    report = check_dataset(case.parent, contract)

    assert {r.name: r.group for r in report.cases} == {
        "a": "a",
        "later-1": "a",
        "later-2": "later-2",
    }
    assert "SOMEBODY" not in report.to_json()


def keep_slices(case: Path, kept: Callable[[int], bool]) -> set[float]:
    """Leave slices out of a CT, number the others anew, and leave their frames out of the SEG."""
    files = sorted(
        (case / "ct").iterdir(), key=lambda p: pydicom.dcmread(p).ImagePositionPatient[2]
    )
    places = set()
    for i, path in enumerate(files):
        ds = pydicom.dcmread(path)
        if kept(i):
            places.add(round(float(ds.ImagePositionPatient[2]), 2))
            ds.InstanceNumber = len(places)
            ds.save_as(path)
        else:
            path.unlink()

    def leave_out(dataset: Any) -> None:
        frames = dataset.PerFrameFunctionalGroupsSequence
        heights = [f.PlanePositionSequence[0].ImagePositionPatient[2] for f in frames]
        left = [i for i, z in enumerate(heights) if round(float(z), 2) in places]
        dataset.PixelData = dataset.pixel_array[left].astype(np.uint8).tobytes()
        dataset.PerFrameFunctionalGroupsSequence = [frames[i] for i in left]
        dataset.NumberOfFrames = len(left)

    change(case, leave_out)
    return places


def test_truth_of_slices_in_uneven_steps_lies_on_its_slices(
    scan: LabelledScan, contract: Contract, dicom_writer: Writer
) -> None:
    case = dicom_writer(scan, pixel_mm=5.0, slice_mm=5.0) / "a"
    _, whole = read(case, contract)
    kept = [i for i in range(len(whole)) if i % 4 in (0, 1)]
    keep_slices(case, lambda i: i % 4 in (0, 1))

    volume, labels = read(case, contract)

    assert "uneven_steps" in volume.flags
    np.testing.assert_array_equal(labels, whole[kept])
    view = look_at(LabelledScan(volume, labels))
    # A voxel of the view has the label of the slice nearest to it.
    z = view.origin_mm[2] + 3.0 * np.arange(view.labels.shape[0]) - volume.origin_mm[2]
    nearest = np.abs(z[:, None] - np.array(volume.slice_positions_mm)).argmin(axis=1)
    seen = [np.unique(plane[plane > 0]).tolist() for plane in view.labels]
    assert all(set(s) <= set(np.unique(labels[i])) for s, i in zip(seen, nearest, strict=True))
    assert any(seen)
