from __future__ import annotations

import numpy as np
import pytest

from dlild_analysis.stats.errors import StatisticsError
from dlild_analysis.stats.splines import rcs_basis, rcs_knots


@pytest.mark.parametrize("key", ["lesion3", "lesion4", "lesion5", "lesion6", "lesion7", "small4"])
def test_knots_and_basis_against_rms(golden, registry, key):
    expected = golden("logistic")["rcs"][key]
    values = registry["lesion"][:60] if key.startswith("small") else registry["lesion"]
    knots = rcs_knots(values, int(key[-1]))
    assert knots == pytest.approx(expected["knots"], rel=1e-10)
    basis = rcs_basis(values[:5], knots)
    assert basis == pytest.approx(np.array(expected["head"]), rel=1e-9, abs=1e-12)


def test_tails_are_straight():
    basis = rcs_basis(np.array([100.0, 101.0, 102.0, -100.0, -101.0, -102.0]), [0, 1, 3, 7])
    for tail in (basis[:3], basis[3:]):
        assert np.diff(tail, n=2, axis=0) == pytest.approx(0, abs=1e-8)


def test_refusals():
    with pytest.raises(StatisticsError, match="fewer knots"):
        rcs_knots([1, 1, 1, 1, 2, 2, 2], 4)
    with pytest.raises(StatisticsError, match="3 to 7"):
        rcs_knots(np.arange(50.0), 9)
    with pytest.raises(StatisticsError, match="must rise"):
        rcs_basis([1.0, 2.0], [1, 1, 2])
