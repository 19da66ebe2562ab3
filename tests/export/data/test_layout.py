"""The folders that datasets come in, in both dialects, and what is missing in them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from dlild_client.contract import Contract
from dlild_export.data.check import check_dataset
from dlild_export.data.faults import DatasetError, Kind
from dlild_export.data.layout import DECATHLON, read_dataset, straddling, write_dataset_json

NAMES = {"background": 0, "lung": 1, "ground_glass": 2}


def touch(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def kinds(dataset_faults) -> list[tuple[Kind, str]]:
    return [(f.kind, f.where) for f in dataset_faults]


def test_nnunet(tmp_path: Path) -> None:
    touch(tmp_path, "imagesTr/x_0000.nii.gz", "imagesTr/y_0000.nii.gz", "imagesTr/._x_0000.nii.gz")
    touch(tmp_path, "labelsTr/x.nii.gz", "labelsTr/y.nii.gz")
    write_dataset_json(tmp_path, NAMES, ["x", "y"])

    dataset = read_dataset(tmp_path)

    assert [c.name for c in dataset.cases] == ["x", "y"]
    assert dataset.cases[0].label == tmp_path / "labelsTr" / "x.nii.gz"
    assert dict(dataset.names) == NAMES
    assert not dataset.faults


def test_decathlon_says_the_same_in_its_dialect(tmp_path: Path) -> None:
    touch(tmp_path, "imagesTr/x.nii.gz", "labelsTr/x.nii.gz")
    written = write_dataset_json(tmp_path, NAMES, ["x"], layout=DECATHLON)

    content = json.loads(written.read_text())
    assert content["labels"] == {"0": "background", "1": "lung", "2": "ground_glass"}
    assert content["training"] == [{"image": "./imagesTr/x.nii.gz", "label": "./labelsTr/x.nii.gz"}]
    dataset = read_dataset(tmp_path)
    assert dataset.layout == DECATHLON
    assert [c.name for c in dataset.cases] == ["x"]
    assert dict(dataset.names) == NAMES


def test_the_first_nnunet_lists_images_without_their_channel(tmp_path: Path) -> None:
    touch(tmp_path, "imagesTr/x_0000.nii.gz", "labelsTr/x.nii.gz")
    write_dataset_json(tmp_path, NAMES, ["x"], layout=DECATHLON)

    dataset = read_dataset(tmp_path)

    assert dataset.cases[0].image.name == "x_0000.nii.gz"
    assert not dataset.faults


def test_a_clean_decathlon_dataset_passes(clean: Path, tmp_path: Path, contract: Contract) -> None:
    for name in ("a", "b"):
        for part, old in (("imagesTr", f"{name}_0000.nii.gz"), ("labelsTr", f"{name}.nii.gz")):
            (tmp_path / part).mkdir(exist_ok=True)
            shutil.copy(clean / part / old, tmp_path / part / f"{name}.nii.gz")
    names = {c.name: c.label for c in contract.classes}
    write_dataset_json(tmp_path, names, ["a", "b"], layout=DECATHLON)

    report = check_dataset(tmp_path, contract)

    assert not report.faults
    assert [c.name for c in report.cases] == ["a", "b"]


def test_what_has_no_partner_is_named(tmp_path: Path) -> None:
    touch(tmp_path, "imagesTr/x_0000.nii.gz", "labelsTr/y.nii.gz")
    write_dataset_json(tmp_path, NAMES, ["x"])

    assert kinds(read_dataset(tmp_path).faults) == [
        (Kind.PAIR, "imagesTr/x_0000.nii.gz"),
        (Kind.PAIR, "labelsTr/y.nii.gz"),
    ]


def test_what_decathlon_lists_must_be_there_and_what_is_there_listed(tmp_path: Path) -> None:
    touch(tmp_path, "imagesTr/x.nii.gz", "imagesTr/z.nii.gz")
    write_dataset_json(tmp_path, NAMES, ["x"], layout=DECATHLON)

    assert kinds(read_dataset(tmp_path).faults) == [
        (Kind.PAIR, "labelsTr/x.nii.gz"),
        (Kind.PAIR, "imagesTr/z.nii.gz"),
    ]


def test_a_wrong_count_is_a_fault(tmp_path: Path) -> None:
    touch(tmp_path, "imagesTr/x_0000.nii.gz", "labelsTr/x.nii.gz")
    write_dataset_json(tmp_path, NAMES, ["x", "y"])

    (fault,) = read_dataset(tmp_path).faults

    assert "numTraining is 2" in fault.reason


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "not readable as JSON"),
        ("[]", "not a JSON object"),
        ('{"labels": {}}', "names no labels"),
        ('{"labels": {"lung": "?"}}', "has no whole number"),
        ('{"labels": {"lung": [1, 2]}}', "is a region"),
        ('{"channel_names": {"0": "CT", "1": "PET"}, "labels": {"lung": 1}}', "2 channels"),
        ('{"file_ending": ".png", "labels": {"lung": 1}}', "file_ending is '.png'"),
        ('{"modality": {"0": "CT", "1": "MR"}, "training": []}', "2 modalities"),
    ],
)
def test_a_dataset_json_that_says_nothing(tmp_path: Path, content: str, words: str) -> None:
    (tmp_path / "dataset.json").write_text(content)

    with pytest.raises(DatasetError, match=words):
        read_dataset(tmp_path)


def test_no_dataset_at_all(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no such folder"):
        read_dataset(tmp_path / "nowhere")
    with pytest.raises(DatasetError, match="neither a dataset"):
        read_dataset(tmp_path)
    touch(tmp_path, "imagesTr/x_0000.nii.gz")
    with pytest.raises(DatasetError, match=r"no dataset\.json"):
        read_dataset(tmp_path)


def test_groups(tmp_path: Path) -> None:
    touch(tmp_path, "imagesTr/x_0000.nii.gz", "imagesTr/y_0000.nii.gz", "imagesTr/z_0000.nii.gz")
    touch(tmp_path, "labelsTr/x.nii.gz", "labelsTr/y.nii.gz", "labelsTr/z.nii.gz")
    write_dataset_json(tmp_path, NAMES, "xyz")
    (tmp_path / "groups.csv").write_text("case,group\nx,one\ny,one\n")
    (tmp_path / "splits_final.json").write_text('[{"train": ["x", "z"], "val": ["y"]}]')

    dataset = read_dataset(tmp_path)

    assert [c.group for c in dataset.cases] == ["one", "one", "z"]
    assert [f.reason for f in dataset.faults] == ["no group for the case z"]
    assert [f.reason for f in straddling(dataset)] == [
        "fold 0: the group one is in training and in validation"
    ]
    (tmp_path / "groups.csv").write_text("scan;patient\nx;one\n")
    assert "columns case,group" in read_dataset(tmp_path).faults[0].reason
