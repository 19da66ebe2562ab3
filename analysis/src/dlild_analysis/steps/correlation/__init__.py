"""Correlation of the scores with lung function."""
