import json

import pytest

from contract import Contract


@pytest.fixture
def text(repository):
    return (repository / "contract.json").read_text()


def test_the_contract_of_this_repository_is_understood(text):
    contract = Contract.from_json(text)
    assert contract.classes == 6
    assert contract.lung == (False, True, True, True, True, True)
    assert contract.lesion == (False, False, True, True, True, True)
    assert contract.axial_area_mm2(3.375) == pytest.approx(2.25)
    assert contract.axial_area_mm2(27.0) == pytest.approx(9.0)


def test_another_schema_is_refused_naming_both_versions(text):
    other = json.dumps(json.loads(text) | {"schema_version": 9})
    with pytest.raises(ValueError, match=r"schema version 9, this server understands 1"):
        Contract.from_json(other)


def test_labels_must_be_in_order(text):
    raw = json.loads(text)
    raw["classes"].reverse()
    with pytest.raises(ValueError, match="labels are"):
        Contract.from_json(json.dumps(raw))
