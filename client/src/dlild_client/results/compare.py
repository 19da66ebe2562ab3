"""Compares results of one patient: differences by class and zone, held against measurement noise.

Two scores of one patient differ by less than the repeatability coefficient in 95 % of cases where
nothing has changed [1]_. The coefficient is that of DL-ILD and of the model version, from the
contract. For classes and zones none was measured: they are held against the same one, which for
them is a lower bound of the noise.

References
----------
.. [1] J. M. Bland and D. G. Altman, Measuring agreement in method comparison studies, Statistical
   Methods in Medical Research 8 (1999) 135-160.
.. [2] M. Abramowitz and I. A. Stegun, Handbook of Mathematical Functions, 26.7.3 and 26.7.4.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

from dlild_client.contract.score import dl_ild_percent
from dlild_client.errors import (
    BadSettingsError,
    DlildError,
    NotComparableError,
    UnreadableFileError,
    printable,
)
from dlild_client.results.provenance import document_digest
from dlild_client.results.stored import COMPARISON, StoredResult, read_document

COMPARISON_SCHEMA_VERSION = 1
DAYS_PER_YEAR = 365.25
THICKNESS_MM = 0.1
"""Slice thicknesses that differ by more are different."""
MUCH_LUNG = 0.15
"""Share by which the lung volumes of two scans differ where the depth of breath must have."""
CONFIDENCE = 0.95
NORMAL = 1.959964
"""97.5 % quantile of the normal distribution."""

Verdict = Literal["increase", "decrease", "within_noise", "unknown"]


@dataclass(frozen=True)
class Difference:
    """Later minus earlier, of one quantity.

    Attributes
    ----------
    earlier, later, difference : float or None
        Percent, and points. None where a zone has no lung.
    verdict : str
        `within_noise` up to the coefficient; `unknown` without one.
    beyond_upper_bound : bool
        Whether it exceeds the upper end of the coefficient's own 95 % interval, too.
    """

    earlier: float | None
    later: float | None
    difference: float | None
    verdict: Verdict
    beyond_upper_bound: bool


@dataclass(frozen=True)
class Noise:
    """What differences are held against: a coefficient in points, and where it comes from."""

    condition: Literal["same_protocol", "all_changes"]
    coefficient: float
    low: float
    high: float


@dataclass(frozen=True)
class Pair:
    """Differences between two results.

    Attributes
    ----------
    earlier, later : int
        Indices into `Comparison.results`.
    years : float or None
        Between the scans, where it was given.
    noise : Noise or None
        None where the repeatability of the model version is not known.
    flags : mapping of str to mapping
        What differs between the scans, with both values.
    score : Difference
    classes, zones : mapping of str to Difference
        Percent of all lung by class; percent of the zone that is lesion by zone.
    """

    earlier: int
    later: int
    years: float | None
    noise: Noise | None
    flags: Mapping[str, Mapping[str, Any]]
    score: Difference
    classes: Mapping[str, Difference]
    zones: Mapping[str, Difference]


@dataclass(frozen=True)
class Slope:
    """Change of DL-ILD in points a year, by ordinary least squares over three or more scans.

    Attributes
    ----------
    per_year : float
    low, high : float
        95 % interval from the residuals and Student's t of ``scans - 2`` degrees of freedom.
    noise_per_year : float or None
        Slope that noise alone exceeds in 5 % of such series: 1.96 x within-subject SD / root of the
        sum of squared times.
    verdict : str
        Whether the slope exceeds it.
    """

    per_year: float
    low: float
    high: float
    noise_per_year: float | None
    verdict: Verdict


@dataclass(frozen=True)
class Comparison:
    """Results of one patient in the order of their scans, and what changed.

    Attributes
    ----------
    results : tuple of StoredResult
    days : tuple of float or None
        Since the first scan.
    total : Pair
        The last against the first.
    steps : tuple of Pair
        Each against the one before; empty for two scans.
    slope : Slope or None
        For three or more scans with their days.
    """

    results: tuple[StoredResult, ...]
    days: tuple[float, ...] | None
    total: Pair
    steps: tuple[Pair, ...]
    slope: Slope | None

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON: no path, no date, nothing that names a patient."""
        plain = {
            "schema_version": COMPARISON_SCHEMA_VERSION,
            "model": dict(self.results[0].document["model"]),
            "results": [_summary(result) for result in self.results],
            "days": None if self.days is None else list(self.days),
            "total": _rounded(asdict(self.total)),
            "steps": [_rounded(asdict(step)) for step in self.steps],
            "slope": None if self.slope is None else _rounded(asdict(self.slope)),
            "research_use_only": True,
        }
        return {**plain, "digest": document_digest(plain)}


