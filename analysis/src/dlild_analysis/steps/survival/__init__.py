"""Survival: Kaplan-Meier, and the incidence with competing death."""
