"""Small simulated cohorts and goldens, shared by the tests of the analysis package."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from dlild_analysis import (
    Cohort,
    analyse,
    calibrate,
    draw_cohort,
    draw_visits,
    load_cohort,
    load_study,
)
from dlild_analysis.simulate import STUDY_TOML, VISITS_TOML
from dlild_analysis.steps.step import Analysis

QUICK = STUDY_TOML + "bootstraps = 20\nrepeats = 1\n"
GOLDEN = Path(__file__).parents[1] / "golden"
Edit = Callable[[pd.DataFrame], pd.DataFrame]


@pytest.fixture(scope="session")
def drawn() -> pd.DataFrame:
    """Draw one cohort with deaths and losses."""
    return draw_cohort(calibrate(), 90, np.random.default_rng(7), dropout_24=0.1, death_24=0.08)


@pytest.fixture(scope="session")
def analysed(drawn: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Analysis:
    """Analyse that cohort, for all tests that change neither it nor its study."""
    folder = tmp_path_factory.mktemp("analysed")
    drawn.to_csv(folder / "cohort.csv", index=False)
    (folder / "study.toml").write_text(QUICK, encoding="utf-8")
    return analyse(load_cohort(folder / "cohort.csv", load_study(folder / "study.toml")))


@pytest.fixture
def files(tmp_path: Path, drawn: pd.DataFrame) -> Callable[..., tuple[Path, Path]]:
    """Write a cohort and its study, edited as a test asks."""

    def write(
        edit: Edit | None = None, *, toml: str = QUICK, visits: bool = False, extra: str = ""
    ) -> tuple[Path, Path]:
        frame = drawn.copy() if edit is None else edit(drawn.copy())
        table, study = tmp_path / "cohort.csv", tmp_path / "study.toml"
        frame.to_csv(table, index=False)
        if visits:
            draw_visits(drawn, np.random.default_rng(8)).to_csv(
                tmp_path / "visits.csv", index=False
            )
            extra += VISITS_TOML.format(file="visits.csv")
        study.write_text(toml + extra, encoding="utf-8")
        return table, study

    return write


@pytest.fixture
def load(files: Callable[..., tuple[Path, Path]]) -> Callable[..., Cohort]:
    """Write and load a cohort."""

    def read(edit: Edit | None = None, **options: object) -> Cohort:
        table, study = files(edit, **options)
        return load_cohort(table, load_study(study))

    return read


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
