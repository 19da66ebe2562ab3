"""Statistics as plain functions on arrays that return frozen results.

One module for one idea; every result has ``to_dict()``, its method in words, and ``warnings``.
Input that cannot be used raises :class:`~dlild_analysis.stats.errors.StatisticsError`.
"""
