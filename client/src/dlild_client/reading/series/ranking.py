"""Ranking of the candidates: the first is scored.

By these criteria, in lexicographic order:

1. **Both lungs**: coverage of at least 90 % of the largest, where 240 mm count as both lungs. A
   thin series of half the lungs never ranks before a thicker one of all of them.
2. **The header names the chest**, or at least no other part.
3. **Not in expiration**, then **not prone or lateral**, by description, comments, protocol and
   patient position.
4. **Axial** before coronal and sagittal stacks, **original** before derived.
5. **Thickness**: thinner slices, in steps of 0.1 mm; those up to the model grid (1.5 mm) are
   equal. The larger of slice thickness and step counts.
6. **Kernel**: lung, standard, unknown, soft, others (`kernels.py`).
7. **Without lossy compression** before with.
8. **Without contrast medium** before with.
9. **Coverage**, in steps of 10 mm.
10. **Slice count**: more slices.
11. Lower series number, then acquisition, then digest: never file names.
"""

from __future__ import annotations

from collections.abc import Sequence

from dlild_client.reading.dicom.protocol import EXPIRATION, LATERAL, PRONE
from dlild_client.reading.series.candidates import Candidate, SeriesRules
from dlild_client.reading.series.kernels import judge_kernel

CHEST_WORDS = ("CHEST", "THORA", "LUNG", "PULM", "TORAX", "TORAC", "BRUST", "POUMON", "胸", "肺")


def rank(candidates: Sequence[Candidate], rules: SeriesRules) -> list[Candidate]:
    """Sort candidates, the best first.

    Parameters
    ----------
    candidates : sequence of Candidate
    rules : SeriesRules
        Its `whole_lungs_mm` and `fine_mm`.

    Returns
    -------
    list of Candidate
    """
    widest = max((_lung_coverage_mm(c, rules) for c in candidates), default=0.0)
    return sorted(candidates, key=lambda c: _key(c, widest, rules))


def _lung_coverage_mm(candidate: Candidate, rules: SeriesRules) -> float:
    return min(candidate.coverage_mm, rules.whole_lungs_mm)


def _key(candidate: Candidate, widest_mm: float, rules: SeriesRules) -> tuple[float, ...]:
    """Sort key, smaller is better; see the docstring of the module."""
    first = candidate.slices[0]
    return (
        _lung_coverage_mm(candidate, rules) < 0.9 * widest_mm,
        _body_part(first.body_part),
        first.breath == EXPIRATION,
        first.posture in {PRONE, LATERAL},
        not candidate.axial,
        first.image_type[:1] == ("DERIVED",),
        max(round(candidate.thickness_mm, 1), rules.fine_mm),
        judge_kernel(first.kernel),
        any(s.lossy for s in candidate.slices),
        first.contrast_agent,
        -round(candidate.coverage_mm / 10),
        -len(candidate.slices),
        _last_if_none(first.series_number),
        _last_if_none(first.acquisition),
        float(int(first.series or "0", 16)),
    )


def _body_part(name: str) -> int:
    """0 for the chest, 1 where missing, 2 for another part."""
    if is_chest_word(name):
        return 0
    return 2 if name else 1


def is_chest_word(body_part: str) -> bool:
    """Whether BodyPartExamined names the chest, alone or with others."""
    return any(word in body_part for word in CHEST_WORDS)


def _last_if_none(number: int | None) -> float:
    return float("inf") if number is None else number
