"""GAP points, where a cohort has what they need."""

from __future__ import annotations

import numpy as np

from dlild_analysis.cohort.cohort import Cohort
from dlild_analysis.stats.arrays import FloatArray

MALE = frozenset({
    "m", "male", "man", "men", "男", "男性", "männlich", "maennlich", "mann", "homme", "masculin",
    "h", "hombre", "varón", "varon", "masculino",
})  # fmt: skip
FEMALE = frozenset({
    "f", "female", "woman", "women", "女", "女性", "w", "weiblich", "frau", "femme", "féminin",
    "mujer", "femenino",
})  # fmt: skip


def gap_points(cohort: Cohort) -> FloatArray | None:
    """Work out the GAP index points (0 ... 7) from sex, age, FVC % and DLCO %.

    Returns
    -------
    array of shape (n,) or None
        NaN where one of the four is missing; None where the cohort lacks a whole column, has no
        covariates called `age` and `sex`, or names the sexes in a way that is not known here.
        "Could not perform DLCO" (3 points) cannot be distinguished from a missing value and stays
        missing.

    References
    ----------
    .. [1] Ley B, Ryerson CJ, Vittinghoff E, et al. A multidimensional index and staging system for
       idiopathic pulmonary fibrosis. Ann Intern Med 2012;156:684-691.
    """
    if not cohort.has("age", "sex", "fvc_percent", "dlco_percent"):
        return None
    words = cohort.patients["sex"].map(lambda value: str(value).strip().lower())
    male, female = words.isin(MALE).to_numpy(), words.isin(FEMALE).to_numpy()
    strange = (~(male | female) & cohort.patients["sex"].notna().to_numpy()).any()
    if not (male.any() and female.any()) and (strange or not (male | female).any()):
        return None
    try:
        age = cohort.patients["age"].to_numpy(dtype=np.float64)
    except (TypeError, ValueError):
        return None
    fvc = cohort.patients["fvc_percent"].to_numpy(dtype=np.float64)
    dlco = cohort.patients["dlco_percent"].to_numpy(dtype=np.float64)
    points = male.astype(np.float64)
    points += np.where(age > 65, 2.0, np.where(age > 60, 1.0, 0.0))
    points += np.where(fvc < 50, 2.0, np.where(fvc <= 75, 1.0, 0.0))
    points += np.where(dlco <= 35, 2.0, np.where(dlco <= 55, 1.0, 0.0))
    known = (male | female) & np.isfinite(age) & np.isfinite(fvc) & np.isfinite(dlco)
    return np.where(known, points, np.nan)
