"""Logistic regression of the two-way outcome."""
