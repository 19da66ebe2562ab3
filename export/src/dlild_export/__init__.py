"""Phantoms, training, evaluation and export of the DL-ILD network."""
