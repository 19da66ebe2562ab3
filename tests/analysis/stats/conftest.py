"""Goldens and their inputs, read from tests/golden."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

GOLDEN = Path(__file__).parents[2] / "golden"


@pytest.fixture(scope="session")
def golden() -> Callable[[str], dict[str, Any]]:
    def read(topic: str) -> dict[str, Any]:
        numbers: dict[str, Any] = json.loads((GOLDEN / topic / "expected.json").read_text())
        assert numbers["versions"]["R"].startswith("R version")
        return numbers

    return read


@pytest.fixture(scope="session")
def table() -> Callable[[str], pd.DataFrame]:
    def read(name: str) -> pd.DataFrame:
        return pd.read_csv(GOLDEN / "data" / f"{name}.csv")

    return read


@pytest.fixture(scope="session")
def registry(table: Callable[[str], pd.DataFrame]) -> pd.DataFrame:
    frame = table("registry")
    return frame.assign(event=(frame["cause"] > 0).astype(int))
