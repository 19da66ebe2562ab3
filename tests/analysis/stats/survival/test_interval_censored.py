from __future__ import annotations

import numpy as np
import pytest

from dlild_analysis.stats import survival
from dlild_analysis.stats.errors import StatisticsError


@pytest.fixture
def seen(registry):
    """Look every six months, as tests/golden/visits/make.R does."""
    time, cause = registry["time"].to_numpy(), registry["cause"].to_numpy()
    visit = 6 * np.ceil(time / 6)
    upper = np.select([cause == 1, cause == 2], [visit, time], np.inf)
    return registry, np.where(cause == 1, visit - 6, time), upper


@pytest.mark.parametrize(("key", "columns"), [("one", ["lesion"]), ("two", ["lesion", "age"])])
def test_against_r(golden, seen, key, columns):
    frame, lower, upper = seen
    expected = golden("visits")["interval"][key]
    found = survival.fit_interval_censored(frame[columns], lower, upper)
    # lifelines stops at a gradient that R's survreg goes below.
    np.testing.assert_allclose(
        np.atleast_1d(expected["log_hr"]), found.log_hazard_ratios, rtol=1e-4
    )
    np.testing.assert_allclose(np.atleast_1d(expected["se"]), found.std_errors, rtol=1e-3)
    assert found.shape == pytest.approx(expected["shape"], rel=1e-4)
    assert found.events == int((frame["cause"] > 0).sum())
    assert found.exact == int((frame["cause"] == 2).sum())


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda lower, upper: (upper + 1, upper), "not below lower"),
        (lambda lower, upper: (lower, np.full(upper.size, np.inf)), "0 events"),
        (lambda lower, upper: (lower, upper * np.nan), "nor missing"),
        (lambda lower, upper: (lower[1:], upper), "lengths differ"),
    ],
)
def test_what_is_no_interval_is_refused(seen, edit, words):
    frame, lower, upper = seen
    finite = np.where(np.isfinite(upper), upper, 1e3)
    with pytest.raises(StatisticsError, match=words):
        survival.fit_interval_censored(frame[["lesion"]], *edit(np.minimum(lower, 1e3), finite))
