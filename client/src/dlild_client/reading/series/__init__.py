"""Which slices make a series, whether it can be scored, and which of several is scored."""
