"""Reading the TOML of a study: every key is checked, and a key that does not exist is a fault.

`analysis/README.md` shows a whole file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dlild_analysis.cohort.study import (
    MORE,
    Covariate,
    JoinSpec,
    LungFunction,
    Measure,
    OutcomeSpec,
    Plan,
    Readings,
    ReadingSheet,
    Study,
    TableSpec,
    VisitsSpec,
    WideVisit,
)
from dlild_analysis.cohort.table.dates import ORDERS
from dlild_analysis.cohort.table.file_format import FileFormat
from dlild_analysis.cohort.table.units import SHARE_TO_PERCENT, TIME_TO_MONTHS, VOLUME_TO_LITRES
from dlild_analysis.cohort.toml_section import Section, read_toml
from dlild_analysis.errors import StudyError

SCHEMA_VERSION = 1


RESERVED = ("id", "score", "visual", "fvc_percent", "dlco_percent", "fvc_litres", "time", "status")


def load_study(path: Path) -> Study:
    """Read and check the TOML that describes a study.

    Raises
    ------
    StudyError
        A key is unknown, missing or holds what it may not; the message names it and says what to
        write.
    """
    return parse_study(read_toml(path), path.name, path.parent)


def parse_study(data: dict[str, Any], source: str = "study.toml", folder: Path = Path()) -> Study:
    """Check the content of a study's TOML; see `load_study`."""
    top = Section(data, "", source)
    version = top.integer("schema_version", SCHEMA_VERSION, 1, 1_000)
    if version != SCHEMA_VERSION:
        raise StudyError(
            f"{source}: schema_version is {version}; this package reads version {SCHEMA_VERSION}"
        )
    head = top.section("study")
    title = head.text("title", "A cohort with interstitial lung disease")
    setting = {key: head.text(key) for key in ("design", "setting", "funding", "scanner", "ethics")}
    head.finish()
    covariates = _covariates(top.section("covariates"))
    names = tuple(item.name for item in covariates)
    results = top.section("results")
    results_id = results.choice("id_from", ("folder", "file"), "folder")
    results.finish()
    repeats = top.section("repeats")
    repeat_columns = repeats.texts("columns")
    repeats.finish()
    table = _table(top.section("table"))
    study = Study(
        title=str(title),
        score=_measure(top.section("score"), "DL-ILD"),
        visual=_measure(top.section("visual"), "Visual score", "points"),
        function=_function(top.section("lung_function")),
        covariates=covariates,
        table=table,
        visits=_visits(top.section("visits"), table.format),
        outcome=_outcome(top.section("outcome")),
        plan=_plan(top.section("analysis"), names),
        readings=_readings(top.section("readings"), table.format),
        repeats=repeat_columns,
        joins=_joins(top, table),
        results_id=results_id,
        folder=folder,
        setting={key: value for key, value in setting.items() if value is not None},
    )
    top.finish()
    _check_together(study, source)
    return study


def _measure(section: Section, label: str, unit: str = "percent") -> Measure | None:
    column = section.text("column")
    measure = Measure(
        column=column or "",
        label=str(section.text("label", label)),
        unit=section.choice("unit", (*SHARE_TO_PERCENT, "points"), unit),
        repeatability=section.number("repeatability", 0.0, 0.0, 100.0)
        if "repeatability" in section
        else None,
    )
    section.finish()
    return measure if column else None


def _covariates(section: Section) -> tuple[Covariate, ...]:
    found = []
    for name in section.names():
        if name in RESERVED:
            raise StudyError(f"{section.where(name)}: the name is taken; choose another")
        value = section.raw(name)
        part = Section(
            {"column": value} if isinstance(value, str) else value,
            f"{section.name}.{name}",
            section.source,
        )
        reference = part.text("reference")
        kind = part.choice(
            "type", ("number", "category", "birth-date"), "category" if reference else "number"
        )
        born = kind == "birth-date"
        found.append(
            Covariate(
                name=name,
                column=str(part.text("column", name)),
                kind="number" if born else kind,
                label=str(part.text("label", name.replace("_", " ").capitalize())),
                unit=part.text("unit") or ("years" if born else ""),
                reference=reference,
                low=part.number("minimum", float("-inf"), float("-inf"), float("inf")),
                high=part.number("maximum", float("inf"), float("-inf"), float("inf")),
                birth_date=born,
            )
        )
        part.finish()
    return tuple(found)


