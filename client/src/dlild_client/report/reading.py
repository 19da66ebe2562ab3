"""The reading sheet: a reader's own estimate of each class in each zone (docs/reading-sheet.md)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dlild_client.contract.score import ZONES
from dlild_client.report.languages import Language, words

READING_SCHEMA_VERSION = 1
STEP_PERCENT = 5


def reading_columns(classes: Sequence[str]) -> list[str]:
    """Columns of a reading, for the lesion classes: one row is one reading of one scan."""
    return [
        "id",
        "reader",
        "date",
        "blind",
        "series_digest",
        *(f"{zone}_{name}" for zone in ZONES for name in classes),
        "extent_percent",
    ]


def sheet_data(series_digest: str, language: Language, classes: Sequence[str]) -> dict[str, Any]:
    """Plain values that the script of the sheet needs."""
    texts = {
        name: words(f"reading.{name}", language, **({"field": "{field}"} if field else {}))
        for name, field in (
            ("no_reader", False),
            ("no_id", False),
            ("not_a_step", True),
            ("over_100", True),
        )
    }
    return {
        "schema_version": READING_SCHEMA_VERSION,
        "step": STEP_PERCENT,
        "series_digest": series_digest,
        "columns": reading_columns(classes),
        "texts": texts,
    }
