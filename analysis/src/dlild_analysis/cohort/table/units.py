"""Units that a study may use, and the factors that bring them to the units of this package.

Times become months (a month is 365.25 / 12 days), volumes of air become litres, shares become
percent.
"""

from __future__ import annotations

DAYS_PER_MONTH = 365.25 / 12.0

TIME_TO_MONTHS = {
    "days": 1.0 / DAYS_PER_MONTH,
    "weeks": 7.0 / DAYS_PER_MONTH,
    "months": 1.0,
    "years": 12.0,
}
TIME_SLACK = 1e-6
"""Months: what the conversion from days, weeks or years may add to a time."""

VOLUME_TO_LITRES = {"L": 1.0, "mL": 0.001}
SHARE_TO_PERCENT = {"percent": 1.0, "fraction": 100.0}
