"""Intervals in 500 simulated cohorts: they hold the truth in 93 to 97 % of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd
import pytest

from dlild_analysis import calibrate, draw_cohort, parse_study
from dlild_analysis.cohort import Cohort
from dlild_analysis.progression import assess
from dlild_analysis.simulate.model import Parameters
from dlild_analysis.stats import longitudinal
from dlild_analysis.stats.results import Estimate
from dlild_analysis.steps.attempts import NotDone
from dlild_analysis.steps.data import Data
from dlild_analysis.steps.external_validation import validate_model
from dlild_analysis.steps.longitudinal.landmarks import landmarks

COHORTS = 500
STUDY = parse_study(
    {
        "table": {"id": "id"},
        "score": {"column": "dl_ild_percent"},
        "outcome": {"time": "time_months", "event": "event"},
    }
)


def cohort_of(parameters: Parameters, n: int, seed: int) -> Cohort:
    frame = draw_cohort(
        parameters, n, np.random.default_rng([20, seed]), dropout_24=0.2, rounded=False
    )
    patients = pd.DataFrame(
        {
            "row": np.arange(n),
            "id": frame["id"],
            "score": frame["dl_ild_percent"],
            "time": frame["time_months"],
            "status": frame["event"].astype(float),
        }
    )
    return Cohort(patients, pd.DataFrame({"patient": [], "time": []}), STUDY, (), "simulated")


def model_of(parameters: Parameters) -> dict:
    return {
        "inputs": [
            {
                "name": "score",
                "label": "DL-ILD",
                "kind": "number",
                "low": 0.0,
                "high": 100.0,
            }
        ],
        "terms": [
            {
                "name": "score",
                "label": "DL-ILD",
                "level": None,
                "beta": parameters.beta / parameters.score_sd,
                "centre": parameters.score_mean,
            }
        ],
        "baseline": [
            {
                "horizon_months": h,
                "cumulative_hazard": parameters.hazard_24 * (h / 24) ** parameters.shape,
            }
            for h in (12.0, 24.0)
        ],
    }


def brier_of(parameters: Parameters, months: float) -> float:
    """Brier score of the true risks, in endless data."""
    z = np.linspace(-8, 8, 4001)
    mass = np.exp(-(z**2) / 2)
    alive = parameters.survival_given(z, months)
    return float((mass * alive * (1 - alive)).sum() / mass.sum())


def check(name: str, truth: float, found: list[Estimate]) -> None:
    inside = np.mean([item.ci_low <= truth <= item.ci_high for item in found])
    mean = np.mean([item.estimate for item in found])
    print(f"{name}: {100 * inside:.1f} % of {len(found)} cover {truth:.4g}; mean {mean:.4g}")
    assert len(found) >= 0.99 * COHORTS
    assert 0.93 <= inside <= 0.97, name


def simulated(read: Callable[[int], dict[str, Estimate]]) -> Iterator[tuple[str, list[Estimate]]]:
    every = [read(seed) for seed in range(COHORTS)]
    for name in every[0]:
        yield name, [one[name] for one in every if not isinstance(one[name], NotDone)]


def fvc_of(seed: int) -> dict[str, Estimate]:
    """Draw FVC of 112 patients at up to six visits; a low FVC makes a patient likelier to leave."""
    rng = np.random.default_rng([21, seed])
    n = 112
    score = rng.normal(32, 12, n)
    own = rng.multivariate_normal([0, 0], [[450**2, 0.2 * 450 * 150], [0.2 * 450 * 150, 150**2]], n)
    rows = []
    for patient in range(n):
        for visit in range(6):
            years = visit * 0.4 + (rng.uniform(-0.05, 0.05) if visit else 0.0)
            mean = 2800 - 9 * score[patient] + own[patient, 0]
            slope = -150 - 4 * (score[patient] - 32) + own[patient, 1]
            value = mean + slope * years + rng.normal(0, 110)
            rows.append((patient, years, value, (score[patient] - 32) / 10))
            if rng.random() < 0.05 + 0.15 * (value < 2000):
                break
    patient, years, value, tens = (np.array(column) for column in zip(*rows, strict=True))
    fit = longitudinal.fit_mixed_slopes(
        np.column_stack([tens, years, tens * years]),
        value,
        years,
        patient,
        names=["tens", "years", "tens x years"],
    )
    return {
        "slope, mL a year": fit.effect("years"),
        "slope per 10 points": fit.effect("tens x years"),
    }


@pytest.mark.slow
def test_slopes_of_fvc():
    truths = {"slope, mL a year": -150.0, "slope per 10 points": -40.0}
    for name, found in simulated(fvc_of):
        check(name, truths[name], found)


@pytest.mark.slow
def test_landmark_hazard_ratios():
    parameters = calibrate()
    truth = float(np.exp(10 * parameters.beta / parameters.score_sd))

    def read(seed: int) -> dict[str, Estimate]:
        cohort = cohort_of(parameters, 200, seed)
        found = landmarks(Data(cohort, assess(cohort)), NotDone("none")).landmarks
        return {f"HR from {item.months:g} months on": item.score for item in found}

    for name, found in simulated(read):
        check(name, truth, found)


@pytest.mark.slow
def test_validation_measures():
    parameters = calibrate()
    model = model_of(parameters)
    truths = {"slope": 1.0}
    for months in (12.0, 24.0):
        truths[f"observed / expected, {months:g}"] = 1.0
        truths[f"AUC, {months:g}"] = parameters.auc(months)
        truths[f"Brier, {months:g}"] = brier_of(parameters, months)

    def read(seed: int) -> dict[str, Estimate]:
        found, _ = validate_model(model, cohort_of(parameters, 400, seed))
        measures = {"slope": found.slope}
        for item in found.horizons:
            measures[f"observed / expected, {item.months:g}"] = item.observed_over_expected
            measures[f"AUC, {item.months:g}"] = item.auc
            measures[f"Brier, {item.months:g}"] = item.calibration.brier
        return measures

    for name, found in simulated(read):
        check(name, truths[name], found)
