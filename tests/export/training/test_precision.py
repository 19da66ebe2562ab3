"""bf16 is computed where there are kernels for it."""

from __future__ import annotations

import pytest
import torch

from dlild_export.training import precision


@pytest.mark.parametrize(
    ("flags", "wanted", "expected"),
    [
        ({"avx2", "avx512bw"}, True, torch.bfloat16),
        ({"avx2", "avx512bw"}, False, torch.float32),
        ({"avx2"}, True, torch.float32),
        (set(), True, torch.float32),
    ],
)
def test_a_cpu_without_kernels_for_bf16_computes_in_fp32(flags, wanted, expected, monkeypatch):
    monkeypatch.setattr(precision, "cpu_flags", lambda: frozenset(flags))
    layer, values = torch.nn.Linear(2, 2), torch.zeros(1, 2)
    with precision.mixed_precision(torch.device("cpu"), wanted=wanted):
        assert layer(values).dtype == expected
