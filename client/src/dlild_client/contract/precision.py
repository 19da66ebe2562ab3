"""Precisions of a network on a CPU, and which of them to compute in."""

from __future__ import annotations

import os
from pathlib import Path

# Instructions without which a CPU imitates a precision or, in 8 bits, cuts sums off at 16 bits.
INSTRUCTIONS = {
    "int8": frozenset({"avx512_vnni", "avx_vnni", "amx_int8"}),
    "bf16": frozenset({"avx512_bf16", "amx_bf16"}),
    "f32": frozenset[str](),
}
"""Precisions, the fastest first, and instructions of which a CPU needs one."""

LIMIT = "ONEDNN_MAX_CPU_ISA"
"""Variable of oneDNN that forbids newer instructions. OpenVINO's kernels obey it, and what OpenVINO
says of the CPU does not: bf16 would be chosen, and no kernel be found."""
_ALLOWED = {
    **dict.fromkeys(("SSE41", "AVX", "AVX2", "AVX512_CORE"), frozenset[str]()),
    "AVX2_VNNI": frozenset({"avx_vnni"}),
    "AVX2_VNNI_2": frozenset({"avx_vnni"}),
    "AVX512_CORE_VNNI": frozenset({"avx_vnni", "avx512_vnni"}),
}


def cpu_flags(path: Path = Path("/proc/cpuinfo")) -> frozenset[str]:
    """Return what the CPU has and `LIMIT` allows, as Linux names it; nothing where Linux is not."""
    try:
        lines = path.read_text("utf-8").splitlines()
    except OSError:
        return frozenset()
    flags = frozenset(word for line in lines if line.startswith("flags") for word in line.split())
    return flags & _ALLOWED.get(os.environ.get(LIMIT, "").upper(), flags)


def choose_precision(
    flags: frozenset[str], wanted: str | None = None, *, has_int8: bool = False
) -> str:
    """Return the precision to compute in.

    Parameters
    ----------
    flags : frozenset of str
        `cpu_flags`.
    wanted : str, optional
        What was asked for; by default the fastest.
    has_int8 : bool
        Whether the version has an INT8 form.

    Raises
    ------
    ValueError
        There is no such precision, or not on this CPU, or not of this version.
    """
    possible = [
        name
        for name, needed in INSTRUCTIONS.items()
        if (not needed or needed & flags) and (name != "int8" or has_int8)
    ]
    if wanted is None:
        return possible[0]
    if wanted not in INSTRUCTIONS:
        raise ValueError(f"precision {wanted!r} is none of {', '.join(INSTRUCTIONS)}")
    if wanted not in possible:
        needed = " or ".join(sorted(INSTRUCTIONS[wanted]))
        lack = "the CPU lacks it" if not INSTRUCTIONS[wanted] & flags else "this version has none"
        raise ValueError(
            f"precision {wanted!r} needs {needed}"
            + (" and an INT8 form of the version" if wanted == "int8" else "")
            + f"; {lack}: use {' or '.join(possible)}"
        )
    return wanted
