"""Summaries, strata and the floor."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from dlild_export.evaluation.cases import (
    HEALTHY_THICKNESSES_MM,
    PATTERNS,
    SEVERITY_EDGES,
    THICKNESSES_MM,
    release_plan,
)
from dlild_export.evaluation.floor import Floor, RealFloor, Verdict, real_verdict, verdict
from dlild_export.evaluation.metrics import ALL_LESIONS, ALL_LUNG, Agreement, RegionScore
from dlild_export.evaluation.real import PlantedResult, RealResult, RealRun
from dlild_export.evaluation.summary import (
    CaseResult,
    Refusal,
    severity_band,
    stratify,
    summarise,
    thickness_band,
    worst,
)
from dlild_export.phantom import Pattern

NAN = float("nan")


def result(
    name: str = "a",
    *,
    true: float = 20.0,
    measured: float = 20.0,
    lesion_dice: float = 0.9,
    pattern: str | None = "uip",
    thickness: float | None = 1.0,
) -> CaseResult:
    region = RegionScore(0.9, 0.8, 100.0, 110.0)
    regions = {
        ALL_LUNG: replace(region, dice=0.98),
        ALL_LESIONS: RegionScore(lesion_dice, 0.7, 10 * true, 10 * measured),
        "lung": region,
        "honeycombing": RegionScore(NAN, NAN, 0.0, 4.0) if pattern != "uip" else region,
    }
    agreement = Agreement(true, measured, regions)
    return CaseResult(name, pattern, thickness, agreement, (), 4, 1.0)


def good(count: int = 24) -> list[CaseResult]:
    return [result(str(i), true=2.0 * i, measured=2.0 * i + (-1) ** i * 0.4) for i in range(count)]


@pytest.mark.parametrize(
    ("percent", "band"),
    [
        (0, "no lesion"),
        (0.01, "up to 5 %"),
        (5, "up to 5 %"),
        (5.01, "over 5 to 15 %"),
        (30, "over 15 to 30 %"),
        (90, "over 30 %"),
    ],
)
def test_bands_of_severity(percent: float, band: str) -> None:
    assert severity_band(percent) == band


def test_bands_of_thickness() -> None:
    bands = [thickness_band(mm) for mm in (0.6, 1.25, 1.5, 2, 3, 5)]
    assert bands[0] == bands[1] == "up to 1.25 mm"
    assert bands[2] == bands[3] == "over 1.25 to 2 mm"
    assert bands[4:] == ["over 2 to 3 mm", "over 3 mm"]


def test_strata_hold_every_case_once() -> None:
    results = [
        result("a", true=0, measured=1, pattern="none", thickness=1.0),
        result("b", true=10, measured=14, thickness=5.0),
        result("c", true=12, measured=14, thickness=None, pattern=None),
    ]

    strata = stratify(results)

    assert [*strata["severity"]] == ["no lesion", "over 5 to 15 %"]
    assert strata["severity"]["over 5 to 15 %"].score.mean_absolute_error.value == 3
    assert {k: v.score.cases for k, v in strata["pattern"].items()} == {"none": 1, "uip": 1}
    assert [*strata["thickness"]] == ["up to 1.25 mm", "over 3 mm"]


def test_absent_classes_count_as_false_volume_only() -> None:
    region = summarise([result("a"), result("b", pattern="none")]).regions["honeycombing"]

    assert region.dice.cases == 1
    assert region.dice.value == pytest.approx(0.9)
    assert region.false_ml.value == pytest.approx(4)
    # Pooled: 0.9 of (100 + 110) mL agree, over those and the 4 mL that are false.
    assert region.pooled_dice == pytest.approx(0.9 * 210 / 214)


def test_nothing_scored_is_nothing_to_sum_up() -> None:
    with pytest.raises(ValueError, match="no case"):
        summarise([])


def missed(found: Verdict) -> list[str]:
    return [t.name for t in found.targets if not t.met]


def test_a_good_network_meets_the_floor() -> None:
    found = verdict(summarise(good()))

    assert found.met
    assert missed(found) == []
    assert {t.name for t in found.targets} >= {"Dice, all lung", "Dice, class honeycombing"}


@pytest.mark.parametrize(
    ("floor", "name"),
    [
        (Floor(lung_dice=0.99), "Dice, all lung"),
        (Floor(lesion_dice=0.95), "Dice, all lesions"),
        (Floor(class_dice=0.91), "Dice, class lung"),
        (Floor(mean_absolute_error=0.3), "DL-ILD, mean absolute error"),
        (Floor(bias=0.0), "DL-ILD, size of the bias"),
        (Floor(cases=25), "cases scored"),
    ],
)
def test_every_target_can_be_missed(floor: Floor, name: str) -> None:
    found = verdict(summarise(good()), floor)

    assert not found.met
    assert name in missed(found)
    assert name in found.missed()


def test_a_negative_bias_is_a_bias() -> None:
    results = [replace(r, agreement=replace(r.agreement, dl_ild_percent=0.0)) for r in good()]
    assert "DL-ILD, size of the bias" in missed(verdict(summarise(results)))


def test_what_no_case_can_tell_is_not_met() -> None:
    results = [result(str(i), pattern="none") for i in range(24)]

    found = verdict(summarise(results))

    assert missed(found) == ["Dice, class honeycombing"]
    assert "none" in found.missed()


def test_a_case_that_was_refused_is_not_passed_over() -> None:
    assert missed(verdict(summarise(good()), refused=1)) == ["cases not scored"]


def test_worst_cases_by_error_then_by_dice() -> None:
    results = [
        result("fine"),
        result("biased", measured=30),
        result("blurred", lesion_dice=0.2),
        result("healthy", true=0, measured=0, lesion_dice=NAN),
    ]

    assert [r.name for r in worst(results, 1)] == ["biased", "blurred"]
    assert [r.name for r in worst(results, 0)] == []


def real(dl_ild: float, lung: float, planted: float) -> RealRun:
    lesion = PlantedResult("uip", 30.0, planted, 0.8, 0.97, ())
    return RealRun((RealResult("scan 1", dl_ild, lung, 4000.0, 1.0, (), (), (lesion,)),))


def test_real_scans_are_judged_one_by_one() -> None:
    assert real_verdict(real(2.9, 4190.0, 32.9)).met
    assert missed(real_verdict(real(3.0, 4190.0, 32.9))) == ["scan 1: DL-ILD"]
    assert len(missed(real_verdict(real(1.0, 3700.0, 26.0)))) == 2
    assert real_verdict(
        real(1.0, 3700.0, 26.0), RealFloor(lung_difference_percent=10, planted_error=5)
    ).met
    assert not real_verdict(RealRun((), (Refusal("scan 1", "no lungs"),))).met


def test_the_release_plan_is_balanced() -> None:
    plan = release_plan()
    ill = [s for s in plan if s.pattern is not Pattern.NONE]

    assert len(plan) == len({s.seed for s in plan}) == 24
    for pattern in PATTERNS:
        own = [s for s in ill if s.pattern is pattern]
        assert sorted(s.thickness_mm for s in own) == sorted(THICKNESSES_MM)
        bands = np.searchsorted(SEVERITY_EDGES, sorted(s.severity for s in own))
        assert bands.tolist() == [1, 2, 3, 4, 5]
    healthy = sorted(s.thickness_mm for s in plan if s.pattern is Pattern.NONE)
    assert healthy == sorted(HEALTHY_THICKNESSES_MM)
    assert all(s.severity == 0 for s in plan if s.pattern is Pattern.NONE)


def test_the_release_plan_is_fixed_but_other_seeds_give_another() -> None:
    assert release_plan() == release_plan(1_000_000)
    assert min(s.seed for s in release_plan(5)) == 5
    assert [s.severity for s in release_plan(5)] != [s.severity for s in release_plan()]
