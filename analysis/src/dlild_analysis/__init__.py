"""Statistics of DL-ILD scores."""
