"""Scores straight from the client: `result.json` files, and what model they are of.

Scores of different weights are different measurements; they are never analysed together.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pandas as pd

from dlild_analysis.cohort.table.faults import FaultLog
from dlild_analysis.cohort.table.tables import words
from dlild_analysis.errors import InputRejectedError

READS_SCHEMA = (1,)
"""Versions of `result.json` that this package reads."""

MODEL = "results:model"
"""Column with the model of a score, beside the columns of `read_results`."""

DENSITY = (
    "mean_hu", "sd_hu", "skewness", "kurtosis",
    "high_attenuation_percent", "low_attenuation_percent", "mass_g",
)  # fmt: skip
"""Fields of a densitometry that are numbers; percentiles beside them."""

DIGEST = "weights_digest"
"""Column of the client's `results.csv` that names the weights."""

PRECISION = "results:precision"


def read_results(folder: Path, id_from: str, log: FaultLog) -> pd.DataFrame:
    """Read the client's result files under a folder.

    Parameters
    ----------
    folder : Path
        Holds `<id>/result.json` (id_from "folder") or `<id>.json` (id_from "file").

    Returns
    -------
    DataFrame
        One row a scan: `id`, `dl_ild_percent`, `lung_volume_ml`, `lesion_volume_ml`,
        `<class>_percent` of each class, densitometry of the lung where the result has it, under
        the names of the client's `results.csv` (`density_mean_hu` and so on), and the model of the
        score. A result with flags is used, and named as a warning.

    Raises
    ------
    InputRejectedError
        No result in the folder.
    CohortError
        A file is no result of the client, or of a version that this package does not read.
    """
    pattern = "*/result.json" if id_from == "folder" else "*.json"
    paths = sorted(folder.glob(pattern)) if folder.is_dir() else []
    if not paths:
        raise InputRejectedError(
            f"{folder.name}: no {pattern} in this folder; results.id_from is {id_from!r}"
        )
    rows = []
    for path in paths:
        identifier = path.parent.name if id_from == "folder" else path.stem
        rows.append({"id": identifier, **_one_result(path, identifier, log)})
    log.raise_if_any()
    return pd.DataFrame(rows)


def _one_result(path: Path, identifier: str, log: FaultLog) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        version = data["schema_version"]
        if version not in READS_SCHEMA:
            log.reject(
                None,
                "",
                identifier,
                path.name,
                f"has schema_version {version!r}; this package reads "
                f"{', '.join(map(str, READS_SCHEMA))}: install the dlild-analysis of the client's "
                "release",
            )
            return {}
        row = _numbers(data)
        row[MODEL], row[PRECISION] = _model(data)
        flags = [
            flag if isinstance(flag, str) else json.dumps(flag, sort_keys=True)
            for flag in data.get("flags", [])
        ]
    except (OSError, KeyError, TypeError, ValueError, AttributeError) as error:
        log.reject(None, "", identifier, path.name, f"is not a result of the client: {error!r}")
        return {}
    for text in flags:
        log.warn(
            None,
            "dl_ild_percent",
            identifier,
            text,
            "is a flag of this scan's result; look at the scan",
        )
    return row


def _numbers(data: dict[str, Any]) -> dict[str, Any]:
    row: dict[str, Any] = {
        key: float(data[key]) for key in ("dl_ild_percent", "lung_volume_ml", "lesion_volume_ml")
    }
    for name, part in sorted(dict(data.get("classes", {})).items()):
        row[f"{name}_percent"] = float(part["percent_of_lung"])
    row |= _density((data.get("densitometry") or {}).get("lung") or {})
    for key, value in row.items():
        if not math.isfinite(value):
            raise ValueError(f"{key} is {value}")
    return row


def _density(lung: dict[str, Any]) -> dict[str, float]:
    """Columns of a densitometry; without those of which it has no value."""
    values = {name: lung.get(name) for name in DENSITY}
    percentiles = dict(lung.get("percentiles_hu") or {})
    values |= {f"percentile_{q}_hu": value for q, value in percentiles.items()}
    return {f"density_{name}": float(v) for name, v in values.items() if v is not None}


def _model(data: dict[str, Any]) -> tuple[str, str]:
    """Name the model of a result, and the arithmetic that ran it; empty where it is not named."""
    model = data.get("model")
    if model is None:
        return "", ""
    digest = str(model["weights_digest"])
    return (
        f"{model['name']} version {model['version']}, weights {digest}",
        f"{model['engine']} {model['precision']}",
    )


def check_one_model(
    frame: pd.DataFrame, source: str, log: FaultLog, score: str | None = None
) -> str:
    """Raise unless all scores of a cohort are of one model.

    Parameters
    ----------
    frame : DataFrame
        The table, joined with the results where there are any.
    source : str
        Name of the table, for the message.
    score : str, optional
        Column of the score.

    Returns
    -------
    str
        Name, version and weights of the model; empty where nothing names it.

    Raises
    ------
    InputRejectedError
        Scores of different weights, or some whose weights are not known.
    """
    if MODEL in frame:
        scored = frame[frame[MODEL].notna()]
        found = _only(scored, MODEL, source)
        if len(scored) and not found:
            log.warn(None, "", "", "", "the results do not name the model that scored the scans")
        ways = sorted({str(value) for value in scored[PRECISION] if value})
        if len(ways) > 1:
            log.warn(
                None,
                "dl_ild_percent",
                "",
                ", ".join(ways),
                "ran the same weights: scores may differ in the second decimal",
            )
        return found
    if DIGEST in frame:
        scored = frame.assign(**{DIGEST: words(frame, DIGEST)})
        if score in frame:
            nameless = int((scored[DIGEST].isna() & words(frame, str(score)).notna()).sum())
            if 0 < nameless < len(frame):
                log.warn(
                    None, DIGEST, "", f"{nameless} scores", "do not say which weights made them"
                )
        return _only(scored[scored[DIGEST].notna()], DIGEST, source)
    return ""


def _only(scored: pd.DataFrame, column: str, source: str) -> str:
    models = scored.groupby(column, sort=True)["id"]
    if models.ngroups <= 1:
        return next(iter(models.groups), "")
    listed = "; ".join(
        f"{len(ids)} of {name or 'a model that is not named'} (such as {ids.iloc[0]})"
        for name, ids in models
    )
    raise InputRejectedError(
        f"{source}: scores of different models do not mix: {listed}; score all scans with one model"
    )
