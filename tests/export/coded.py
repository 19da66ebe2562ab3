"""A chest whose HU say the class, a network that reads them, and a grid coarse enough for tests."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from dlild_client.contract import Contract, GridSpec, WindowSpec, parse_contract
from dlild_client.volume import Volume
from dlild_export.evaluation.cases import EvaluationCase
from dlild_export.evaluation.served import Served

ROOT = Path(__file__).parents[2]
SPACING_MM = 4.0
HU = (40, -860, -700, -600, -500, -150)
"""HU of the classes 0 … 5; air outside the body, at -1000, is 0 too."""


def coarse_contract() -> Contract:
    """The contract on voxels of 4 mm, with windows to match."""
    whole = parse_contract((ROOT / "model_repository" / "contract.json").read_text("utf-8"))
    return replace(
        whole,
        grid=GridSpec((SPACING_MM,) * 3, "LPS"),
        windows=WindowSpec(8, (24, 24, 24), (64, 64, 64), 200_000, 0.25, 4),
    )


def chest(lesions: tuple[int, ...] = (2, 3, 4, 5)) -> tuple[np.ndarray, np.ndarray]:
    """HU and truth (z, y, x): two lungs, each with slabs of the lesion classes at its base."""
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in (70, 70, 90)), indexing="ij")
    truth = np.zeros(z.shape, np.uint8)
    for side in (-1, 1):
        truth[(z / 0.8) ** 2 + (y / 0.5) ** 2 + ((x - side * 0.42) / 0.32) ** 2 < 1] = 1
    for place, label in enumerate(lesions):
        truth[(truth == 1) & (z < -0.55 + 0.08 * (place + 1)) & (z >= -0.55 + 0.08 * place)] = label
    hu = np.array(HU, np.int16)[truth]
    hu[(y / 0.8) ** 2 + (x / 0.9) ** 2 >= 1] = -1000
    return hu, truth


def read_class(window: np.ndarray) -> np.ndarray:
    """The network that is always right: the class by its HU."""
    distance = [np.abs(window[:, 0].astype(np.float32) - hu) for hu in HU]
    distance[0] = np.minimum(distance[0], np.abs(window[:, 0].astype(np.float32) + 1000))
    nearest = np.argmin(np.stack(distance), axis=0)
    return (np.arange(6)[None, :, None, None, None] == nearest[:, None]).astype(np.float16)


def by_threshold(window: np.ndarray) -> np.ndarray:
    """A crude network: lung below -600 HU, consolidation to -200 HU, air never."""
    hu = window[:, 0].astype(np.float32)
    label = np.where(hu < -975, 0, np.where(hu < -600, 1, np.where(hu < -200, 5, 0)))
    return (np.arange(6)[None, :, None, None, None] == label[:, None]).astype(np.float16)


def served(run=read_class) -> Served:
    return Served(run=run, engine="coded fp32", digest="0" * 64, contract=coarse_contract())


def coded_case(name: str, lesions: tuple[int, ...] = (2, 3, 4, 5), **about) -> EvaluationCase:
    hu, truth = chest(lesions)
    return EvaluationCase(name, Volume(hu, (SPACING_MM,) * 3), truth, **about)
