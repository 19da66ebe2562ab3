"""Network and training."""
