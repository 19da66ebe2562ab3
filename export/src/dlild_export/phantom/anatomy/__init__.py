"""Anatomy of a phantom: body, lungs, trees and what is easily taken for a lesion."""
