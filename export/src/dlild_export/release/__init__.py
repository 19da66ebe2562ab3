"""Versions of the weights in a model repository."""
