"""Flags: doubts about a scan, with their values, that are part of its result."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

MEANINGS: Mapping[str, str] = {
    # the series
    "thick_slices": "slices or steps over 3 mm: fine patterns are blurred",
    "gaps_between_slices": "lung between the slices was not seen",
    "uneven_steps": "the steps between slices differ; each slice was taken at its own position",
    "gantry_tilt_corrected": "the gantry was tilted; the scan was put straight by resampling",
    "reoriented": "not an axial series; the scan was turned to axial by resampling",
    "reformat_scored": "a reformat was scored because it was asked for",
    "localizer_images_dropped": "localizer images in the series were left out",
    "captures_dropped": "captures in the series were left out",
    "secondary_capture_scored": "the images are secondary captures with the geometry of a CT",
    "other_objects_dropped": "objects in the series that are no slices of the CT were left out",
    "lossy_copies_dropped": "copies of the slices that compression has changed were left out",
    "series_joined": "a CT whose slices have series UIDs of their own was put together",
    "repeated_slices_dropped": "slices that were in the series twice were left out",
    "several_acquisitions": "the series holds several acquisitions; one of them was scored",
    "blank_slices": "the first or last slices hold no picture: lung may be missing there",
    "other_series_with_faulty_geometry": "another series was set aside for its geometry",
    "unreadable_files": "files that look like DICOM could not be read",
    "files_missing": "files that the DICOMDIR names are not there",
    "spacing_doubtful": "the header's spacing is 1 x 1 x 1 mm, or a part of it says another one",
    "orientation_assumed": "the header does not say how the scan lies in the patient",
    "numbers_repaired": "numbers in the header are not written as DICOM has it; one reading fits",
    "numbers_unreadable": "the header holds something that is no number, and was done without",
    # the grey values
    "rescale_assumed": "no rescale in the header; it was found from the grey values of air",
    "inverted_grey_values": "MONOCHROME1 with inverted values; they were turned round",
    "coarse_grey_levels": "grey levels are more than 4 HU apart",
    "lossy_compression": "compression has changed the grey values",
    "padding_found": "outside the field of view the image holds a constant; taken for air",
    "hu_shifted": "air outside the patient is not near -1000 HU: the calibration is doubtful",
    # the acquisition
    "unusual_kernel": "a reconstruction kernel that is not used for lungs",
    "spacing_far_from_training": "pixels or slices far from those that the network has learnt on",
    "contrast_likely": "contrast medium in the blood makes lung denser",
    "expiration_likely": "lungs of an expiratory scan are denser, as if they were ill",
    "orientation_doubtful": "the body lies otherwise than the header says; sides or heights of all "
    "figures may be exchanged",
    "prone_likely": "the table lies in front of the patient: front and back of the lungs differ "
    "from a supine scan's",
    "not_supine": "the patient does not lie on the back: lung that lies low is denser there",
    "metal_likely": "metal: its streaks look like lesions",
    "heavy_noise": "noise may hide or imitate fine patterns",
    # the lungs
    "lungs_cut_off_top": "the lungs go on where the scan ends",
    "lungs_cut_off_bottom": "the lungs go on where the scan ends",
    "lungs_cut_off_sides": "the lungs go on where the field of view ends",
    "lungs_at_box_edge": "the network saw lung on a face of the lung box; more may lie beyond it",
    "labels_beyond_scan": "the network saw lung in the padding beyond the scan",
    "density_disagrees": "index and share of dense lung differ grossly: look at the lesions",
    "chest_doubtful": "volumes or lengths that lungs hardly have, or another part of the body",
}
"""Meaning of each flag; part of `result.json`."""


class Flag(str):
    """A doubt: a str of its code, with a text and values.

    Compares, prints and hashes as its code: ``"thick_slices" in volume.flags``.

    Parameters
    ----------
    code : str
        One of `MEANINGS`.
    **values : float, int or str
        The values behind the doubt; names end in the unit (`step_mm`, `mean_hu`).

    Attributes
    ----------
    values : dict

    Examples
    --------
    >>> flag = Flag("thick_slices", thickness_mm=5.0, step_mm=5.0)
    >>> flag == "thick_slices", flag.values["step_mm"]
    (True, 5.0)
    >>> flag.text
    'slices or steps over 3 mm: fine patterns are blurred (thickness_mm 5, step_mm 5)'
    """

    values: dict[str, Any]

    def __new__(cls, code: str, **values: Any) -> Flag:
        """Construct a flag from its code and values."""
        flag = super().__new__(cls, code)
        flag.values = {name: _plain(value) for name, value in values.items()}
        return flag

    @property
    def text(self) -> str:
        """One line: the meaning, and the values in brackets."""
        meaning = MEANINGS.get(str(self), str(self).replace("_", " "))
        numbers = ", ".join(f"{name} {short(value)}" for name, value in self.values.items())
        return f"{meaning} ({numbers})" if numbers else meaning

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle and copy together with the values."""
        return _restore, (str(self), self.values)


def _restore(code: str, values: dict[str, Any]) -> Flag:
    return Flag(code, **values)


def merge(flags: Iterable[str]) -> tuple[Flag, ...]:
    """Merge flags of one code, as raised from header and pixels; the first value of a name wins."""
    made: dict[str, Flag] = {}
    for flag in flags:
        code = str(flag)
        values = flag.values if isinstance(flag, Flag) else {}
        known = made[code].values if code in made else {}
        made[code] = Flag(code, **(values | known))
    return tuple(made.values())


def details(flags: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Text and values of flags, by code, as plain values for JSON."""
    made = [flag if isinstance(flag, Flag) else Flag(flag) for flag in flags]
    return {str(flag): {"text": flag.text, "values": flag.values} for flag in made}


def _plain(value: Any) -> Any:
    if isinstance(value, str | bool | int):
        return value
    return round(float(value), 4)


def short(value: Any) -> str:
    """Write a value of a flag; numbers with four digits."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
