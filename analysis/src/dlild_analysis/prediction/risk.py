"""Evaluation of a saved progression model: NumPy and plain dicts, nothing else.

This module stands alone, so that a server can carry a copy of it beside a model's JSON::

    H(t | x) = H0(t) exp(b'(x - c))                   risk = 1 - exp(-H)
    var log H = v0(t) / H0(t)^2 + d' V d              d = g(t) / H0(t) + x - c

with H0 the cumulative baseline hazard of a patient at the covariate means c, v0 its variance with
b held fixed, g its derivative by b, and V the covariance of b (Tsiatis, Ann Stat 1981;9:93-108).
The interval is formed on the scale of log H and turned into a risk.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

SCHEMA_VERSION = 1
KIND = "cox-progression-risk"


def faults_of(
    model: Mapping[str, Any],
    patient: Mapping[str, Any],
    shown: Mapping[str, str] | None = None,
) -> list[str]:
    """State why a patient cannot be predicted; empty where he can.

    Parameters
    ----------
    model : mapping
        A saved model, as parsed from its JSON.
    patient : mapping
        Value of every input by its name: numbers in the unit of the model, categories as text.
    shown : mapping, optional
        What to call an input in the message, by its name, where that is not the name itself.

    Returns
    -------
    list of str
        Each names the input, its value and the range of the data that the model was fitted on.
    """
    faults = []
    for item in model["inputs"]:
        value = patient.get(item["name"])
        name = (shown or {}).get(item["name"], item["name"])
        if item["kind"] == "category":
            if value is None or str(value) not in item["levels"]:
                faults.append(f"{name} is {value!r}; the model knows {', '.join(item['levels'])}")
            continue
        number = _number(value)
        if not np.isfinite(number):
            faults.append(f"{name} is {value!r}; the model needs a number")
        elif not item["low"] <= number <= item["high"]:
            faults.append(
                f"{name} is {number:.10g}; the model was fitted on {item['low']:.10g} to "
                f"{item['high']:.10g}"
            )
    return faults


def risks(model: Mapping[str, Any], patient: Mapping[str, Any]) -> list[dict[str, float]]:
    """Predict the risk of progression by each horizon of the model.

    Parameters
    ----------
    model, patient : mapping
        As `faults_of`.

    Returns
    -------
    list of dict
        `horizon_months`, `risk`, `low`, `high`, each risk in 0 ... 1.

    Raises
    ------
    ValueError
        The patient lies outside the data that the model was fitted on.
    """
    faults = faults_of(model, patient)
    if faults:
        raise ValueError("; ".join(faults))
    x = np.array([_term(term, patient) for term in model["terms"]], dtype=np.float64)
    beta = np.array([term["beta"] for term in model["terms"]], dtype=np.float64)
    offset = x - np.array([term["centre"] for term in model["terms"]], dtype=np.float64)
    covariance = np.array(model["covariance"], dtype=np.float64)
    found = []
    for base in model["baseline"]:
        hazard = float(base["cumulative_hazard"])
        direction = np.array(base["gradient"], dtype=np.float64) / hazard + offset
        variance = float(base["variance"]) / hazard**2 + float(direction @ covariance @ direction)
        log_hazard = np.log(hazard) + float(beta @ offset)
        reach = float(model["quantile"]) * np.sqrt(max(variance, 0.0))
        risk, low, high = (
            float(-np.expm1(-np.exp(log_hazard + step))) for step in (0.0, -reach, reach)
        )
        found.append(
            {
                "horizon_months": float(base["horizon_months"]),
                "risk": risk,
                "low": low,
                "high": high,
            }
        )
    return found


def _term(term: Mapping[str, Any], patient: Mapping[str, Any]) -> float:
    value = patient[term["name"]]
    if term["level"] is None:
        return _number(value)
    return float(str(value) == term["level"])


def _number(value: Any) -> float:
    if value is None or isinstance(value, bool):
        return float("nan")
    try:
        return float(value)
    except (TypeError, ValueError):
        return float("nan")
