"""Discrimination over time, and what the score adds to what was known."""
