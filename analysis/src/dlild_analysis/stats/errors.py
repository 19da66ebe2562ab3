"""The one error that statistics raise."""

from __future__ import annotations


class StatisticsError(ValueError):
    """Data or arguments from which the asked statistic cannot be computed.

    The message names the quantity, the offending value and the way out. Everything in
    :mod:`dlild_analysis.stats` raises this and no other exception for bad input; what can still
    be computed, but only with a reservation, is returned with ``warnings`` instead.
    """
