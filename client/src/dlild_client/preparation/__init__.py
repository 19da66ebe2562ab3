"""From a volume to the windows of its lungs: the grid, the lungs, what stands out, the windows.

The training prepares its cases by the same code, so that it and serving cannot drift apart.
"""
