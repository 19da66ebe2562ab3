"""Preparation: resampling to the model grid, lung box, inspection of the chest, windows.

The training prepares its cases with the same code, so that it and serving cannot diverge.
"""