def compare_results(
    results: Sequence[StoredResult], days: Sequence[float] | None = None
) -> Comparison:
    """Compare results of one patient.

    That they are of one patient is the caller's to know: results name nobody.

    Parameters
    ----------
    results : sequence of StoredResult
        Two or more, the earliest scan first.
    days : sequence of float, optional
        Day of each scan, from any origin, ascending.

    Returns
    -------
    Comparison

    Raises
    ------
    BadSettingsError
        Fewer than two results, or days that do not fit or ascend.
    NotComparableError
        Results of different models or weights, or one scan given twice.
    UnreadableFileError
        A field of a result is missing or of a wrong type.
    """
    if len(results) < 2:
        raise BadSettingsError("one result is no comparison; give an earlier and a later one")
    try:
        return _compare(results, days)
    except KeyError as error:
        raise UnreadableFileError(
            f"a result lacks the field {error}; score the scan again with this version"
        ) from None
    except (TypeError, ValueError, AttributeError) as error:
        if isinstance(error, DlildError):
            raise
        raise UnreadableFileError(
            f"a result has a field of a wrong type: {error}; score the scan again"
        ) from None


def _compare(results: Sequence[StoredResult], days: Sequence[float] | None) -> Comparison:
    _check_comparable(results)
    since = _since_first(days, len(results))
    last = len(results) - 1
    pairs = [_pair(results, i, i + 1, since) for i in range(last)]
    total = pairs[0] if last == 1 else _pair(results, 0, last, since)
    steps = tuple(pairs) if last > 1 else ()
    slope = None
    if since is not None and last > 1:
        scores = [float(r.document["dl_ild_percent"]) for r in results]
        slope = fit_slope([d / DAYS_PER_YEAR for d in since], scores, total.noise)
    return Comparison(tuple(results), since, total, steps, slope)


def _check_comparable(results: Sequence[StoredResult]) -> None:
    first = results[0].document["model"]
    for result in results[1:]:
        model = result.document["model"]
        for field, name in (
            ("name", "model"),
            ("version", "version"),
            ("weights_digest", "weights"),
        ):
            if first.get(field) != model.get(field):
                raise NotComparableError(
                    f"results of different models cannot be compared: {name} "
                    f"{_shown(first.get(field))} and {_shown(model.get(field))}; score all scans "
                    "with one model version"
                )
    digests = [result.document["series"].get("digest") for result in results]
    repeated = {d for d in digests if d is not None and digests.count(d) > 1}
    if repeated:
        raise NotComparableError(
            f"one scan was given twice (series digest {_shown(min(repeated))}); give scans of "
            "different days"
        )


def _since_first(days: Sequence[float] | None, count: int) -> tuple[float, ...] | None:
    if days is None:
        return None
    if len(days) != count:
        raise BadSettingsError(f"{len(days)} days or dates for {count} results; give one for each")
    if not all(math.isfinite(day) for day in days):
        raise BadSettingsError("a day is no number")
    if any(later <= earlier for earlier, later in pairwise(days)):
        raise BadSettingsError(
            "the days of the scans do not ascend; give the results in the order of their scans"
        )
    return tuple(day - days[0] for day in days)


def _pair(results: Sequence[StoredResult], i: int, j: int, days: Sequence[float] | None) -> Pair:
    earlier, later = results[i].document, results[j].document
    flags = find_differences(earlier, later)
    noise = _noise(later, same_protocol=not PROTOCOL & set(flags))
    return Pair(
        earlier=i,
        later=j,
        years=None if days is None else (days[j] - days[i]) / DAYS_PER_YEAR,
        noise=noise,
        flags=flags,
        score=_difference(earlier["dl_ild_percent"], later["dl_ild_percent"], noise),
        classes={
            name: _difference(kind["percent_of_lung"], other["percent_of_lung"], noise)
            for name, kind in earlier["classes"].items()
            if (other := later["classes"].get(name)) is not None
        },
        zones={
            name: _difference(zone_percent(zone), zone_percent(other), noise)
            for name, zone in earlier["zones"].items()
            if (other := later["zones"].get(name)) is not None
        },
    )


