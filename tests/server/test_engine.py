"""Which precision the embedded engine computes in: by processor, version and request."""

from __future__ import annotations

from pathlib import Path

import pytest

from dlild_client.contract.precision import LIMIT, choose_precision, cpu_flags

NEW = frozenset({"avx2", "avx512f", "avx512_vnni", "avx512_bf16"})
VNNI_ONLY = frozenset({"avx2", "avx_vnni"})
OLD = frozenset({"avx2", "avx512f"})


@pytest.mark.parametrize(
    ("flags", "has_int8", "expected"),
    [
        (NEW, True, "int8"),
        (NEW, False, "bf16"),
        (VNNI_ONLY, True, "int8"),
        (VNNI_ONLY, False, "f32"),
        (frozenset({"amx_int8", "amx_bf16"}), True, "int8"),
        (OLD, True, "f32"),
        (frozenset(), False, "f32"),
    ],
)
def test_the_fastest_precision_that_processor_and_version_have(flags, has_int8, expected) -> None:
    assert choose_precision(flags, has_int8=has_int8) == expected


@pytest.mark.parametrize("wanted", ["int8", "bf16", "f32"])
def test_a_precision_that_is_possible_can_be_asked_for(wanted: str) -> None:
    assert choose_precision(NEW, wanted, has_int8=True) == wanted


@pytest.mark.parametrize(
    ("flags", "wanted", "has_int8", "said"),
    [
        (NEW, "fp64", True, "precision 'fp64' is none of int8, bf16, f32"),
        (NEW, "int8", False, "this version has none: use bf16 or f32"),
        (OLD, "int8", True, "amx_int8 or avx512_vnni or avx_vnni .*the CPU lacks it: use f32"),
        (VNNI_ONLY, "bf16", True, "needs amx_bf16 or avx512_bf16; the CPU lacks it: use int8 or"),
    ],
)
def test_what_is_impossible_is_refused_with_the_way_out(flags, wanted, has_int8, said) -> None:
    with pytest.raises(ValueError, match=said):
        choose_precision(flags, wanted, has_int8=has_int8)


@pytest.mark.parametrize(
    ("limit", "expected"),
    [("", "int8"), ("AVX512_CORE_BF16", "int8"), ("avx512_core_vnni", "int8"), ("AVX2", "f32")],
)
def test_instructions_can_be_forbidden(
    limit: str, expected: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    info = tmp_path / "cpuinfo"
    info.write_text(f"model name\t: any\nflags\t\t: {' '.join(sorted(NEW))}\n")
    monkeypatch.setenv(LIMIT, limit)
    flags = cpu_flags(info)
    assert choose_precision(flags, has_int8=True) == expected
    assert ("avx512_bf16" in flags) == (limit in {"", "AVX512_CORE_BF16"})


def test_where_linux_is_not_it_computes_in_f32(tmp_path: Path) -> None:
    assert choose_precision(cpu_flags(tmp_path / "none"), has_int8=True) == "f32"
