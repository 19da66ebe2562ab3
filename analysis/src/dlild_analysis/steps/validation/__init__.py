"""Validation: cross-validation, optimism, calibration, decision curves."""
