"""What a report says of a result: chosen and formatted once, for page and picture.

Everything is read off the fields of `result.json`, so that a report written afterwards says the
same as one written with the score.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dlild_client.contract.score import ZONES, dl_ild_percent
from dlild_client.errors import UnreadableFileError
from dlild_client.report.languages import Language, class_title, flag_words, words

Colour = tuple[int, int, int]

DIGEST_CHARACTERS = 19
"""Characters of a digest that are shown: `sha256:` and twelve digits."""


@dataclass(frozen=True)
class ClassFact:
    """One class of lung: its names, colour, and shares.

    Attributes
    ----------
    name : str
        As in `result.json`.
    title : str
        In the language of the report.
    label : int
    lesion : bool
    colour : tuple of int
        Red, green, blue.
    percent : float
        Of all lung.
    volume_ml : float
    certainty : float or None
    """

    name: str
    title: str
    label: int
    lesion: bool
    colour: Colour
    percent: float
    volume_ml: float
    certainty: float | None


@dataclass(frozen=True)
class ZoneFact:
    """One zone of the lungs: share of lesions in percent (NaN without lung), and volumes in mL."""

    name: str
    title: str
    percent: float
    lesion_ml: float
    lung_ml: float


@dataclass(frozen=True)
class DensityFact:
    """Densitometry of the lung or a zone: a value of each of `DENSITY`, as text."""

    title: str
    values: tuple[str, ...]


DENSITY = (
    # Field of the document, and decimals that are shown.
    ("mean_hu", 0),
    ("sd_hu", 0),
    ("skewness", 2),
    ("kurtosis", 2),
    ("p15", 0),
    ("high_attenuation_percent", 1),
    ("low_attenuation_percent", 1),
    ("mass_g", 0),
)


@dataclass(frozen=True)
class FlagFact:
    """One flag: its code, and its meaning with its values."""

    code: str
    text: str


@dataclass(frozen=True)
class Facts:
    """What a report says of one result, in one language.

    Attributes
    ----------
    language : str
    score : float
        DL-ILD in percent.
    lung_ml, lesion_ml : float
    classes : tuple of ClassFact
        The lesion classes, then lung without lesion.
    zones : tuple of ZoneFact
    density : tuple of DensityFact
        All lung, then the zones; empty where the result has none.
    flags : tuple of FlagFact
    repeatability : tuple of str
        Sentences on the interval of a second scan.
    repeat_range : tuple of float or None
        Lowest and highest score of a second scan by the same protocol, in percent.
    provenance : tuple of (str, str)
        Names and values.
    series_digest : str
        Empty where the result has none.
    spacing_mm : float
        Of the model grid, along the slices.
    """

    language: Language
    score: float
    lung_ml: float
    lesion_ml: float
    classes: tuple[ClassFact, ...]
    zones: tuple[ZoneFact, ...]
    density: tuple[DensityFact, ...]
    flags: tuple[FlagFact, ...]
    repeatability: tuple[str, ...]
    repeat_range: tuple[float, float] | None
    provenance: tuple[tuple[str, str], ...]
    series_digest: str
    spacing_mm: float

    @property
    def lesion_classes(self) -> tuple[ClassFact, ...]:
        """The classes of lesions."""
        return tuple(c for c in self.classes if c.lesion)


def gather_facts(document: Mapping[str, Any], language: Language = "en") -> Facts:
    """Choose and format what a report says.

    Parameters
    ----------
    document : mapping
        Fields of `result.json`.
    language : {"en", "zh"}

    Returns
    -------
    Facts

    Raises
    ------
    UnreadableFileError
        A field is missing or of a wrong type.
    """
    try:
        return _gather(document, language)
    except KeyError as error:
        raise UnreadableFileError(
            f"result.json lacks the field {error}; score the scan again with this version"
        ) from None
    except (TypeError, ValueError, AttributeError, IndexError) as error:
        raise UnreadableFileError(
            f"result.json has a field of a wrong type: {error}; score the scan again"
        ) from None


def _gather(document: Mapping[str, Any], language: Language) -> Facts:
    score = float(document["dl_ild_percent"])
    ranges = _repeat_ranges(document.get("repeatability"), score)
    classes = [_class(name, c, language) for name, c in document["classes"].items()]
    details = document.get("flag_details", {})
    return Facts(
        language=language,
        score=score,
        lung_ml=float(document["lung_volume_ml"]),
        lesion_ml=float(document["lesion_volume_ml"]),
        classes=tuple(sorted(classes, key=lambda c: (not c.lesion, c.label))),
        zones=tuple(_zone(name, document["zones"][name], language) for name in ZONES),
        density=_density(document.get("densitometry"), language),
        flags=tuple(
            FlagFact(code, flag_words(code, details.get(code, {}).get("values", {}), language))
            for code in document["flags"]
        ),
        repeatability=_repeat_words(ranges, language),
        repeat_range=ranges["same_protocol"][:2] if "same_protocol" in ranges else None,
        provenance=_provenance(document, language),
        series_digest=str(document["series"]["digest"] or ""),
        spacing_mm=float(document["grid"]["spacing_mm"][0]),
    )


def _class(name: str, fields: Mapping[str, Any], language: Language) -> ClassFact:
    red, green, blue = (int(v) for v in fields["colour"])
    certainty = fields.get("certainty")
    return ClassFact(
        name=name,
        title=class_title(name, str(fields["title"]), language),
        label=int(fields["label"]),
        lesion=bool(fields["lesion"]),
        colour=(red, green, blue),
        percent=float(fields["percent_of_lung"]),
        volume_ml=float(fields["volume_ml"]),
        certainty=None if certainty is None else float(certainty),
    )


def _zone(name: str, fields: Mapping[str, Any], language: Language) -> ZoneFact:
    lesion, lung = float(fields["lesion_ml"]), float(fields["lung_ml"])
    share = dl_ild_percent(lesion, lung)
    return ZoneFact(name, words(f"zone.{name}", language), share, lesion, lung)


def _density(fields: Mapping[str, Any] | None, language: Language) -> tuple[DensityFact, ...]:
    if fields is None:
        return ()
    regions = [(words("density.lung", language), fields["lung"])]
    regions += [(words(f"zone.{name}", language), fields["zones"][name]) for name in ZONES]
    rows = []
    for title, region in regions:
        flat = {**region, "p15": region["percentiles_hu"]["15"]}
        shown = [_number(flat[name], decimals) for name, decimals in DENSITY]
        rows.append(DensityFact(title, tuple(shown)))
    return tuple(rows)


def _number(value: float | None, decimals: int) -> str:
    """Format a number; a dash where there is none."""
    return "-" if value is None else f"{float(value):.{decimals}f}"


def _repeat_ranges(
    repeatability: Mapping[str, Any] | None, score: float
) -> dict[str, tuple[float, float, float]]:
    """Lowest and highest score of a second scan, and the coefficient, by what changes."""
    return {
        condition: (max(0.0, score - half), min(100.0, score + half), half)
        for condition, fields in (repeatability or {}).items()
        if isinstance(fields, Mapping)
        for half in [float(fields["coefficient"])]
    }


def _repeat_words(
    ranges: Mapping[str, tuple[float, float, float]], language: Language
) -> tuple[str, ...]:
    if "same_protocol" not in ranges:
        return (words("repeat_unknown", language),)
    keys = {"same_protocol": "repeat_same", "all_changes": "repeat_all"}
    said = [
        words(key, language, low=f"{low:.1f}", high=f"{high:.1f}", coefficient=f"{half:.1f}")
        for condition, key in keys.items()
        if condition in ranges
        for low, high, half in [ranges[condition]]
    ]
    return (*said, words("repeat_source", language))


def _provenance(document: Mapping[str, Any], language: Language) -> tuple[tuple[str, str], ...]:
    model, series = document["model"], document["series"]
    rows = [
        ("model", words("model_is", language, name=model["name"], version=model["version"])),
        ("weights", short_digest(model["weights_digest"])),
        ("engine", f"{model['engine']} {model['precision']} ({model['profile']})"),
        ("series", ", ".join(_series(series, language))),
    ]
    if series["digest"]:
        rows.append(("series_digest", short_digest(series["digest"])))
    return tuple((words(key, language), str(value)) for key, value in rows)


def _series(series: Mapping[str, Any], language: Language) -> Sequence[str]:
    parts = [words(f"source.{series['source']}", language), series["manufacturer"]]
    for key, field, name in (
        ("kernel", "kernel", "name"),
        ("slices", "slices", "count"),
        ("thickness", "slice_thickness_mm", "mm"),
        ("step", "slice_step_mm", "mm"),
    ):
        value = series[field]
        shown = f"{value:.4g}" if isinstance(value, float) else value
        parts.append(None if value is None else words(key, language, **{name: shown}))
    return [part for part in parts if part]


def short_digest(digest: str) -> str:
    """Shorten a digest for the eye."""
    return digest[:DIGEST_CHARACTERS]
