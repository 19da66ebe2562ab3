"""Agreement of repeated readings."""
