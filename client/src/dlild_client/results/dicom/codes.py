"""Coded concepts of the objects: standard ones, and those of DL-ILD where there is no standard.

Private codes have the coding scheme designator 99DLILD. `docs/dicom-codes.md` lists them; a value
never changes its meaning, and a flag that is removed leaves its number unused.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from dlild_client.contract.schema import LabelClass
from dlild_client.reading.dicom.dicomlib import load_pydicom

SCHEME = "99DLILD"

PRIVATE: Mapping[str, str] = {
    "DLILD": "DL-ILD",
    "LUNG-PERCENT": "Percentage of lung",
    "LESION-VOLUME": "Volume of lesions",
    "CERTAINTY": "Certainty of the class among lesions",
    "HAA": "High-attenuation area, -600 to -250 HU",
    "LAA-950": "Low-attenuation area, below -950 HU",
    "PERCENTILE-5": "5th percentile of attenuation",
    "PERCENTILE-10": "10th percentile of attenuation",
    "PERCENTILE-15": "15th percentile of attenuation",
    "PERCENTILE-90": "90th percentile of attenuation",
    "PERCENTILE-95": "95th percentile of attenuation",
    "RC-SAME": "Repeatability coefficient, same protocol",
    "RC-SAME-LOW": "Repeatability coefficient, same protocol, lower",
    "RC-SAME-HIGH": "Repeatability coefficient, same protocol, upper",
    "RC-ALL": "Repeatability coefficient, all changes",
    "RC-ALL-LOW": "Repeatability coefficient, all changes, lower",
    "RC-ALL-HIGH": "Repeatability coefficient, all changes, upper",
    "FLAG": "Flag",
    "NOTICE": "Notice of research use",
    "SCAN-DIGEST": "Digest of the scan",
    "RESULT-DIGEST": "Digest of the result",
    "ZONE-PERCENT": "Percentage of zone that is lesion",
    "DLILD-CHANGE": "Change of DL-ILD, last minus first scan",
    "LUNG-PCT-CHANGE": "Change of percentage of lung, last minus first scan",
    "ZONE-PCT-CHANGE": "Change of percentage of zone, last minus first scan",
    "DAYS": "Days since the first scan",
    "SLOPE": "Slope of DL-ILD",
    "SLOPE-LOW": "Slope of DL-ILD, lower",
    "SLOPE-HIGH": "Slope of DL-ILD, upper",
    "SLOPE-RC": "Slope that noise explains",
    "VERDICT": "Change against measurement noise",
    "SLOPE-NOISE": "Slope against measurement noise",
    "BEYOND-UPPER": "Beyond the upper end of the coefficient",
    "WITHIN-NOISE": "Within measurement noise",
    "INCREASE": "Increase beyond measurement noise",
    "DECREASE": "Decrease beyond measurement noise",
    "NOISE-UNKNOWN": "Measurement noise unknown",
    "DIFFERS": "Scans differ in",
    "SCAN-REPORT": "Report of a scan",
}
"""Meaning of each private code, but those of flags."""

FLAGS: Mapping[str, int] = {
    "thick_slices": 1,
    "gaps_between_slices": 2,
    "uneven_steps": 3,
    "gantry_tilt_corrected": 4,
    "reoriented": 5,
    "reformat_scored": 6,
    "localizer_images_dropped": 7,
    "captures_dropped": 8,
    "secondary_capture_scored": 9,
    "other_objects_dropped": 10,
    "lossy_copies_dropped": 11,
    "series_joined": 12,
    "repeated_slices_dropped": 13,
    "several_acquisitions": 14,
    "blank_slices": 15,
    "other_series_with_faulty_geometry": 16,
    "unreadable_files": 17,
    "files_missing": 18,
    "spacing_doubtful": 19,
    "orientation_assumed": 20,
    "numbers_repaired": 21,
    "numbers_unreadable": 22,
    "rescale_assumed": 23,
    "inverted_grey_values": 24,
    "coarse_grey_levels": 25,
    "lossy_compression": 26,
    "padding_found": 27,
    "hu_shifted": 28,
    "unusual_kernel": 29,
    "spacing_far_from_training": 30,
    "contrast_likely": 31,
    "expiration_likely": 32,
    "orientation_doubtful": 33,
    "prone_likely": 34,
    "not_supine": 35,
    "metal_likely": 36,
    "heavy_noise": 37,
    "lungs_cut_off_top": 38,
    "lungs_cut_off_bottom": 39,
    "lungs_cut_off_sides": 40,
    "lungs_at_box_edge": 41,
    "labels_beyond_scan": 42,
    "chest_doubtful": 43,
    "density_disagrees": 44,
}
"""Number of each flag in its code, FLAG-1 and so on; FLAG-0 is any other."""

VERDICTS: Mapping[str, str] = {
    "within_noise": "WITHIN-NOISE",
    "increase": "INCREASE",
    "decrease": "DECREASE",
    "unknown": "NOISE-UNKNOWN",
}
"""Code of each verdict of a comparison."""

DIFFERENCES: Mapping[str, int] = {
    "kernel_differs": 1,
    "kernel_unknown": 2,
    "thickness_differs": 3,
    "thickness_unknown": 4,
    "scanner_differs": 5,
    "engine_differs": 6,
    "lung_volume_differs": 7,
    "scan_flags_differ": 8,
}
"""Number of each flag of a comparison in its code, DIFFERS-1 and so on."""

Code = tuple[str, str, str]
"""Value, scheme, meaning."""

YES = ("373066001", "SCT", "Yes")
NO = ("373067005", "SCT", "No")
ANATOMY = ("123037004", "SCT", "Anatomical structure")
ABNORMAL = ("49755003", "SCT", "Morphologically abnormal structure")
LUNG = ("39607008", "SCT", "Lung")
CT_OF_CHEST = ("169069000", "SCT", "CT of chest")
SIDES = {"right": ("24028007", "SCT", "Right"), "left": ("7771000", "SCT", "Left")}
THIRDS = {
    "upper": ("281392002", "SCT", "Upper zone of lung"),
    "middle": ("281393007", "SCT", "Middle zone of lung"),
    "lower": ("281394001", "SCT", "Lower zone of lung"),
}
VOLUME = ("118565006", "SCT", "Volume")
MASS = ("4147007", "SCT", "Mass")
ATTENUATION = ("112031", "DCM", "Attenuation Coefficient")
MEAN_HU = ("112181", "DCM", "Mean Attenuation Coefficient")
MEDIAN_HU = ("112182", "DCM", "Median Attenuation Coefficient")
SD_HU = ("112183", "DCM", "Standard Deviation of Attenuation Coefficient")
SKEWNESS = ("126051", "DCM", "Skewness")
KURTOSIS = ("126052", "DCM", "Kurtosis")
COMMENT = ("121106", "DCM", "Comment")
AI = ("123110", "DCM", "Artificial Intelligence")

UNITS = {
    "%": ("%", "UCUM", "percent"),
    "mL": ("mL", "UCUM", "milliliter"),
    "g": ("g", "UCUM", "gram"),
    "HU": ("[hnsf'U]", "UCUM", "Hounsfield unit"),
    "1": ("1", "UCUM", "no units"),
    "d": ("d", "UCUM", "day"),
    "%/a": ("%/a", "UCUM", "percent per year"),
}


def coded(value: str, scheme: str, meaning: str) -> Any:
    """Construct a code of pydicom."""
    load_pydicom()
    # pydicom does not import it by itself.
    return import_module("pydicom.sr.coding").Code(value, scheme, meaning)


def private(value: str) -> Any:
    """Construct a private code."""
    return coded(value, SCHEME, PRIVATE[value])


def flag_code(flag: str) -> Any:
    """Construct the code of a flag."""
    return coded(f"FLAG-{FLAGS.get(str(flag), 0)}", SCHEME, str(flag).replace("_", " ")[:64])


def differs_code(flag: str) -> Any:
    """Construct the code of a flag of a comparison."""
    return coded(f"DIFFERS-{DIFFERENCES[flag]}", SCHEME, flag.replace("_", " "))


def code_of(kind: LabelClass) -> Any:
    """Code of a class, from the contract; a private one where the contract has none."""
    if kind.code is None:
        return class_code(kind.label, kind.title)
    return coded(kind.code.value, kind.code.scheme, kind.code.meaning)


def class_code(label: int, title: str) -> Any:
    """Construct the private code of a class that has no standard one."""
    return coded(f"CLASS-{label}", SCHEME, title)


def category_of(kind: LabelClass) -> Any:
    """Category of a class: a lesion is an abnormal structure, lung an anatomical one."""
    return coded(*(ABNORMAL if kind.lesion else ANATOMY))


def code_in(figures: Mapping[str, Any]) -> Any:
    """Code of a class of `result.json`; a private one where it has none."""
    code = figures.get("code")
    if code is None:
        return class_code(figures["label"], figures["title"])
    return coded(code["value"], code["scheme"], code["meaning"])


def category_in(figures: Mapping[str, Any]) -> Any:
    """Category of a class of `result.json`."""
    return coded(*(ABNORMAL if figures["lesion"] else ANATOMY))
