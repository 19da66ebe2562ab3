"""Writing the validation of a saved model, and the recalibrated model."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

from dlild_analysis.report.write import dump, html_environment
from dlild_analysis.steps.attempts import NotDone
from dlild_analysis.steps.external_validation import (
    ExternalValidation,
    calibration_figure,
    decision_figure,
    sentences,
    table,
)
from dlild_analysis.steps.presentation import style

DRAWINGS = (
    (
        "calibration",
        calibration_figure,
        "Calibration: observed against predicted risk, smoothed; the dot is the mean of each.",
    ),
    ("decision_curves", decision_figure, "Decision curves, true positives by Kaplan-Meier."),
)


def write_validation(
    validation: ExternalValidation, recalibrated: dict[str, Any] | NotDone, out: Path
) -> list[Path]:
    """Write everything that a validation has to show.

    Parameters
    ----------
    validation, recalibrated
        From `validate_model`.
    out : Path
        Folder; it is made, and files in it of the same name are replaced.

    Returns
    -------
    list of Path
        `validation.json`, `validation.csv`, `validation.html`, the figures, and
        `model-recalibrated.json` where the model could be recalibrated.
    """
    out.mkdir(parents=True, exist_ok=True)
    written = [_write(out / "validation.json", dump(validation.as_dict()))]
    found = table(validation)
    written.append(_write(out / "validation.csv", found.csv()))
    pictures = []
    with style.journal():
        for name, draw, caption in DRAWINGS:
            made = draw(validation)
            if made is None:
                continue
            image = style.png(made)
            (out / f"{name}.png").write_bytes(image)
            (out / f"{name}.svg").write_bytes(style.svg(made))
            written += [out / f"{name}.png", out / f"{name}.svg"]
            pictures.append((base64.b64encode(image).decode("ascii"), caption))
    if isinstance(recalibrated, NotDone):
        last = f"The model was not recalibrated, because {recalibrated.not_done_because}."
    else:
        written.append(_write(out / "model-recalibrated.json", dump(recalibrated)))
        last = (
            "model-recalibrated.json has the slope and the baseline hazard of this cohort. It was "
            "fitted to these patients: validate it in others."
        )
    html = (
        html_environment()
        .get_template("validation.html.j2")
        .render(
            title=found.title,
            sentences=[*sentences(validation), last],
            item=found,
            pictures=pictures,
        )
    )
    return [*written, _write(out / "validation.html", html)]


def _write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8", newline="\n")
    return path
