from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from dlild_client.contract.score import ZONES
from dlild_client.errors import BadSettingsError, NotComparableError, UnreadableFileError
from dlild_client.results.compare import compare_results, fit_slope, t_quantile
from dlild_client.results.stored import StoredResult

REPEATABILITY = {
    "same_protocol": {"coefficient": 3.0, "low": 2.0, "high": 7.0},
    "all_changes": {"coefficient": 15.0, "low": 10.0, "high": 30.0},
}


def result(score: float = 10.0, digest: str = "sha256:a", **changes) -> StoredResult:
    """A result whose lesions are ground-glass, alike in all zones."""
    document = {
        "schema_version": 1,
        "dl_ild_percent": score,
        "lung_volume_ml": 4000.0,
        "lesion_volume_ml": 40 * score,
        "classes": {
            "lung": {"percent_of_lung": 100 - score},
            "ground_glass": {"percent_of_lung": score},
        },
        "zones": {zone: {"lung_ml": 600.0, "lesion_ml": 6 * score} for zone in ZONES},
        "model": {"name": "dlild", "version": 5, "weights_digest": "sha256:w",
                  "profile": "embedded", "engine": "openvino", "precision": "bf16"},
        "series": {"kernel": "B45f", "slice_thickness_mm": 1.0, "manufacturer": "Maker",
                   "digest": digest},
        "flags": [],
        "repeatability": REPEATABILITY,
    }  # fmt: skip
    for path, value in changes.items():
        *parents, name = path.split("__")
        part = document
        for parent in parents:
            part = part[parent]
        part[name] = value
    return StoredResult(Path("result.json"), document, Path())


@pytest.mark.parametrize(
    ("later", "verdict", "sure"),
    [
        (12.9, "within_noise", False),
        (13.0, "within_noise", False),
        (13.5, "increase", False),
        (17.5, "increase", True),
        (6.5, "decrease", False),
        (10.0, "within_noise", False),
    ],
)
def test_a_difference_is_held_against_the_coefficient(later, verdict, sure):
    total = compare_results([result(10.0), result(later, "sha256:b")]).total
    for change in (total.score, total.classes["ground_glass"], total.zones["left_lower"]):
        assert change.difference == pytest.approx(later - 10.0)
        assert (change.verdict, change.beyond_upper_bound) == (verdict, sure)
    assert (total.noise.condition, total.noise.coefficient) == ("same_protocol", 3.0)
    assert total.flags == {}


@pytest.mark.parametrize(
    ("changes", "flag", "condition"),
    [
        ({"series__kernel": "B70f"}, "kernel_differs", "all_changes"),
        ({"series__kernel": " b45F "}, None, "same_protocol"),
        ({"series__kernel": None}, "kernel_unknown", "all_changes"),
        ({"series__slice_thickness_mm": 5.0}, "thickness_differs", "all_changes"),
        ({"series__slice_thickness_mm": 1.05}, None, "same_protocol"),
        ({"series__slice_thickness_mm": None}, "thickness_unknown", "all_changes"),
        ({"series__manufacturer": "Other"}, "scanner_differs", "same_protocol"),
        ({"model__precision": "fp32"}, "engine_differs", "same_protocol"),
        ({"lung_volume_ml": 3300.0}, "lung_volume_differs", "same_protocol"),
        ({"lung_volume_ml": 3500.0}, None, "same_protocol"),
        ({"flags": ["expiration_likely"]}, "scan_flags_differ", "same_protocol"),
    ],
)
def test_what_differs_is_flagged_and_another_protocol_has_another_coefficient(
    changes, flag, condition
):
    total = compare_results([result(10.0), result(20.0, "sha256:b", **changes)]).total
    assert set(total.flags) == ({flag} if flag else set())
    assert total.noise.condition == condition
    assert total.score.verdict == ("increase" if condition == "same_protocol" else "within_noise")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model__version": 4}, "different models cannot be compared: version 5 and 4"),
        ({"model__weights_digest": "sha256:v"}, "weights sha256:w and sha256:v"),
        ({"model__name": "other"}, "model dlild and other"),
        ({"series__digest": "sha256:a"}, "one scan was given twice"),
    ],
)
def test_other_models_and_the_same_scan_are_refused(changes, words):
    with pytest.raises(NotComparableError, match=words):
        compare_results([result(), result(12.0, "sha256:b", **changes)])
    # Also where they are not neighbours.
    with pytest.raises(NotComparableError, match=words):
        compare_results([result(), result(11.0, "sha256:c"), result(12.0, "sha256:b", **changes)])


