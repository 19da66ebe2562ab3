"""Small simulated cohorts, shared by the tests of the analysis package."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dlild_analysis import Cohort, calibrate, draw_cohort, draw_visits, load_cohort, load_study
from dlild_analysis.simulate import STUDY_TOML, VISITS_TOML

QUICK = STUDY_TOML + "bootstraps = 20\nrepeats = 1\n"
Edit = Callable[[pd.DataFrame], pd.DataFrame]


@pytest.fixture(scope="session")
def drawn() -> pd.DataFrame:
    """Draw one cohort with deaths and losses."""
    return draw_cohort(calibrate(), 90, np.random.default_rng(7), dropout_24=0.1, death_24=0.08)


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
