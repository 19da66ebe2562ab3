"""The saved progression model: read again, applied to a table; `risk` needs NumPy only."""

from __future__ import annotations

from dlild_analysis.prediction.predict import predict_table, read_model

__all__ = ["predict_table", "read_model"]
