"""Lesions of a phantom: where each class lies, and its texture."""
