"""Reconstruction kernels: suitability for lungs.

Vendors use their own names for kernels, and none states the sharpness. The tables follow the
vendors' recommendations for organs.
"""

from __future__ import annotations

import re
from enum import IntEnum


class Kernel(IntEnum):
    """Suitability of a kernel for lungs; smaller is better."""

    LUNG = 0
    STANDARD = 1
    UNKNOWN = 2
    SOFT = 3
    UNUSUAL = 4


NAMED = {
    # GE
    "LUNG": Kernel.LUNG, "BONE": Kernel.LUNG, "CHEST": Kernel.LUNG, "HD LUNG": Kernel.LUNG,
    "STANDARD": Kernel.STANDARD, "DETAIL": Kernel.STANDARD, "STND": Kernel.STANDARD,
    "STD+": Kernel.STANDARD,
    "SOFT": Kernel.SOFT, "BONEPLUS": Kernel.UNUSUAL, "BONE+": Kernel.UNUSUAL,
    "EDGE": Kernel.UNUSUAL, "ULTRA": Kernel.UNUSUAL,
    # Philips
    "A": Kernel.SOFT, "B": Kernel.STANDARD, "C": Kernel.STANDARD, "SA": Kernel.SOFT,
    "SB": Kernel.STANDARD, "D": Kernel.LUNG, "L": Kernel.LUNG, "YA": Kernel.LUNG,
    "YB": Kernel.LUNG, "YC": Kernel.LUNG, "E": Kernel.UNUSUAL, "F": Kernel.UNUSUAL,
    "UA": Kernel.UNUSUAL, "UB": Kernel.UNUSUAL, "UC": Kernel.UNUSUAL,
}  # fmt: skip

SIEMENS = re.compile(r"^([A-Z])([A-Z]?)(\d{2})[A-Z]?")
CANON = re.compile(r"^FC0*(\d{1,2})")


def judge_kernel(name: str | None) -> Kernel:
    """Judge the suitability of a kernel for lungs.

    Parameters
    ----------
    name : str or None
        ConvolutionKernel, values joined by `/`.

    Returns
    -------
    Kernel

    Examples
    --------
    >>> judge_kernel("B70f/3").name, judge_kernel("STANDARD").name, judge_kernel("FC51").name
    ('LUNG', 'STANDARD', 'LUNG')
    >>> judge_kernel("H30s").name, judge_kernel(None).name
    ('UNUSUAL', 'UNKNOWN')
    """
    text = (name or "").split("/")[0].strip().upper()
    if text in NAMED:
        return NAMED[text]
    if match := CANON.match(text):
        return _canon(int(match.group(1)))
    if match := SIEMENS.match(text):
        return _siemens(match.group(1), int(match.group(3)))
    return Kernel.UNKNOWN


def _siemens(region: str, sharpness: int) -> Kernel:
    """Judge by the letter (B, Q, I: body; H, J: head; U: ultra-high) and the sharpness."""
    if region not in "BQI" or sharpness >= 80:
        return Kernel.UNUSUAL
    if sharpness >= 50:
        return Kernel.LUNG
    return Kernel.STANDARD if sharpness >= 35 else Kernel.SOFT


def _canon(number: int) -> Kernel:
    """Judge by the number: to 19 body, 20 and 60 on head, 30 on bone, 50 and 80 on lung."""
    if 50 <= number <= 59 or 80 <= number <= 89:
        return Kernel.LUNG
    if number <= 19:
        return Kernel.STANDARD
    return Kernel.UNUSUAL
