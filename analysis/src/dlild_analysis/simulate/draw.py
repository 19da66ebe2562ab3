"""Cohorts drawn from the generative model, their true values, and the study that describes them."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from dlild_analysis.errors import UsageError
from dlild_analysis.simulate.model import HORIZON, NOT_USED, Parameters, Targets, calibrate
from dlild_analysis.stats.arrays import FloatArray

MODELS = ("paper",)
VISIT_MONTHS = (0.0, 3.0, 6.0, 9.0, 12.0, 15.0, 18.0, 21.0, 24.0)

STUDY_TOML = """\
# Describes a cohort drawn by `dlild-analysis simulate --like paper`.
schema_version = 1

[study]
title = "Simulated ILD cohort"
design = "Simulation; no patient was studied"

[table]
id = "id"
time_unit = "months"
time_origin = "the HRCT"

[score]
column = "dl_ild_percent"

[visual]
column = "visual_score"

[lung_function]
fvc_percent = "fvc_percent"
dlco_percent = "dlco_percent"

[covariates]
age = { column = "age", unit = "years" }
sex = { column = "sex", type = "category", reference = "F" }

[outcome]
rule = "recorded"
time = "time_months"
event = "event"

[analysis]
seed = 20260101
horizons_months = [12, 24]
"""

VISITS_TOML = """
[visits]
file = "{file}"
id = "id"
time = "months"
fvc_percent = "fvc_percent"
dlco_percent = "dlco_percent"
symptoms = "symptoms_worse"
"""


def parameters_like(name: str) -> Parameters:
    """Calibrate the generative model to a publication.

    Raises
    ------
    UsageError
        No such model.
    """
    if name not in MODELS:
        raise UsageError(f"there is no model {name!r} to simulate; there is: {', '.join(MODELS)}")
    return calibrate()


def draw_cohort(
    parameters: Parameters,
    n: int,
    rng: np.random.Generator,
    *,
    dropout_24: float = 0.0,
    death_24: float = 0.0,
    rounded: bool = True,
) -> pd.DataFrame:
    """Draw a cohort.

    Parameters
    ----------
    parameters : Parameters
        Of the generative model.
    n : int
        Patients.
    rng : Generator
        Source of chance.
    dropout_24, death_24 : float
        Share lost, and share dead of other causes, within 24 months; both independent of all else,
        at constant hazards. The publication reports neither.
    rounded : bool
        Round as a clinic writes: one decimal for lung function, two for the rest.

    Returns
    -------
    DataFrame
        `id`, `dl_ild_percent`, `visual_score`, `fvc_percent`, `dlco_percent`, `age`, `sex`,
        `time_months`, `event` (0 censored at 24 months or lost, 1 progression, 2 death).
    """
    if n < 1:
        raise UsageError(f"n is {n}; a cohort needs a patient at least")
    z = rng.standard_normal(n)
    residual = _residuals(parameters, n, rng)
    latent = {
        name: r * z + math.sqrt(1 - r**2) * residual[:, column]
        for column, (name, r) in enumerate(
            (
                ("fvc", parameters.r_fvc),
                ("dlco", parameters.r_dlco),
                ("visual", parameters.r_visual),
            )
        )
    }
    time, event = _outcome(parameters, z, rng, dropout_24, death_24)
    frame = pd.DataFrame(
        {
            "id": [f"S{index + 1:0{len(str(n))}d}" for index in range(n)],
            "dl_ild_percent": np.clip(parameters.score_mean + parameters.score_sd * z, 0.0, 100.0),
            "visual_score": np.maximum(
                parameters.visual_mean + parameters.visual_sd * latent["visual"], 0.0
            ),
            "fvc_percent": np.clip(
                parameters.fvc_mean + parameters.fvc_sd * latent["fvc"], 15.0, 160.0
            ),
            "dlco_percent": np.clip(
                parameters.dlco_mean + parameters.dlco_sd * latent["dlco"], 8.0, 150.0
            ),
            "age": np.clip(
                parameters.age_mean + parameters.age_sd * rng.standard_normal(n), 18.0, 95.0
            ),
            "sex": np.where(rng.random(n) < parameters.share_male, "M", "F"),
            "time_months": time,
            "event": event,
        }
    )
    if not rounded:
        return frame
    digits = {
        "dl_ild_percent": 2,
        "visual_score": 2,
        "fvc_percent": 1,
        "dlco_percent": 1,
        "age": 0,
        "time_months": 2,
    }
    frame = frame.round(digits)
    frame["age"] = frame["age"].astype(int)
    return frame


def _residuals(parameters: Parameters, n: int, rng: np.random.Generator) -> FloatArray:
    """Draw the residuals of FVC, DLCO and visual score, correlated as the totals ask."""

    def partial(total: float, a: float, b: float) -> float:
        return (total - a * b) / math.sqrt((1 - a**2) * (1 - b**2))

    fvc_visual = partial(parameters.r_visual_fvc, parameters.r_fvc, parameters.r_visual)
    dlco_visual = partial(parameters.r_visual_dlco, parameters.r_dlco, parameters.r_visual)
    matrix = np.array(
        [[1.0, 0.3, fvc_visual], [0.3, 1.0, dlco_visual], [fvc_visual, dlco_visual, 1.0]]
    )
    drawn: FloatArray = rng.standard_normal((n, 3)) @ np.linalg.cholesky(matrix).T
    return drawn


def _outcome(
    parameters: Parameters,
    z: FloatArray,
    rng: np.random.Generator,
    dropout_24: float,
    death_24: float,
) -> tuple[FloatArray, np.ndarray]:
    rate = parameters.hazard_24 * np.exp(parameters.beta * z)
    progression = HORIZON * (rng.exponential(size=z.size) / rate) ** (1 / parameters.shape)
    ends = [np.full(z.size, HORIZON)]
    for share in (dropout_24, death_24):
        hazard = -math.log1p(-share) / HORIZON
        ends.append(
            rng.exponential(size=z.size) / hazard if hazard > 0 else np.full(z.size, np.inf)
        )
    censored = np.minimum(ends[0], ends[1])
    time = np.minimum(np.minimum(progression, censored), ends[2])
    event = np.where(
        progression <= np.minimum(censored, ends[2]), 1, np.where(ends[2] < censored, 2, 0)
    )
    return np.maximum(time, 0.01), event


def draw_visits(cohort: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """Draw serial visits that lead up to each patient's recorded outcome.

    FVC falls in a straight line that reaches -10 % of its baseline at the month of progression
    (patients without progression: at three times their follow-up), DLCO likewise to -15 % half as
    fast again; every measurement has an error of 2 % (FVC) or 4 % (DLCO) of itself. Symptoms are
    worse from the first visit after progression in four of five patients. Visits every three
    months until the follow-up ends, the last one at the recorded time.
    """
    rows = []
    for patient in cohort.itertuples():
        target = patient.time_months if patient.event == 1 else 3.0 * patient.time_months
        telling = rng.random() < 0.8
        months = [month for month in VISIT_MONTHS if month < patient.time_months] + [
            patient.time_months
        ]
        for month in months:
            share = month / target
            fvc = (
                patient.fvc_percent
                * (1 - 0.105 * share)
                * (1 + 0.02 * rng.standard_normal() * (month > 0))
            )
            dlco = (
                patient.dlco_percent
                * (1 - 0.10 * share)
                * (1 + 0.04 * rng.standard_normal() * (month > 0))
            )
            worse = int(telling and patient.event == 1 and month >= 0.6 * patient.time_months)
            rows.append((patient.id, round(month, 2), round(fvc, 1), round(dlco, 1), worse))
    return pd.DataFrame(
        rows, columns=["id", "months", "fvc_percent", "dlco_percent", "symptoms_worse"]
    )


def truths(parameters: Parameters) -> dict[str, float]:
    """Give the values that estimators aim at in cohorts of this model."""
    return {
        "r_score_fvc": parameters.r_fvc,
        "r_score_dlco": parameters.r_dlco,
        "r_visual_fvc": parameters.r_visual_fvc,
        "r_visual_dlco": parameters.r_visual_dlco,
        "r_score_visual": parameters.r_visual,
        "auc_score_24": parameters.auc(),
        "auc_visual_24": parameters.auc(correlation=parameters.r_visual),
        "log_hazard_ratio_per_point": parameters.beta / parameters.score_sd,
        "log_odds_ratio_per_point": parameters.log_odds_per_sd() / parameters.score_sd,
        "survival_12": parameters.survival(12.0),
        "survival_24": parameters.survival(24.0),
    }


def statement() -> dict[str, object]:
    """State what the model was calibrated to, and which printed figures were left out and why."""
    return {"targets": vars(Targets()), "not_used": list(NOT_USED), "parameters": vars(calibrate())}
