"""From a checkpoint to what Triton serves, and the parity of its engines."""
