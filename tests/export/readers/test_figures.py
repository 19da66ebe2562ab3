"""Figures of two label planes, with answers worked out by hand; and ICC, with published ones."""

from __future__ import annotations

import numpy as np
import pytest
from export.coded import coarse_contract

from dlild_export.data.labels import IGNORE
from dlild_export.evaluation.statistics import intraclass_correlation
from dlild_export.readers.figures import figures, local_mean, tabulate
from dlild_export.readers.outlines import UNNAMED

CONTRACT = coarse_contract()
PIXEL_MM = (2.0, 0.5)


def _planes() -> tuple[np.ndarray, np.ndarray]:
    """Reader: 40 of 100 lesion (30 reticulation, 10 honeycombing). Label map: 25, 20 of them in."""
    first, second = (np.ones((10, 10), np.uint8) for _ in range(2))
    first[:3] = 3
    first[3] = 4
    second[2] = 3  # ten, the same class
    second[3] = 3  # ten, another class
    second[4, :5] = 5  # five that the reader does not have
    return first, second


def test_extent_dice_sensitivity_and_precision_by_hand() -> None:
    table = tabulate(*_planes(), CONTRACT, PIXEL_MM, None)
    found = figures(table, 1, CONTRACT)

    assert table.sum() == pytest.approx(100.0)  # 100 pixels of 1 mm²
    assert (found.first_percent, found.second_percent) == (40.0, 25.0)
    assert found.dice == pytest.approx(2 * 20 / 65)
    assert found.sensitivity == pytest.approx(20 / 40)
    assert found.precision == pytest.approx(20 / 25)
    assert found.densities == {}


def test_classes_differ_from_lesion_of_any_class() -> None:
    found = figures(tabulate(*_planes(), CONTRACT, PIXEL_MM, None), 1, CONTRACT).classes

    reticulation, honeycombing = found["reticulation"], found["honeycombing"]
    assert (reticulation.first_mm2, reticulation.second_mm2) == (30.0, 20.0)
    assert reticulation.called_lesion == pytest.approx(10 / 30)
    assert reticulation.same_class == pytest.approx(10 / 30)
    assert reticulation.dice == pytest.approx(2 * 10 / 50)
    assert (honeycombing.called_lesion, honeycombing.same_class) == (1.0, 0.0)
    assert np.isnan(found["ground_glass"].dice)
    assert np.isnan(found["consolidation"].called_lesion)
    assert found["consolidation"].second_mm2 == 5.0


def test_a_lesion_without_a_class_counts_as_lesion_and_as_no_class() -> None:
    first, second = _planes()
    first[np.isin(first, (3, 4))] = UNNAMED
    found = figures(tabulate(first, second, CONTRACT, PIXEL_MM, None), 1, CONTRACT)

    assert (found.first_percent, found.sensitivity) == (40.0, 0.5)
    assert found.classes["reticulation"].first_mm2 == 0.0


def test_what_a_side_ignores_counts_nowhere() -> None:
    first, second = _planes()
    first[4:] = IGNORE
    second[0] = IGNORE
    found = figures(tabulate(first, second, CONTRACT, PIXEL_MM, None), 1, CONTRACT)

    assert (found.first_percent, found.second_percent) == (100.0, pytest.approx(100 * 20 / 30))
    assert found.precision == 1.0


def test_nothing_on_either_side_has_no_dice_and_an_extent_of_0() -> None:
    lung = np.ones((4, 4), np.uint8)
    found = figures(tabulate(lung, lung, CONTRACT, PIXEL_MM, None), 1, CONTRACT)

    assert (found.first_percent, found.second_percent) == (0.0, 0.0)
    assert all(np.isnan(v) for v in (found.dice, found.sensitivity, found.precision))


def test_no_lung_has_no_extent() -> None:
    nothing = np.zeros((4, 4), np.uint8)
    assert np.isnan(figures(tabulate(nothing, nothing, CONTRACT, PIXEL_MM, None), 1, CONTRACT).dice)


def test_tables_of_slices_add_up() -> None:
    first, second = _planes()
    table = tabulate(first, second, CONTRACT, PIXEL_MM, None)
    alike = tabulate(first, first, CONTRACT, PIXEL_MM, None)

    assert figures(table + alike, 2, CONTRACT).sensitivity == pytest.approx(60 / 80)


def test_lesions_are_parted_by_the_density_round_them() -> None:
    first, second = (np.ones((40, 120), np.uint8) for _ in range(2))
    hu = np.full(first.shape, -900, np.int16)
    for place, value in enumerate((-850, -700, -600)):
        columns = slice(40 * place, 40 * place + 40)
        hu[:, columns] = value
        first[:, columns] = 3
        second[: 10 * (place + 1), columns] = 3
    found = figures(tabulate(first, second, CONTRACT, (4.0, 4.0), hu), 1, CONTRACT).densities

    assert list(found) == ["below -800 HU", "-800 to -650 HU", "above -650 HU"]
    shares = [d.sensitivity for d in found.values()]
    assert shares == pytest.approx([0.25, 0.5, 0.75], abs=0.02)
    assert [d.classes["reticulation"] for d in found.values()] == shares
    assert [d.precision for d in found.values()] == [1.0] * 3


def test_the_chest_wall_does_not_make_the_lungs_edge_dense() -> None:
    lung = np.zeros((50, 50), bool)
    lung[:, 20:] = True
    hu = np.where(lung, -860, 60).astype(np.int16)

    np.testing.assert_allclose(local_mean(hu, lung, (1.0, 1.0))[lung], -860.0, atol=1e-6)


def test_the_local_mean_has_a_width_of_6_mm_at_half_its_height() -> None:
    hu = np.zeros((61, 61), np.int16)
    hu[30, 30] = 10000
    mean = local_mean(hu, np.ones(hu.shape, bool), (0.5, 0.5))

    assert mean[30, 36] / mean[30, 30] == pytest.approx(0.5, abs=0.01)


def test_the_intraclass_correlation_of_shrout_and_fleiss() -> None:
    ratings = [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]]

    found = intraclass_correlation(ratings)

    # Shrout and Fleiss 1979, table 4; the interval as R's psych::ICC prints it.
    assert found.value == pytest.approx(0.29, abs=0.005)
    assert (found.low, found.high) == pytest.approx((0.019, 0.761), abs=0.001)


def test_a_bias_lowers_the_intraclass_correlation() -> None:
    first = np.array([1.0, 5.0, 12.0, 30.0, 44.0])

    assert intraclass_correlation(np.stack([first, first], 1)).value == pytest.approx(1.0)
    assert intraclass_correlation(np.stack([first, first - 10], 1)).value < 0.9
    assert np.isnan(intraclass_correlation([[1, 2], [3, 4]]).value)
    assert np.isnan(intraclass_correlation(np.ones((5, 2))).value)
