"""The progression model: fitted, saved as JSON, read again, applied to a table."""

from __future__ import annotations

from dlild_analysis.prediction.model import build_model, predict_table, read_model

__all__ = ["build_model", "predict_table", "read_model"]
