"""Coded concepts of the objects: standard ones, and those of DL-ILD where there is no standard.

Private codes have the coding scheme designator 99DLILD. `docs/dicom-codes.md` lists them; a value
never changes its meaning.
"""

from __future__ import annotations

from typing import Any

from dlild_client.contract.schema import LabelClass
from dlild_client.reading.dicom.dicomlib import load_pydicom

SCHEME = "99DLILD"

ANATOMY = ("123037004", "SCT", "Anatomical structure")
ABNORMAL = ("49755003", "SCT", "Morphologically abnormal structure")


def coded(value: str, scheme: str, meaning: str) -> Any:
    """Construct a code of pydicom."""
    return load_pydicom().sr.coding.Code(value, scheme, meaning)


def code_of(kind: LabelClass) -> Any:
    """Code of a class, from the contract; a private one where the contract has none."""
    if kind.code is None:
        return coded(f"CLASS-{kind.label}", SCHEME, kind.title)
    return coded(kind.code.value, kind.code.scheme, kind.code.meaning)


def category_of(kind: LabelClass) -> Any:
    """Category of a class: a lesion is an abnormal structure, lung an anatomical one."""
    return coded(*(ABNORMAL if kind.lesion else ANATOMY))
