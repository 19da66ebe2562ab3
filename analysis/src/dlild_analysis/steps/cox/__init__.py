"""Cox regression of the time to progression."""
