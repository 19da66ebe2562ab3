"""Checks of what all objects have: attributes of the header, pixels, codes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dlild_client.errors import BadSettingsError
from dlild_client.results.checks import Check
from dlild_client.results.dicom.common import MANUFACTURER, serial_number
from dlild_client.results.dicom.extra import load_highdicom
from dlild_client.results.dicom.uids import pixels_digest
from dlild_client.results.result import ModelUsed


def has_extra() -> bool:
    """Whether highdicom is there, which makes contents again."""
    try:
        load_highdicom()
    except BadSettingsError:
        return False
    return True


def check_header(
    name: str,
    dataset: Any,
    document: Mapping[str, Any],
    description: str,
    constant: Mapping[str, Any],
) -> Check:
    """Compare the descriptions of an object, which say what made it, and that it is for research.

    The serial number is the start of the digest of the weights. `constant` are the attributes that
    every object of its kind has.
    """
    model = ModelUsed(**document["model"])
    expected = {
        "Manufacturer": MANUFACTURER,
        "SeriesDescription": description,
        "ManufacturerModelName": model.name,
        **constant,
    }
    if "DeviceSerialNumber" in dataset or dataset.Modality in {"SEG", "SR"}:
        expected["DeviceSerialNumber"] = serial_number(model)
    return check_attributes(f"{name}, header", dataset, expected)


def check_attributes(what: str, dataset: Any, expected: Mapping[str, Any]) -> Check:
    """Compare attributes of a data set, as text; the first that differs is shown."""
    for attribute, value in expected.items():
        found = str(dataset.get(attribute, ""))
        if found != str(value):
            return Check(what, False, f"{attribute} is {found[:64]!r}, not {str(value)[:64]!r}")
    return Check(what, True, f"{len(expected)} attributes")


def check_pixels(name: str, dataset: Any, digests: str) -> Check:
    """Compare the pixels with their digest, which stands among others in a text."""
    found = pixels_digest(dataset.PixelData)
    agrees = found in digests
    return Check(f"{name}, pixels", agrees, found[:19] if agrees else "changed since it was made")


def triple(code: Any) -> tuple[str, str, str]:
    """Value, scheme and meaning of a code, of a data set or of pydicom's `Code`."""
    if hasattr(code, "CodeValue"):
        return str(code.CodeValue), str(code.CodingSchemeDesignator), str(code.CodeMeaning)
    return str(code.value), str(code.scheme_designator), str(code.meaning)
