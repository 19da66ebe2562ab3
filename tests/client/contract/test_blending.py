import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dlild_client.contract.blending import window_weights

shapes = st.tuples(*[st.integers(1, 24)] * 3)


@given(shapes)
def test_weights_are_positive_symmetric_and_at_most_one(shape):
    weights = window_weights(shape)
    assert weights.shape == shape
    assert weights.dtype == np.float32
    assert weights.min() > 0
    assert weights.max() <= 1
    for axis in range(3):
        np.testing.assert_allclose(weights, np.flip(weights, axis), rtol=1e-5)


def test_the_middle_counts_most():
    weights = window_weights((96, 96, 96))
    assert weights[48, 48, 48] == weights.max()
    assert weights[0, 48, 48] < 0.02 * weights[48, 48, 48]


def test_weights_are_shared_and_cannot_be_changed():
    weights = window_weights((4, 5, 6))
    assert weights is window_weights((4, 5, 6))
    with pytest.raises(ValueError, match="read-only"):
        weights[0, 0, 0] = 2
