"""The classes of the label map by name, for code that makes label maps itself."""

from __future__ import annotations

from enum import IntEnum

HEALTHY_LUNG_HU = -850.0
"""Mean density of healthy lung in inspiration."""


class Label(IntEnum):
    """Label of each class; `make configs` refuses a `contract.json` that has others.

    A client reads the classes from its server's contract, never from here.
    """

    BACKGROUND = 0
    LUNG = 1
    GROUND_GLASS = 2
    RETICULATION = 3
    HONEYCOMBING = 4
    CONSOLIDATION = 5
