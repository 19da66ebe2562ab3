"""The report: results.json, tables, figures, one HTML file, and checklists."""

from __future__ import annotations

from dlild_analysis.report.write import write_report

__all__ = ["write_report"]
