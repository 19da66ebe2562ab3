"""A saved progression model: read from its JSON, applied to a table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd

from dlild_analysis.cohort.client_results import DIGEST
from dlild_analysis.cohort.table.table_file import read_table
from dlild_analysis.errors import InputRejectedError, ModelFileError
from dlild_analysis.prediction import risk


def read_model(path: Path) -> dict[str, Any]:
    """Read a saved progression model.

    Raises
    ------
    ModelFileError
        Not such a file, or of a version that this package does not read.
    """
    try:
        model = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelFileError(f"{path.name}: no such file") from None
    except (json.JSONDecodeError, UnicodeDecodeError, OSError) as error:
        raise ModelFileError(f"{path.name}: not a saved model: {error}") from None
    if not isinstance(model, dict) or model.get("kind") != risk.KIND:
        raise ModelFileError(
            f"{path.name}: not a saved progression model (kind {risk.KIND!r} expected)"
        )
    if model.get("schema_version") != risk.SCHEMA_VERSION:
        raise ModelFileError(
            f"{path.name}: schema_version {model.get('schema_version')}; this package reads "
            f"{risk.SCHEMA_VERSION}"
        )
    lacking = [
        key for key in ("inputs", "terms", "covariance", "baseline", "quantile") if key not in model
    ]
    if lacking:
        raise ModelFileError(f"{path.name}: the model lacks {lacking[0]!r}")
    return model


def predict_table(model: dict[str, Any], path: Path, id_column: str = "id") -> pd.DataFrame:
    """Predict every patient of a table.

    Parameters
    ----------
    model : dict
        From `read_model` or `build_model`.
    path : Path
        CSV, workbook or Parquet with one column for each input, called by the input's name or by
        the column of the study that the model comes from, in that study's unit.
    id_column : str
        Column of the ids; rows are numbered where there is none.

    Returns
    -------
    DataFrame
        `id`, `risk_<h>_months`, `risk_<h>_low`, `risk_<h>_high` of each horizon, and `refused`:
        why there is no risk, empty where there is one.

    Raises
    ------
    InputRejectedError
        The table lacks an input.
    """
    table = read_table(path).frame
    columns = {}
    for item in model["inputs"]:
        found = next((name for name in (item["column"], item["name"]) if name in table), None)
        if found is None:
            there = ", ".join(str(name) for name in table.columns if name != "row")
            raise InputRejectedError(
                f"{path.name}: no column {item['column']!r} for the model's input "
                f"{item['name']!r}; it has: {there}"
            )
        columns[item["name"]] = found
    rows = []
    for record in table.to_dict("records"):
        identifier = record.get(id_column, f"row {record['row']}")
        rows.append({"id": identifier, **_one(model, columns, record)})
        other = _other_weights(model, record)
        if other:
            rows[-1] = {**dict.fromkeys(rows[-1]), "id": identifier, "refused": other}
    return pd.DataFrame(rows)


def _other_weights(model: dict[str, Any], record: dict[str, Any]) -> str:
    """State that a patient's scan was scored by other weights than those of the fit."""
    digest, fitted = str(record.get(DIGEST) or "").strip(), model.get("scan_model")
    if not digest or not fitted or digest in fitted:
        return ""
    return f"scored with weights {digest}; the model was fitted on scores of {fitted}"


def _one(model: dict[str, Any], columns: dict[str, str], record: dict[str, Any]) -> dict[str, Any]:
    patient: dict[str, Any] = {}
    for item in model["inputs"]:
        value = record[columns[item["name"]]]
        text = "" if value is None else str(value).strip()
        if (
            item["kind"] == "number"
            and item["factor"] != 1.0
            and columns[item["name"]] == item["column"]
        ):
            try:
                patient[item["name"]] = float(text) * item["factor"]
            except ValueError:
                patient[item["name"]] = text
        else:
            patient[item["name"]] = text
    faults = risk.faults_of(model, patient)
    found = [] if faults else risk.risks(model, patient)
    row: dict[str, Any] = {}
    for index, base in enumerate(model["baseline"]):
        stem = f"risk_{base['horizon_months']:g}"
        values = found[index] if found else {"risk": None, "low": None, "high": None}
        row |= {
            f"{stem}_months": values["risk"],
            f"{stem}_low": values["low"],
            f"{stem}_high": values["high"],
        }
    return {**row, "refused": "; ".join(faults)}