def zone_percent(zone: Mapping[str, Any]) -> float:
    """Return the share of a zone that is lesion, in percent; NaN where it has no lung."""
    return dl_ild_percent(float(zone["lesion_ml"]), float(zone["lung_ml"]))


def _difference(earlier: float, later: float, noise: Noise | None) -> Difference:
    change = float(later) - float(earlier)
    if math.isnan(change):
        known = [None if math.isnan(v) else float(v) for v in (earlier, later)]
        return Difference(known[0], known[1], None, "unknown", beyond_upper_bound=False)
    return Difference(
        float(earlier),
        float(later),
        change,
        _verdict(change, None if noise is None else noise.coefficient),
        beyond_upper_bound=noise is not None and abs(change) > noise.high,
    )


def _verdict(change: float, least: float | None) -> Verdict:
    if least is None:
        return "unknown"
    if abs(change) <= least:
        return "within_noise"
    return "increase" if change > 0 else "decrease"


PROTOCOL = {"kernel_differs", "kernel_unknown", "thickness_differs", "thickness_unknown"}
"""Flags with which the coefficient of one protocol does not hold."""


def find_differences(
    earlier: Mapping[str, Any], later: Mapping[str, Any]
) -> dict[str, dict[str, Any]]:
    """Flag what differs between two scans and may change the score without a change of the lungs.

    Parameters
    ----------
    earlier, later : mapping
        Fields of `result.json`.

    Returns
    -------
    dict of str to dict
        Flags with the values of both: `kernel_differs`, `kernel_unknown`, `thickness_differs`,
        `thickness_unknown`, `scanner_differs`, `engine_differs`, `lung_volume_differs`,
        `scan_flags_differ`.
    """
    both = (earlier, later)
    flags: dict[str, dict[str, Any]] = {}

    def note(flag: str, read: Callable[[Mapping[str, Any]], Any]) -> None:
        flags[flag] = {"earlier": read(earlier), "later": read(later)}

    def series(field: str) -> Callable[[Mapping[str, Any]], Any]:
        return lambda document: document["series"].get(field)

    for field, name in (("kernel", "kernel"), ("slice_thickness_mm", "thickness")):
        values = [series(field)(document) for document in both]
        if None in values:
            note(f"{name}_unknown", series(field))
        elif _differ(*values):
            note(f"{name}_differs", series(field))
    if _differ(*(series("manufacturer")(document) for document in both)):
        note("scanner_differs", series("manufacturer"))
    if _differ(*(f"{d['model'].get('engine')} {d['model'].get('precision')}" for d in both)):
        note(
            "engine_differs", lambda d: f"{d['model'].get('engine')} {d['model'].get('precision')}"
        )
    volumes = [float(document["lung_volume_ml"]) for document in both]
    if abs(volumes[1] - volumes[0]) > MUCH_LUNG * max(volumes):
        note("lung_volume_differs", lambda d: round(float(d["lung_volume_ml"])))
    if _differ(*(sorted(document["flags"]) for document in both)):
        note("scan_flags_differ", lambda d: list(d["flags"]))
    return flags


def _differ(earlier: Any, later: Any) -> bool:
    if isinstance(earlier, int | float) and isinstance(later, int | float):
        return abs(later - earlier) > THICKNESS_MM
    if isinstance(earlier, str) and isinstance(later, str):
        return earlier.strip().casefold() != later.strip().casefold()
    return bool(earlier != later)


def _noise(document: Mapping[str, Any], *, same_protocol: bool) -> Noise | None:
    """Coefficient of the model version, which both results share."""
    known = document.get("repeatability")
    if not isinstance(known, Mapping):
        return None
    condition: Literal["same_protocol", "all_changes"] = (
        "same_protocol" if same_protocol else "all_changes"
    )
    fields = known[condition]
    return Noise(condition, *(float(fields[name]) for name in ("coefficient", "low", "high")))