def test_without_a_coefficient_nothing_is_claimed():
    pair = [result(repeatability=None), result(40.0, "sha256:b", repeatability=None)]
    comparison = compare_results(pair)
    assert comparison.total.noise is None
    assert comparison.total.score.verdict == "unknown"
    assert comparison.total.score.difference == 30.0


def test_a_zone_without_lung_has_no_difference():
    empty = {"lung_ml": 0.0, "lesion_ml": 0.0}
    later = result(12.0, "sha256:b", zones__left_lower=empty)
    comparison = compare_results([result(), later])
    zone = comparison.total.zones["left_lower"]
    assert (zone.earlier, zone.later, zone.difference) == (10.0, None, None)
    assert zone.verdict == "unknown"
    json.dumps(comparison.to_dict(), allow_nan=False)


def test_three_scans_have_steps_and_with_their_days_a_slope():
    scans = [result(10.0), result(11.0, "sha256:b"), result(16.0, "sha256:c")]
    comparison = compare_results(scans)
    assert comparison.slope is None
    assert [(s.earlier, s.later) for s in comparison.steps] == [(0, 1), (1, 2)]
    assert comparison.total.score.difference == 6.0
    assert comparison.total.years is None
    dated = compare_results(scans, [738000, 738000 + 365.25, 738000 + 730.5])
    assert dated.days == (0.0, 365.25, 730.5)
    assert dated.total.years == pytest.approx(2.0)
    assert dated.slope.per_year == pytest.approx(3.0)
    # Two scans have a difference, and no slope with an interval.
    assert compare_results(scans[:2], [0, 365]).slope is None
    text = json.dumps(dated.to_dict(), allow_nan=False)
    assert "738000" not in text


@pytest.mark.parametrize(
    ("days", "words"),
    [
        ([0], "1 days or dates for 2 results"),
        ([5, 5], "do not ascend"),
        ([9, 2], "do not ascend"),
        ([0, math.nan], "a day is no number"),
    ],
)
def test_days_that_do_not_fit_are_refused(days, words):
    with pytest.raises(BadSettingsError, match=words):
        compare_results([result(), result(12.0, "sha256:b")], days)


def test_one_result_is_no_comparison():
    with pytest.raises(BadSettingsError, match="no comparison"):
        compare_results([result()])


@pytest.mark.parametrize(
    "changes", [{"zones": {"left_upper": {}}}, {"lung_volume_ml": "much"}, {"model": []}]
)
def test_a_damaged_result_ends_in_one_line(changes):
    with pytest.raises(UnreadableFileError, match=r"a result (lacks|has) "):
        compare_results([result(**changes), result(12.0, "sha256:b")])


@given(st.integers(1, 300))
def test_the_quantile_of_student_is_that_of_scipy(freedom):
    assert t_quantile(freedom) == pytest.approx(stats.t.ppf(0.975, freedom), rel=1e-9)


@given(
    st.lists(st.tuples(st.floats(0.1, 3), st.floats(0, 100)), min_size=3, max_size=9),
)
def test_slope_and_interval_are_those_of_scipy(gaps_and_scores):
    years = [sum(gap for gap, _ in gaps_and_scores[: i + 1]) for i in range(len(gaps_and_scores))]
    scores = [score for _, score in gaps_and_scores]
    assume(len(set(scores)) > 1)
    slope = fit_slope(years, scores, None)
    fit = stats.linregress(years, scores)
    half = stats.t.ppf(0.975, len(years) - 2) * fit.stderr
    assert slope.per_year == pytest.approx(fit.slope, abs=1e-9)
    assert slope.low == pytest.approx(fit.slope - half, abs=1e-5, rel=1e-6)
    assert slope.high == pytest.approx(fit.slope + half, abs=1e-5, rel=1e-6)
    assert slope.verdict == "unknown"


def test_the_slope_of_noise_follows_from_the_coefficient():
    """Scores of unchanged lungs, drawn anew: 5 % of their slopes are beyond it."""
    noise = compare_results([result(), result(11.0, "sha256:b")]).total.noise
    years, rng = [0.0, 0.9, 2.1, 3.0], np.random.default_rng(7)
    sd = noise.coefficient / (1.959964 * math.sqrt(2))
    beyond = [
        fit_slope(years, list(20 + sd * rng.standard_normal(4)), noise).verdict != "within_noise"
        for _ in range(4000)
    ]
    assert np.mean(beyond) == pytest.approx(0.05, abs=0.01)
