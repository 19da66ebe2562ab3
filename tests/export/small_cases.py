"""Cases small enough to train on in a test: every class a block of its own HU."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from dlild_export.training.config import TrainConfig, config_from

HU = (80, -850, -600, -500, -700, 0)
"""Of every class; air round the body apart."""

Arrays = dict[str, np.ndarray]


def case_arrays(seed: int) -> Arrays:
    """Return a case of all classes, of which some voxels are not known."""
    rng = np.random.default_rng(seed)
    labels = np.zeros((40, 36, 44), np.uint8)
    labels[6:34, 6:30, 6:38] = 1
    for label in range(2, 6):
        z = 8 + 5 * (label - 2)
        labels[z : z + 4, 8:16, 8:30] = label
    hu = np.array(HU)[labels] + rng.integers(-20, 21, labels.shape)
    hu[:, :2] = -1000
    labels[:3] = 255
    return {"hu": hu.astype(np.int16), "labels": labels}


def write_case(path: Path, arrays: Arrays, group: str | None = None) -> Path:
    """Write a case as `prepare` does."""
    info = {"name": path.stem, "group": group or path.stem}
    np.savez(path, info=np.array(json.dumps(info)), **arrays)  # type: ignore[arg-type]
    return path


def write_cases(folder: Path, count: int = 6) -> Path:
    """Write cases, two of every patient."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed in range(count):
        write_case(folder / f"case-{seed}.npz", case_arrays(seed), f"patient-{seed // 2}")
    return folder


def small_config(**settings: object) -> TrainConfig:
    """Return a training of moments; settings as in TOML."""
    defaults = {
        "network": {"channels": [8, 16]},
        "stages": [{"steps": 10, "patch": 16}],
        "warm_up_steps": 2,
        "checkpoint_every": 4,
        "validate_every": 0,
        "held_out": 0.0,
        "log_every": 1,
    }
    return config_from(defaults | settings)
