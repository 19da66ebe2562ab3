"""Lung moved by a breath: what moves, and what does not."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from dlild_export.training.breath import move_lung


@given(
    lung=st.floats(-950, -760),
    to=st.floats(-980, -700),
    hu=st.lists(st.floats(-1100, 400), min_size=2, max_size=20),
)
def test_a_breath_moves_lung_and_neither_air_nor_water(
    lung: float, to: float, hu: list[float]
) -> None:
    before = torch.tensor(sorted(hu), dtype=torch.float64)
    after = move_lung(before, lung, to - lung)

    assert (after.diff() >= -1e-9).all()  # what was denser stays so
    still = (before <= -1000) | (before >= 0)
    torch.testing.assert_close(after[still], before[still])
    torch.testing.assert_close(
        move_lung(torch.tensor([lung]), lung, to - lung), torch.tensor([to]), atol=0.01, rtol=0
    )
