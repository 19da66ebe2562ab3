"""How the weights of a run were made, as the run itself tells."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from dlild_export.release.model_card import RunRecord
from dlild_export.serving.onnx import checkpoint_of, class_biases

SETTINGS = "config.toml"


def read_run(run: Path) -> RunRecord:
    """Read settings, seed and number of cases of a run.

    Parameters
    ----------
    run : pathlib.Path
        Folder that `train` wrote, or its checkpoint.

    Returns
    -------
    RunRecord

    Raises
    ------
    FileNotFoundError
        No checkpoint here.
    """
    checkpoint = checkpoint_of(run)
    stored = torch.load(checkpoint, map_location="cpu", weights_only=True)
    written = checkpoint.with_name(SETTINGS)
    settings = (
        written.read_text("utf-8") if written.is_file() else json.dumps(stored["config"], indent=2)
    )
    return RunRecord(
        settings=settings,
        cases=len(stored["cases"]) if "cases" in stored else None,
        seed=int(stored["config"]["seed"]),
        class_biases=class_biases(checkpoint),
    )
