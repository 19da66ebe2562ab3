"""Statistics as plain functions on arrays that return frozen results.

A package for each topic of the field; its ``__init__`` names what is public. Every result has
``to_dict()``, its method in words, and ``warnings``. Input that cannot be used raises
:class:`~dlild_analysis.stats.errors.StatisticsError`.
"""
