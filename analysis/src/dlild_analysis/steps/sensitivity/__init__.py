"""Sensitivity analyses: every cut-off, missing values imputed, other progression rules."""
