"""Writes expected.json: the histogram of a lung, and the published figures of it.

    git clone https://github.com/acil-bwh/ChestImagingPlatform
    python make.py ChestImagingPlatform

The histogram is counted in the test images ct-64 and wholeLung-64; the figures are those that the
platform's own test of GenerateParenchymaPhenotypes expects.
"""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import numpy as np
import SimpleITK as sitk

TEST = "GenerateParenchymaPhenotypes"


def main(checkout: Path) -> None:
    """Count the histogram, and read the figures."""
    images = checkout / "Testing" / "Data" / "Input"
    scan = sitk.ReadImage(str(images / "ct-64.nrrd"))
    mask = sitk.ReadImage(str(images / "wholeLung-64.nrrd"))
    lung = sitk.GetArrayFromImage(scan)[sitk.GetArrayFromImage(mask) > 0]
    values, counts = np.unique(lung, return_counts=True)
    folder = checkout / "CommandLineTools" / TEST / "Data" / "Baseline"
    with (folder / f"{TEST}_Test_parenchymaPhenotypes.csv").open() as file:
        published = next(csv.DictReader(file))
    expected = {
        "voxel_ml": float(np.prod(scan.GetSpacing())) / 1000,
        "histogram": {str(v): int(n) for v, n in zip(values, counts, strict=True)},
        "published": {
            name.removeprefix("wholeLung "): float(value)
            for name, value in published.items()
            if (name or "").startswith("wholeLung ")
        },
    }
    text = json.dumps(expected, separators=(",", ":")).replace('"published"', '\n"published"')
    Path(__file__).with_name("expected.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
