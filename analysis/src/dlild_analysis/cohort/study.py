"""The study: a small TOML that says what the columns of a table mean and what is asked of them.

`analysis/README.md` shows a whole file. Every key is checked; a key that does not exist is a fault.
Percent-predicted values must be in the table: working them out from litres (the GLI equations) is
out of scope of this package.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from dlild_analysis.cohort.table.file_format import DEFAULT, FileFormat
from dlild_analysis.cohort.table.units import SHARE_TO_PERCENT


@dataclass(frozen=True)
class Measure:
    """A score read off the scan: the column, what to call it, and its unit.

    `repeatability` is the repeatability coefficient that the model card states, in percent points.
    """

    column: str
    label: str
    unit: str
    repeatability: float | None = None

    @property
    def factor(self) -> float:
        """What turns the column into percent; 1 for points."""
        return SHARE_TO_PERCENT.get(self.unit, 1.0)


@dataclass(frozen=True)
class Covariate:
    """One covariate: a number, or a category with its reference level.

    With `birth_date` the column holds dates of birth, and the covariate is the age at the origin.
    """

    name: str
    column: str
    kind: str
    label: str
    unit: str
    reference: str | None
    low: float
    high: float
    birth_date: bool = False


@dataclass(frozen=True)
class TableSpec:
    """How the table is laid out and what to do with faults, repeats and gaps.

    With `origin_date`, the column of the date from which times count, columns of times may hold
    dates.
    """

    layout: str = "patients"
    id: str = "id"
    time_unit: str = "months"
    time_origin: str = "the HRCT"
    origin_date: str | None = None
    date_order: str | None = None
    format: FileFormat = DEFAULT
    duplicates: str = "reject"
    faults: str = "reject"
    missing: str = "complete-case"
    imputations: int = 20


@dataclass(frozen=True)
class LungFunction:
    """Baseline lung function columns of the patients' table."""

    fvc_percent: str | None = None
    dlco_percent: str | None = None
    fvc_volume: str | None = None
    fvc_unit: str = "L"


@dataclass(frozen=True)
class WideVisit:
    """One scheduled visit of a wide table: its time and its columns."""

    time: float
    columns: dict[str, str]


@dataclass(frozen=True)
class VisitsSpec:
    """Serial measurements: several rows a patient, or a few columns a visit."""

    file: str | None = None
    id: str = "id"
    time: str | None = None
    columns: dict[str, str] = field(default_factory=dict)
    fvc_unit: str = "L"
    wide: tuple[WideVisit, ...] = ()
    baseline: str = "nearest"
    baseline_window_months: float = 3.0
    format: FileFormat = DEFAULT

    @property
    def given(self) -> bool:
        """Whether the study has serial measurements at all."""
        return self.time is not None or bool(self.wide)


@dataclass(frozen=True)
class JoinSpec:
    """A further table whose columns are joined to the patients' by id.

    Attributes
    ----------
    file : str or None
        Beside the TOML; None for another sheet of the patients' workbook.
    id : str
        Its column of ids.
    columns : tuple of str
        Columns that are taken; empty for all.
    """

    file: str | None
    id: str
    columns: tuple[str, ...] = ()
    format: FileFormat = DEFAULT


@dataclass(frozen=True)
class ReadingSheet:
    """A table with one row a reading, as `dlild report` makes it."""

    file: str | None
    id: str = "id"
    reader: str = "reader"
    value: str = "extent_percent"
    format: FileFormat = DEFAULT


@dataclass(frozen=True)
class Readings:
    """Several readers' readings of the same scans.

    Attributes
    ----------
    columns : tuple of str
        One column a reader.
    kind : {"number", "category"}
        What a reading is.
    unit : str
        Of numbers: "percent" (the extent, as DL-ILD), "fraction" or "points".
    levels : tuple of str
        Of categories, from none to severe.
    sheet : ReadingSheet or None
        The table that the columns are made of.
    """

    columns: tuple[str, ...] = ()
    kind: str = "number"
    unit: str = "points"
    levels: tuple[str, ...] = ()
    sheet: ReadingSheet | None = None


@dataclass(frozen=True)
class OutcomeSpec:
    """Where the outcome stands in the patients' table."""

    rule: str = "recorded"
    time: str | None = None
    event: str | None = None
    death_time: str | None = None
    transplant_time: str | None = None
    last_seen: str | None = None
    death: str = "event"
    codes: dict[str, str] = field(default_factory=dict)


MORE = ("reclassification", "auc-over-time")
"""Reclassification (NRI, IDI), and the AUC at twelve times between the horizons."""


@dataclass(frozen=True)
class Plan:
    """What is asked of the data.

    `more` names what is computed only where it is asked for: see `MORE`. `prevalence` is the
    share of progression where the model is to be used, for decision curves; None: the cohort's.
    """

    seed: int = 1
    horizons_months: tuple[float, ...] = (12.0, 24.0)
    groups: str | float = "youden"
    adjust: tuple[str, ...] = ()
    base: tuple[str, ...] = ()
    predictors: tuple[str, ...] = ("score",)
    folds: int = 5
    repeats: int = 20
    bootstraps: int = 200
    site: str | None = None
    landmarks_months: tuple[float, ...] = (6.0, 12.0)
    tolerance_months: float = 1.0
    more: tuple[str, ...] = ()
    prevalence: float | None = None

    @property
    def horizon(self) -> float:
        """The last horizon, at which the two-way outcome is read."""
        return self.horizons_months[-1]


@dataclass(frozen=True)
class Study:
    """Everything that the TOML says."""

    title: str
    score: Measure | None
    visual: Measure | None
    function: LungFunction
    covariates: tuple[Covariate, ...]
    table: TableSpec
    visits: VisitsSpec
    outcome: OutcomeSpec
    plan: Plan
    readings: Readings = field(default_factory=Readings)
    repeats: tuple[str, ...] = ()
    joins: tuple[JoinSpec, ...] = ()
    results_id: str = "folder"
    folder: Path = Path()
    setting: dict[str, str] = field(default_factory=dict)

    def covariate(self, name: str) -> Covariate | None:
        """Find a covariate by its name."""
        return next((item for item in self.covariates if item.name == name), None)

    def label(self, name: str) -> str:
        """Name a canonical column as the report does."""
        if name == "score" and self.score:
            return self.score.label
        if name == "visual" and self.visual:
            return self.visual.label
        covariate = self.covariate(name)
        if covariate:
            return covariate.label
        fixed = {
            "fvc_percent": "FVC % predicted",
            "dlco_percent": "DLCO % predicted",
            "fvc_litres": "FVC (L)",
        }
        return fixed.get(name, name)
