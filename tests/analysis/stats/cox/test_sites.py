from __future__ import annotations

import numpy as np
import pytest

from dlild_analysis.stats import cox
from dlild_analysis.stats.errors import StatisticsError


@pytest.mark.parametrize(
    ("key", "fit"), [("stratified", cox.fit_stratified_cox), ("clustered", cox.fit_clustered_cox)]
)
def test_against_r(golden, registry, key, fit):
    expected = golden("sites")[key]
    site = (np.arange(1, len(registry) + 1) * 7) % 12
    found = fit(registry[["lesion", "age"]], registry["time"], registry["event"], site)
    assert [term.beta for term in found] == pytest.approx(expected["beta"], rel=1e-5)
    assert [term.std_error for term in found] == pytest.approx(expected["se"], rel=1e-4)


def test_what_cannot_be_fitted_is_refused(registry):
    columns = (registry[["lesion"]], registry["time"], registry["event"])
    site = np.arange(len(registry)) % 3
    with pytest.raises(StatisticsError, match="two are needed"):
        cox.fit_stratified_cox(*columns, site * 0)
    with pytest.raises(StatisticsError, match="0 events"):
        cox.fit_clustered_cox(registry[["lesion"]], registry["time"], registry["event"] * 0, site)
    with pytest.raises(StatisticsError, match="lengths differ"):
        cox.fit_clustered_cox(*columns, site[1:])
