"""One version: its code is that of all versions, in the folder above, where Triton finds it too."""

from serve_unet import TritonPythonModel

__all__ = ["TritonPythonModel"]
