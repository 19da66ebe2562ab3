"""In which precision a training computes: bf16, where the device has kernels for it."""

from __future__ import annotations

import torch

from dlild_client.contract.precision import cpu_flags

BF16_KERNELS = frozenset({"avx512bw", "avx_ne_convert"})
"""Flags of CPUs of which oneDNN has kernels for bf16, imitated where they are not native. On others
torch computes a convolution in bf16 by plain loops: a hundred times as long as in FP32."""


def mixed_precision(device: torch.device, *, wanted: bool) -> torch.autocast:
    """Return the context that a network is run in.

    Parameters
    ----------
    device : torch.device
        Where the network is.
    wanted : bool
        Whether to compute in bf16 where the device has kernels for it, and otherwise in FP32.

    Returns
    -------
    torch.autocast
    """
    has_kernels = device.type != "cpu" or bool(cpu_flags() & BF16_KERNELS)
    return torch.autocast(device.type, torch.bfloat16, enabled=wanted and has_kernels)
