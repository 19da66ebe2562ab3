"""The command `dlild-analysis`."""

from __future__ import annotations

from dlild_analysis.cli.commands import app, main

__all__ = ["app", "main"]