def _function(section: Section) -> LungFunction:
    function = LungFunction(
        fvc_percent=section.text("fvc_percent"),
        dlco_percent=section.text("dlco_percent"),
        fvc_volume=section.text("fvc_volume"),
        fvc_unit=section.choice("fvc_unit", tuple(VOLUME_TO_LITRES), "L"),
    )
    section.finish()
    return function


def _table(section: Section) -> TableSpec:
    table = TableSpec(
        layout=section.choice("layout", ("patients", "visits"), "patients"),
        id=str(section.text("id", "id")),
        time_unit=section.choice("time_unit", tuple(TIME_TO_MONTHS), "months"),
        time_origin=str(section.text("time_origin", "the HRCT")),
        origin_date=section.text("origin_date"),
        date_order=section.choice("date_order", ORDERS, ORDERS[0])
        if "date_order" in section
        else section.text("date_order"),
        format=_format(section, FileFormat()),
        duplicates=section.choice("duplicates", ("reject", "first", "last"), "reject"),
        faults=section.choice("faults", ("reject", "exclude"), "reject"),
        missing=section.choice(
            "missing", ("complete-case", "multiple-imputation"), "complete-case"
        ),
        imputations=section.integer("imputations", 20, 2, 200),
    )
    section.finish()
    return table


def _format(section: Section, default: FileFormat) -> FileFormat:
    """Read how a table's file is written; what is not said is as in the patients' table."""
    codes = section.raw("missing_codes")
    plain, by_column = default.missing_codes, dict(default.column_codes)
    if isinstance(codes, dict):
        plain = ()
        by_column = {
            name: _code_list(value, section.where(f"missing_codes.{name}"))
            for name, value in codes.items()
        }
    elif codes is not None:
        plain, by_column = _code_list(codes, section.where("missing_codes")), {}
    separator = section.raw("separator")
    if separator is not None and (not isinstance(separator, str) or len(separator) != 1):
        raise StudyError(
            f'{section.where("separator")} is {separator!r}; write one character, such as ";"'
        )
    return FileFormat(
        sheet=section.text("sheet"),
        header=section.integer("header", 1, 1, 1_000),
        encoding=section.text("encoding"),
        separator=separator,
        decimal=section.choice("decimal", (".", ","), default.decimal),
        missing_codes=plain,
        column_codes=by_column,
    )


def _code_list(value: object, where: str) -> tuple[str, ...]:
    """Read a list of numbers and texts that stand for a missing value."""
    if not isinstance(value, list) or not all(type(item) in (int, float, str) for item in value):
        raise StudyError(f'{where} is {value!r}; write a list such as [-9, 999, "unknown"]')
    return tuple(f"{item:g}" if isinstance(item, float) else str(item) for item in value)


def _readings(section: Section, default: FileFormat) -> Readings:
    """Read where the readers' readings stand: one column a reader, or a sheet of readings."""
    columns = section.texts("columns")
    levels = section.texts("levels")
    file, sheet_name = section.text("file"), section.raw("sheet")
    sheet = None
    if file is not None or sheet_name is not None:
        if columns:
            raise StudyError(
                f"{section.where('columns')} and readings.file exclude each other; give one"
            )
        sheet = ReadingSheet(
            file=file,
            id=str(section.text("id", "id")),
            reader=str(section.text("reader", "reader")),
            value=str(section.text("value", "extent_percent")),
            format=_format(section, default),
        )
    readings = Readings(
        columns=columns,
        kind=section.choice("kind", ("number", "category"), "category" if levels else "number"),
        unit=section.choice(
            "unit", (*SHARE_TO_PERCENT, "points"), "percent" if sheet else "points"
        ),
        levels=levels,
        sheet=sheet,
    )
    section.finish()
    if readings.kind == "category" and len(levels) < 2:
        raise StudyError(
            f"{section.where('levels')} is missing; list the categories in their order, such as "
            '["none", "mild", "severe"]'
        )
    return readings


