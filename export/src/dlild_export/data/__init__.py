"""Datasets: read, check and prepare labelled scans."""
