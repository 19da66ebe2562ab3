"""The model card: what a release says of itself, between markers in a page written by hand."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from dlild_export.release.evaluation_file import EvaluationFile, RecordedTarget
from dlild_export.serving.onnx import checkpoint_of, class_biases
from dlild_export.serving.parity import LIMIT_POINTS, Parity

BEGIN, END = "<!-- generated: {} -->", "<!-- end: {} -->"
PARTS = ("version", "training", "evaluation", "parity", "tensorrt")

EMPTY_CARD = """\
# Model card: ild_unet

**For research use only. Not a medical device.**

{version}

## Training

{training}

## Figures

{evaluation}

## Parity of the engines

{parity}

## TensorRT

{tensorrt}

## Limits

- Adults only.
""".format(**{part: f"{BEGIN.format(part)}\n{END.format(part)}" for part in PARTS})

NOT_ON_A_GPU = (
    "This version has not been run on a GPU: `dlild-export tensorrt` holds the plan that it builds "
    "against ONNX Runtime where it is installed, and keeps none that differs.\n"
)

SETTINGS = "config.toml"


class CardError(ValueError):
    """A model card without the markers for what a release says."""


@dataclass(frozen=True)
class RunRecord:
    """How the weights were made.

    Attributes
    ----------
    settings : str
        All settings of the training, as text.
    cases : int or None
        Scans trained on; None where the run does not record it.
    seed : int
        Of the training.
    class_biases : tuple of float
        Calibration: added to the logits of each class; empty where there is none.
    """

    settings: str
    cases: int | None
    seed: int
    class_biases: tuple[float, ...]


def fill(card: str, parts: Mapping[str, str]) -> str:
    """Put new text between the markers of a card.

    Parameters
    ----------
    card : str
        The page; what stands outside the markers stays.
    parts : mapping of str to str
        Text by the name of its part.

    Returns
    -------
    str

    Raises
    ------
    CardError
        The page lacks a pair of markers.
    """
    for name, text in parts.items():
        begin, end = BEGIN.format(name), END.format(name)
        found = re.findall(f"{re.escape(begin)}.*?{re.escape(end)}", card, flags=re.DOTALL)
        if len(found) != 1:
            raise CardError(f"the model card must hold one `{begin}` and, below it, `{end}`")
        card = card.replace(found[0], f"{begin}\n{text.strip()}\n{end}")
    return card


def version_part(version: int, digest: str, below_floor: str | None) -> str:
    """Name the version and its weights, and say where it was released below the floor."""
    lines = [
        "| | |",
        "|---|---|",
        f"| version | {version} |",
        f"| weights | `model_repository/ild_unet/{version}/model.onnx` |",
        f"| sha256 | `{digest}` |",
    ]
    if below_floor:
        lines.append(f"| **released below the floor** | {below_floor.replace('|', '/')} |")
    return "\n".join(lines) + "\n"


def training_part(run: RunRecord, notes: str) -> str:
    """Return the part on data, settings and seed."""
    cases = "" if run.cases is None else f"{run.cases} scans, "
    biases = ", ".join(f"{bias:+.2f}" for bias in run.class_biases)
    calibrated = f", calibrated (logits of the classes {biases})" if biases else ""
    said = f"{notes.strip()}\n\n" if notes.strip() else ""
    return (
        f"{said}Trained on {cases}seed {run.seed}{calibrated}; "
        "the settings are `config.toml` of\n\n"
        "    dlild-export train DATASET RUN --config config.toml\n\n"
        f"```toml\n{run.settings.strip()}\n```\n"
    )


def evaluation_part(evaluation: EvaluationFile) -> str:
    """Return the part on each target and what was found."""
    lines = [
        f"{evaluation.cases}; {evaluation.engine}.",
        "",
        *_table(evaluation.targets),
        "",
    ]
    if evaluation.real_targets:
        lines += ["Real scans:", "", *_table(evaluation.real_targets)]
    else:
        lines.append("No real scan was evaluated.")
    return "\n".join(lines) + "\n"


def parity_part(parity: Parity) -> str:
    """Return the part on what every engine gives on the same windows."""
    text = (
        f"Whole scans, windows as served, on {parity.machine}; the first engine is the reference, "
        f"and {LIMIT_POINTS} point is the most that passes.\n\n{parity.to_markdown()}"
    )
    if not any(row.precision == "bf16" for row in parity.rows):
        text += "\nThis CPU offers no bf16, so bf16 was not compared.\n"
    return text


def _table(targets: tuple[RecordedTarget, ...]) -> list[str]:
    rows = [
        f"| {t.name} | {'none' if t.value is None else format(t.value, '.3f')} | {t.rule} "
        f"| {'yes' if t.met else '**no**'} |"
        for t in targets
    ]
    return ["| figure | found | asked for | met |", "|---|---|---|---|", *rows]


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
