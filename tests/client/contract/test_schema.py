from __future__ import annotations

import json
import re
from dataclasses import astuple
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dlild_client.contract import parse_contract, parse_limits, parse_releases
from dlild_client.errors import ContractError, DlildError

ROOT = Path(__file__).parents[3]


def changed(text: str, **fields: object) -> str:
    return json.dumps(json.loads(text) | fields)


def test_the_contract_of_the_repository_is_understood(contract, contract_text):
    raw = json.loads(contract_text)
    assert contract.grid.spacing_mm == tuple(raw["grid"]["spacing_mm"])
    assert contract.grid.voxel_volume_mm3 == pytest.approx(3.375)
    assert contract.windows.in_flight == raw["windows"]["in_flight"]
    assert [c.name for c in contract.classes] == [c["name"] for c in raw["classes"]]
    assert contract.lung_labels == (1, 2, 3, 4, 5)
    assert contract.lesion_labels == (2, 3, 4, 5)
    assert contract.healthy_label == 1
    assert contract.grid.axial_area_mm2(3.375) == pytest.approx(2.25)
    assert contract.grid.axial_area_mm2(27.0) == pytest.approx(9.0)
    assert contract.classes[0].code is None
    assert contract.classes[1].code.scheme == "SCT"
    assert set(contract.profiles) == set(raw["profiles"])


@pytest.mark.parametrize("version", [0, 2, "1", None, True, 1.5])
def test_another_schema_is_refused_naming_both_versions(contract_text, version):
    with pytest.raises(ContractError, match="understands 1") as error:
        parse_contract(changed(contract_text, schema_version=version))
    assert repr(version) in str(error.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("multiple", 0),
        ("multiple", 7),  # of which 64 is none
        ("minimum", [64, 64]),
        ("minimum", [0, 0, 0]),
        ("minimum", [64, 64, 232]),
        ("maximum", [32, 160, 160]),
        ("maximum_voxels", 64**3 - 1),
        ("minimum_overlap", 1.0),
        ("in_flight", 0),
    ],
)
def test_bounds_that_no_window_can_keep_are_refused(contract_text, name, value):
    raw = json.loads(contract_text)
    raw["windows"][name] = value
    with pytest.raises(ContractError):
        parse_contract(json.dumps(raw))


def test_a_window_is_taken_within_all_bounds(contract):
    spec = contract.windows
    assert spec.takes((96, 96, 96))
    assert spec.takes((64, 160, 160))
    assert not spec.takes((96, 96, 100))
    assert not spec.takes((56, 96, 96))
    assert not spec.takes((200, 96, 96))
    assert not spec.takes((168, 168, 168))  # too many voxels together
    assert not spec.takes(spec.maximum)  # likewise
    assert spec.takes(spec.largest())
    assert spec.largest_cube() == (160, 160, 160)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("grid", {"spacing_mm": [1.5, 0, 1.5], "orientation": "LPS"}),
        ("grid", {"spacing_mm": [1.5, 1.5, 1.5], "orientation": "RAS"}),
        ("hu", {"minimum": 5, "maximum": 1, "padding": 3}),
        ("windows", {"shapes": [[96, 96, 96]], "minimum_overlap": 0.25, "in_flight": 1}),
        ("classes", []),
        ("model", {"name": "dlild"}),
        ("profiles", []),
        ("limits", None),
    ],
)
def test_a_broken_field_is_refused(contract_text, field, value):
    with pytest.raises(ContractError):
        parse_contract(changed(contract_text, **{field: value}))


def test_the_repeatability_of_the_served_version_is_that_of_the_model_card(contract):
    card = (ROOT / "MODEL_CARD.md").read_text("utf-8")
    spec = contract.score.repeatability
    for row, found in (("same protocol", spec.same_protocol), ("all together", spec.all_changes)):
        figures = re.search(rf"^\| {row} \| ([\d.]+) \(([\d.]+) to ([\d.]+)\)", card, re.M)
        assert astuple(found) == tuple(map(float, figures.groups())), row
    assert f"| version | {contract.model.version} |" in card


def test_a_version_without_a_measured_repeatability_has_none(contract_text):
    raw = json.loads(contract_text)
    for score in (raw["score"] | {"repeatability": None}, {**raw["score"]}):
        if score["repeatability"] is not None:
            del score["repeatability"]
        parsed = parse_contract(changed(contract_text, score=score))
        assert parsed.score.repeatability is None
        assert parse_contract(parsed.to_json()) == parsed


@pytest.mark.parametrize(
    "fault", [{"low": 99.0}, {"high": 0.01}, {"low": -1}, {"high": float("inf")}]
)
def test_a_repeatability_outside_its_interval_is_refused(contract_text, fault):
    score = json.loads(contract_text)["score"]
    score["repeatability"]["same_protocol"] |= fault
    with pytest.raises(ContractError, match=r"score\.repeatability"):
        parse_contract(changed(contract_text, score=score))


def test_labels_must_be_in_order(contract_text):
    raw = json.loads(contract_text)
    raw["classes"].reverse()
    with pytest.raises(ContractError, match="classes"):
        parse_contract(json.dumps(raw))


def test_a_server_carries_all_that_clients_of_any_version_read(contract, contract_text, repository):
    limits = parse_limits((repository / "limits.json").read_text("utf-8"))
    carried = contract.to_json(limits)
    assert parse_contract(carried) == contract
    raw = json.loads(carried)
    # Version 0.1 refuses a contract that lacks one of the first five; it ignores the others.
    assert set(raw["limits"]) == {
        "box_voxels", "windows", "open_scans", "open_bytes", "scan_idle_s",
        "answer_s", "network_instances",
    }  # fmt: skip
    # No more than they need: nothing of former releases.
    assert set(raw["model"]) == {"name", "version", "weights_sha256"}
    assert set(raw) == set(json.loads(contract_text))


def test_a_contract_of_version_0_1_is_understood(contract, contract_text):
    raw = json.loads(contract_text)
    raw["model"] |= {"serving": [4], "releases": {"4": {"weights_sha256": "0" * 64}}}
    raw["limits"] |= {"open_scans": 12, "open_bytes": 10**9, "scan_idle_s": 40}
    assert parse_contract(json.dumps(raw)) == contract


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"open_scans": "many"}'])
def test_limits_and_releases_that_are_none_are_refused(text):
    with pytest.raises(ContractError, match=r"limits\.json"):
        parse_limits(text)
    with pytest.raises(ContractError, match=r"releases\.json"):
        parse_releases(text)


def test_limits_that_admit_no_scan_are_refused():
    with pytest.raises(ContractError, match="open_scans=0"):
        parse_limits('{"open_scans": 0, "open_bytes": 1, "scan_idle_s": 1}')


def test_releases_are_written_as_they_are_read(repository):
    text = (repository / "releases.json").read_text("utf-8")
    assert parse_releases(text).to_json() == text


def test_a_lesion_that_is_no_lung_is_refused(contract_text):
    raw = json.loads(contract_text)
    raw["classes"][2]["lung"] = False
    with pytest.raises(ContractError, match="lesion"):
        parse_contract(json.dumps(raw))


@given(st.text() | st.recursive(st.none() | st.integers(), st.lists).map(json.dumps))
def test_any_other_text_is_a_contract_error(text):
    with pytest.raises(DlildError):
        parse_contract(text)
