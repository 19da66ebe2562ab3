"""Which class a voxel is given, by either rule, against the rule written out voxel by voxel."""

from __future__ import annotations

import numpy as np
import pytest
from examples import examples
from hypothesis import given
from hypothesis import strategies as st

from dlild_client.contract import Contract
from dlild_client.contract.errors import ContractError
from dlild_client.contract.labels import SURE, label_voxels
from dlild_client.contract.schema import LARGEST_CLASS, LESIONS_TOGETHER

LESIONS = [2, 3, 4, 5]


def by_hand(values: np.ndarray, rule: str) -> int:
    """Label of one voxel; values hold no ties."""
    if rule == LESIONS_TOGETHER and values[LESIONS].sum() > max(values[0], values[1]):
        return LESIONS[int(values[LESIONS].argmax())]
    if rule == LESIONS_TOGETHER:
        return int(values[:2].argmax())
    return int(values.argmax())


@examples(50)
@given(
    seed=st.integers(0, 2**32 - 1),
    spread=st.sampled_from([0.3, 2.0, 8.0]),
    rule=st.sampled_from([LARGEST_CLASS, LESIONS_TOGETHER]),
)
def test_labels_and_certainty(contract: Contract, seed: int, spread: float, rule: str) -> None:
    powers = np.exp(np.random.default_rng(seed).normal(0, spread, (6, 3, 5)))
    values = powers / powers.sum(axis=0)

    labels, certainty = label_voxels(values, contract.classes, rule, sure=SURE * values.sum(axis=0))

    flat = values.reshape(6, -1)
    expected = [by_hand(voxel, rule) for voxel in flat.T]
    np.testing.assert_array_equal(labels.ravel(), expected)
    sure = np.zeros(6)
    for label, voxel in zip(expected, flat.T, strict=True):
        if label in LESIONS:
            sure[label] += voxel[label] / voxel[LESIONS].sum()
    np.testing.assert_allclose(certainty, sure)


def test_lesions_that_share_a_voxel_outvote_the_lung(contract: Contract) -> None:
    values = np.array([0.0, 0.4, 0.1, 0.3, 0.2, 0.0]).reshape(6, 1)

    alone, none = label_voxels(values, contract.classes, LARGEST_CLASS, sure=SURE)
    together, certainty = label_voxels(values, contract.classes, LESIONS_TOGETHER, sure=SURE)

    assert (alone[0], together[0]) == (1, 3)
    assert not none.any()
    assert certainty[3] == pytest.approx(0.5)


def test_an_unknown_rule_is_named(contract: Contract) -> None:
    with pytest.raises(ContractError, match=r"score\.labels is 'median', which is unknown here"):
        label_voxels(np.ones((6, 1)), contract.classes, "median", sure=SURE)
