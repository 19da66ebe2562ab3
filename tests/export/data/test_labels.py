"""Label names of strangers: known ones in any spelling, others never guessed at."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dlild_client.contract import Contract
from dlild_export.data.faults import DatasetError
from dlild_export.data.labels import IGNORE, known_names, map_labels, parse_overrides, plain


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("background", 0),
        ("Healthy_Lung", 1),
        ("lung upper lobe left", 1),
        ("GGO", 2),
        ("Ground-glass opacity", 2),
        ("ground_glass_opacities", 2),
        ("Reticular pattern", 3),
        ("HONEYCOMB", 4),
        ("Lung consolidation", 5),
        ("ignore", IGNORE),
    ],
)
def test_names_of_the_field(contract: Contract, name: str, label: int) -> None:
    assert map_labels({name: 7}, contract).values[7] == label


@given(data=st.data())
def test_spelling_does_not_matter(contract: Contract, data: st.DataObject) -> None:
    known = known_names(contract)
    name = data.draw(st.sampled_from(sorted(known)))
    spelt = "".join(
        data.draw(st.sampled_from([c.lower(), c.upper()])) if c != " " else data.draw(_GAPS)
        for c in name
    )
    spelt = data.draw(st.sampled_from(["", " ", "_"])) + spelt

    assert map_labels({spelt: 3}, contract).values[3] == known[name]


_GAPS = st.sampled_from([" ", "_", "-", "  ", " - "])


@given(name=st.text(max_size=20), ours=st.sampled_from(["lung", "Ignore", "ground glass"]))
def test_a_name_is_known_or_refused_and_can_be_mapped_by_hand(
    contract: Contract, name: str, ours: str
) -> None:
    known = known_names(contract)

    if plain(name) in known:
        assert map_labels({name: 4}, contract).values[4] == known[plain(name)]
    else:
        with pytest.raises(DatasetError) as refused:
            map_labels({name: 4}, contract)
        assert repr(name) in refused.value.faults[0].reason
    assert map_labels({name: 4}, contract, {name: ours}).values[4] == known[plain(ours)]


def test_every_unknown_name_is_listed(contract: Contract) -> None:
    with pytest.raises(DatasetError) as refused:
        map_labels({"lung": 1, "emphysema": 2, "nodule": 3}, contract)

    assert ["'emphysema'" in f.reason or "'nodule'" in f.reason for f in refused.value.faults] == [
        True,
        True,
    ]
    assert "--map" in str(refused.value)


def test_an_override_must_fit_something(contract: Contract) -> None:
    with pytest.raises(DatasetError, match="'nodul'"):
        map_labels({"lung": 1}, contract, {"nodul": "lung"})
    with pytest.raises(DatasetError, match="'effusion', which is no class"):
        map_labels({"lung": 1}, contract, {"lung": "effusion"})


def test_a_value_means_one_class(contract: Contract) -> None:
    with pytest.raises(DatasetError, match="value 2 has two names"):
        map_labels({"ggo": 2, "honeycombing": 2}, contract)
    assert map_labels({"left lung": 2, "right lung": 2}, contract).values[2] == 1


@given(st.lists(st.sampled_from([-3, 0, 2, 7, 300]), min_size=1, max_size=30))
def test_values_are_translated(contract: Contract, present: list[int]) -> None:
    names = {"ggo": -3, "background": 0, "lung": 2, "consolidation": 7, "ignore": 300}
    translated = map_labels(names, contract).apply(np.array(present).reshape(-1, 1, 1))

    expected = {-3: 2, 0: 0, 2: 1, 7: 5, 300: IGNORE}
    assert translated.ravel().tolist() == [expected[v] for v in present]
    assert map_labels(names, contract).unknown([2, 5, 9]) == [5, 9]


def test_overrides_are_read_from_the_command_line() -> None:
    assert parse_overrides(["a=b = lung ", "x=ignore"]) == {"a=b": "lung", "x": "ignore"}
    for text in ("lung", "=lung", "lung="):
        with pytest.raises(ValueError, match="their name=our name"):
            parse_overrides([text])