def _joins(top: Section, table: TableSpec) -> tuple[JoinSpec, ...]:
    value = top.raw("join")
    if value is None:
        return ()
    if not isinstance(value, list):
        raise StudyError(
            f"{top.where('join')} must be a list of tables; write [[join]], then file and id"
        )
    found = []
    for index, item in enumerate(value):
        part = Section(item, f"join[{index}]", top.source)
        join = JoinSpec(
            file=part.text("file"),
            id=str(part.text("id", table.id)),
            columns=part.texts("columns"),
            format=_format(part, table.format),
        )
        part.finish()
        if join.file is None and join.format.sheet is None:
            raise StudyError(
                f"{part.where('file')} is missing; name the file, or with sheet alone another "
                "sheet of the patients' workbook"
            )
        found.append(join)
    return tuple(found)


VISIT_COLUMNS = ("score", "fvc_percent", "fvc_volume", "dlco_percent", "symptoms", "radiology")


def _visits(section: Section, default: FileFormat) -> VisitsSpec:
    columns = {key: section.text(key) for key in VISIT_COLUMNS}
    visits = VisitsSpec(
        file=section.text("file"),
        id=str(section.text("id", "id")),
        time=section.text("time"),
        columns={key: value for key, value in columns.items() if value},
        fvc_unit=section.choice("fvc_unit", tuple(VOLUME_TO_LITRES), "L"),
        wide=_wide(section),
        baseline=section.choice("baseline", ("nearest", "first"), "nearest"),
        baseline_window_months=section.number("baseline_window_months", 3.0, 0.0, 120.0),
        format=_format(section, default),
    )
    section.finish()
    return visits


def _wide(section: Section) -> tuple[WideVisit, ...]:
    value = section.raw("wide")
    if value is None:
        return ()
    if not isinstance(value, list):
        raise StudyError(
            f'{section.where("wide")} must be a list such as [{{ time = 0, fvc_percent = "fvc0" }}]'
        )
    found = []
    for index, item in enumerate(value):
        part = Section(item, f"{section.name}.wide[{index}]", section.source)
        if "time" not in part:
            raise StudyError(f"{part.where('time')} is missing; it is the time of that visit")
        time = part.number("time", 0.0, -1e6, 1e6)
        columns = {key: part.text(key) for key in VISIT_COLUMNS}
        part.finish()
        found.append(WideVisit(time, {key: name for key, name in columns.items() if name}))
    return tuple(found)


def _outcome(section: Section) -> OutcomeSpec:
    outcome = OutcomeSpec(
        rule=str(section.text("rule", "recorded")),
        time=section.text("time"),
        event=section.text("event"),
        death_time=section.text("death_time"),
        transplant_time=section.text("transplant_time"),
        last_seen=section.text("last_seen"),
        death=section.choice("death", ("event", "competing", "ignore"), "event"),
        codes=_codes(section),
    )
    section.finish()
    return outcome


def _codes(section: Section) -> dict[str, str]:
    """Read which value of the event column means what."""
    if section.raw("codes") is None:
        return {}
    part = section.section("codes")
    codes = {}
    for meaning in ("censored", "progression", "death"):
        value = part.raw(meaning)
        if value is None:
            continue
        if type(value) not in (int, float, str):
            raise StudyError(f"{part.where(meaning)} is {value!r}; write a number or a text")
        codes[meaning] = f"{value:g}" if isinstance(value, float) else str(value)
    part.finish()
    if not {"progression", "death"} & set(codes):
        raise StudyError(f"{section.where('codes')} must say which value is the progression")
    if len({value.strip().lower() for value in codes.values()}) < len(codes):
        raise StudyError(f"{section.where('codes')} gives one value two meanings")
    return codes


