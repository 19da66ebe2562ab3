"""Agreement of readers and repeats, and what change is beyond them."""
