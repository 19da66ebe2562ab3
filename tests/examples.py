"""With how many examples a property is tried: with all of them in `make test-slow`."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

ALL, FEW = 50, 15
COUNT = ALL if os.environ.get("DLILD_EXAMPLES") == "all" else FEW


def load_profile() -> None:
    """Load the settings of every property.

    A busy machine is no failure: examples are bounded in number, not in time. And a run today and
    one tomorrow try the same examples.
    """
    settings.register_profile(
        "dlild",
        deadline=None,
        max_examples=COUNT,
        derandomize=True,
        suppress_health_check=[HealthCheck.too_slow],
    )
    settings.load_profile("dlild")


def examples(number: int) -> settings:
    """Try a property with so many examples in place of `ALL`, and fewer where few are tried."""
    return settings(max_examples=max(3, number * COUNT // ALL))