def fit_slope(years: Sequence[float], scores: Sequence[float], noise: Noise | None) -> Slope:
    """Fit the change of the score a year by ordinary least squares.

    Parameters
    ----------
    years, scores : sequence of float
        Three or more; times that are not all equal, and percent.
    noise : Noise or None

    Returns
    -------
    Slope
    """
    count = len(years)
    mean_year, mean_score = sum(years) / count, sum(scores) / count
    spread = sum((t - mean_year) ** 2 for t in years)
    slope = sum((t - mean_year) * (s - mean_score) for t, s in zip(years, scores, strict=True))
    slope /= spread
    residuals = [
        s - mean_score - slope * (t - mean_year) for t, s in zip(years, scores, strict=True)
    ]
    freedom = count - 2
    error = math.sqrt(sum(r * r for r in residuals) / freedom / spread)
    half = t_quantile(freedom) * error
    # The coefficient is 1.96 x sqrt(2) x within-subject SD.
    least = None if noise is None else noise.coefficient / math.sqrt(2 * spread)
    return Slope(slope, slope - half, slope + half, least, _verdict(slope, least))


def t_quantile(freedom: int) -> float:
    """97.5 % quantile of Student's t, by bisection on its exact distribution [2]_."""
    low, high = NORMAL, 1000.0
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if _t_inside(middle, freedom) < CONFIDENCE else (low, middle)
    return (low + high) / 2


def _t_inside(t: float, freedom: int) -> float:
    """Probability that ``|T| < t``; a finite sum for whole degrees of freedom."""
    angle = math.atan(t / math.sqrt(freedom))
    cosine = math.cos(angle)
    odd = freedom % 2 == 1
    term = total = cosine if odd else 1.0
    for k in range(3 if odd else 2, freedom - 1, 2):
        term *= (k - 1) / k * cosine**2
        total += term
    if not odd:
        return math.sin(angle) * total
    return 2 / math.pi * (angle + (math.sin(angle) * total if freedom > 1 else 0.0))


_KEPT = (
    "dl_ild_percent", "lung_volume_ml", "lesion_volume_ml", "classes", "zones", "model", "series",
    "flags", "repeatability", "provenance",
)  # fmt: skip
"""Fields of each result that a comparison keeps: all that it was computed from, without a path."""


_COMPARISON_HOLDS = frozenset({"results", "total"})
"""Fields that tell a comparison from other documents."""


def _summary(result: StoredResult) -> dict[str, Any]:
    return {name: result.document[name] for name in _KEPT if name in result.document}


def is_comparison(path: Path) -> bool:
    """Whether a file is the JSON of a comparison, whole or not."""
    if path.name == COMPARISON:
        return path.is_file()
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(document, dict) and document.keys() >= _COMPARISON_HOLDS


def read_comparison(path: Path) -> tuple[Mapping[str, Any], Comparison]:
    """Read a comparison, and compute it again from the figures of its results.

    Parameters
    ----------
    path : Path
        `comparison.json`.

    Returns
    -------
    document : mapping
        What the file says.
    comparison : Comparison
        What follows from the results in it.

    Raises
    ------
    UnreadableFileError
        It is no comparison, or of another schema or an earlier version.
    """
    name = printable(path.name)
    again = "compare the results again with this version"
    document = read_document(
        path,
        COMPARISON_SCHEMA_VERSION,
        holds=_COMPARISON_HOLDS,
        not_json=again,
        another=f"not a comparison; {again}",
    )
    if not isinstance(document.get("digest"), str):
        raise UnreadableFileError(f"{name}: without a digest; {again}")
    try:
        results = [StoredResult(path, one, path.parent) for one in document["results"]]
        return document, compare_results(results, document["days"])
    except (DlildError, KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise UnreadableFileError(f"{name}: cannot be computed again ({error}); {again}") from None


def _shown(value: Any) -> str:
    return str(value)[:19]


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 6)
    if isinstance(value, Mapping):
        return {k: _rounded(v) for k, v in value.items()}
    return value
