"""The progression model in a Triton model repository, beside the models that score scans."""

from __future__ import annotations

from dlild_analysis.serving.repository import (
    MODEL,
    SCORE_TENSOR,
    add_to_repository,
    repository_files,
    tensor_names,
)

__all__ = ["MODEL", "SCORE_TENSOR", "add_to_repository", "repository_files", "tensor_names"]