def _plan(section: Section, names: tuple[str, ...]) -> Plan:
    groups = section.raw("groups")
    if groups is None:
        groups = "youden"
    if groups not in ("youden", "median") and type(groups) not in (int, float):
        raise StudyError(
            f'{section.where("groups")} is {groups!r}; write "youden", "median" or the cut-off as '
            "a number"
        )
    site = section.text("site")
    # A model that is to travel cannot have the sites of its own study as a covariate.
    others = tuple(name for name in names if name != site)
    default = ("score", *others)
    plan = Plan(
        seed=section.integer("seed", 1, 0, 2**32 - 1),
        horizons_months=section.numbers("horizons_months", (12.0, 24.0)),
        groups=groups,
        adjust=section.texts("adjust", default),
        base=section.texts("base", others),
        predictors=section.texts("predictors", section.texts("adjust", default)),
        folds=section.integer("folds", 5, 2, 50),
        repeats=section.integer("repeats", 20, 1, 1_000),
        bootstraps=section.integer("bootstraps", 200, 20, 10_000),
        site=site,
        landmarks_months=section.numbers("landmarks_months", (6.0, 12.0)),
        tolerance_months=section.number("tolerance_months", 1.0, 0.0, 6.0),
        more=section.texts("more"),
        prevalence=_prevalence(section),
    )
    section.finish()
    unknown = [name for name in plan.more if name not in MORE]
    if unknown:
        raise StudyError(f"{section.where('more')} names {unknown[0]!r}; known: {', '.join(MORE)}")
    if list(plan.horizons_months) != sorted(set(plan.horizons_months)):
        raise StudyError(f"{section.where('horizons_months')} must rise, each month once")
    if plan.site is not None and plan.site not in names:
        raise StudyError(
            f"{section.where('site')} names {plan.site!r}, which is no covariate; "
            f"known: {', '.join(names)}"
        )
    if list(plan.landmarks_months) != sorted(set(plan.landmarks_months)):
        raise StudyError(f"{section.where('landmarks_months')} must rise, each month once")
    allowed = {"score", "visual", "fvc_percent", "dlco_percent", *names}
    for key, values in (
        ("adjust", plan.adjust),
        ("base", plan.base),
        ("predictors", plan.predictors),
    ):
        for name in values:
            if name not in allowed:
                raise StudyError(
                    f"{section.where(key)} names {name!r}, which is no covariate; "
                    f"known: {', '.join(sorted(allowed))}"
                )
    return plan


def _prevalence(section: Section) -> float | None:
    """Read the share of progression that decision curves stand for; None: the cohort's own."""
    if section.raw("prevalence") is None:
        return None
    value = section.number("prevalence", 0.5, 0.0, 1.0)
    if not 0 < value < 1:
        raise StudyError(
            f"{section.where('prevalence')} is {value:g}; write a share between 0 and 1"
        )
    return value


def _check_together(study: Study, source: str) -> None:
    outcome, visits = study.outcome, study.visits
    if outcome.rule.split("@")[0] == "recorded" and not (outcome.time and outcome.event):
        raise StudyError(
            f"{source}: outcome.rule is 'recorded', so outcome.time and outcome.event must name "
            "the columns; or name a rule that reads serial visits (dlild-analysis rules lists "
            "them)"
        )
    if study.table.layout == "visits" and visits.time is None:
        raise StudyError(
            f"{source}: table.layout is 'visits', so visits.time must name the time column"
        )
    if visits.wide and visits.time:
        raise StudyError(f"{source}: visits.wide and visits.time exclude each other; give one")
    if visits.given and not any((visits.columns, *(item.columns for item in visits.wide))):
        raise StudyError(f"{source}: visits names no measurement; give fvc_percent, for example")
