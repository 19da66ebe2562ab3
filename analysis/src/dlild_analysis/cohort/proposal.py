"""A study proposed from its tables: what each column seems to be, and the questions that stay.

The proposal is a TOML with its questions as comments. It looks at names and values only; what it
cannot know (the unit of a score, the origin of times, which level is the reference) it asks.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from dlild_analysis.cohort.columns import MAX_LEVELS
from dlild_analysis.cohort.table.codes import NEGATIVE_CODES, POSITIVE_CODES
from dlild_analysis.cohort.table.dates import looks_like_date, read_dates
from dlild_analysis.cohort.table.file_format import FileFormat
from dlild_analysis.cohort.table.table_file import read_table, sheets
from dlild_analysis.cohort.table.tables import MISSING, UNKNOWN_WORDS
from dlild_analysis.cohort.table.text import plain_text
from dlild_analysis.cohort.table.units import TIME_TO_MONTHS
from dlild_analysis.errors import InputRejectedError

FILL = "TO FILL"
"""What stands in a key that only the author can fill; `fit` names the key."""

ASK = "# Question: "
HEADER_LINES = 12
TWICE = "is there twice"

ROLES: dict[str, str] = {
    "id": r"^(id|pid|pseudonym|n?mrn|usubjid|nhc|((patient|subject|case|paciente|patient(en|in))"
    r"|(pat|study|studien|record|fall|probanden)(?= ?[in]))"
    r" ?(id|no|nr|num|number|nummer|kennung)?"
    r"|(n|no|num|id|numero)( de)? (patient|paciente|dossier)"
    r"|患者(编号)?|编号|病历号|住院号|登记号|病人编号)$",
    "sex": r"\b(sex|gender|geschlecht|sexe|sexo)\b|性别",
    "birth": r"\b(birth|born|dob|geburts\w*|geb ?datum|naissance|nacimiento)\b|出生",
    "age": r"\b(age|alter|edad)\b|年龄",
    "smoking": r"smok|rauch|nikotin|tabak|tabac|tabaq|fumeur|fumador|吸烟",
    "death": r"\b(death|died|dead|dod|tod|todes\w*|sterbe\w*|verstorben|gestorben|exitus|deces"
    r"|decede|muerte|fallecimiento)\b|死亡",
    "transplant": r"trans?plant|移植",
    "last_seen": r"\b(last ?(seen|contact|visit|follow)|letzte\w* (\w+ )?(kontakt|visite|kontrolle"
    r"|vorstellung|fu|follow)|derni\w+ (contact|visite|nouvelle)|ultim\w+ (contacto|visita))"
    r"|末次|最后",
    "ct_date": r"\b(hr)?ct\b.*\b(date|day|datum|fecha)\b|\b(date|day|datum|fecha)\b.*\b(hr)?ct\b"
    r"|\b(hr)?ct ?datum\b|ct.*日期|日期.*ct",
    "event": r"\b(event|ereignis|status|progr\w*|verschlechterung|outcome|endpoint|endpunkt"
    r"|evolution|evento)\b|结局|进展",
    "dlco": r"\b(dlco|tlco|kco|dlcosb)\b|弥散",
    "fvc": r"\b(fvc|vc|fvk|cvf)\b|用力肺活量",
    "score": r"dl ?ild|\bild\b.*\b(extent|score|percent|ausmass|anteil)\b"
    r"|fibros|lesion|lasion|病变",
    "visual": r"\b(visu\w+|goh|warrick|semi ?quant\w*)\b|视觉|半定量",
    "reading": r"\b(reader|radiologist|radiologe|observer|rater|reading|befunder|leser)\b ?\w{0,3}$"
    r"|读片|阅片",
    "time": r"\b(weeks?|months?|days?|years?|time|visit ?date|date|wochen?|monate?n?|tage?n?"
    r"|jahre?n?|zeit|datum|\w+datum|fecha|mois|jours|semaines|meses|dias|semanas)\b|随访|时间|日期",
}
PERCENT = r"%|\b(percent|pred|predicted|pct|pp|prozent|soll)\b|预计|占"
UNITS = {
    "days": r"\b(days?|tage?n?|jours|dias)\b|天",
    "weeks": r"\b(weeks?|wochen?|semaines|semanas)\b|周",
    "months": r"\b(months?|monate?n?|mois|meses)\b|月",
    "years": r"\b(years?|jahre?n?|ans|anos)\b|年",
}
YES_WORDS = ("yes", "y", "true", "ja", "j", "oui", "si", "sí", "是", "有")
NO_WORDS = ("no", "n", "false", "nein", "non", "否", "无", "無")


def words_of(name: str) -> str:
    """Write a column's name as words in lower case, without signs but the percent sign."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", plain_text(name))
    return " ".join(re.sub(r"[^\w%]+|_", " ", spaced.replace("%", " % ")).lower().split())


@dataclass(frozen=True, eq=False)
class Column:
    """One column as the proposal sees it."""

    name: str
    cells: pd.Series
    decimal: str = "."

    @cached_property
    def words(self) -> str:
        """Its name as words."""
        return words_of(self.name)

    @cached_property
    def plain_words(self) -> str:
        """Its name as words without accents, as the patterns are written."""
        parts = unicodedata.normalize("NFKD", self.words.replace("ß", "ss"))
        return "".join(char for char in parts if not unicodedata.combining(char))

    @cached_property
    def known(self) -> pd.Series:
        """Cells with a value."""
        return self.cells[~self.cells.isin(MISSING)]

    @cached_property
    def odd_words(self) -> list[str]:
        """Words that may stand for a missing value."""
        low = self.known.str.casefold()
        return sorted(set(self.known[low.isin(UNKNOWN_WORDS)]))

    @cached_property
    def numbers(self) -> np.ndarray:
        """Numbers among the cells."""
        text = self.known.str.replace(",", ".", regex=False) if self.decimal == "," else self.known
        values = pd.to_numeric(text, errors="coerce").to_numpy(dtype=np.float64)
        return np.asarray(values[np.isfinite(values)])

    @cached_property
    def codes(self) -> list[str]:
        """Numbers such as -9 and 999 that lie apart from all others."""
        values = self.numbers
        rest = values[~np.isin(values, (*NEGATIVE_CODES, *POSITIVE_CODES))]
        if rest.size < 10:
            return []
        low, high, found = rest.min(), rest.max(), []
        for code in np.unique(values):
            negative = code in NEGATIVE_CODES[3:] and low >= 0
            if negative or (code in POSITIVE_CODES and code - high > high - low):
                found.append(f"{code:g}")
        return found

    @cached_property
    def kind(self) -> str:
        """What most of its cells are: number, date, words, or empty."""
        rest = self.known[~self.known.isin(self.odd_words)]
        if rest.empty:
            return "empty"
        bare = rest.str.fullmatch(r"\d+").all()
        dated = int(rest.map(looks_like_date).sum())
        if dated > 0.8 * len(rest) and (not bare or self.is_named("time")):
            return "date"
        return "number" if self.numbers.size >= 0.8 * len(rest) else "words"

    @cached_property
    def levels(self) -> list[str]:
        """Different values, the most common first."""
        counts = Counter(self.known)
        return sorted(counts, key=lambda level: (-counts[level], level))

    @cached_property
    def middle(self) -> float:
        """The median of its numbers."""
        values = self.numbers
        for code in self.codes:
            values = values[values != float(code)]
        return float(np.median(values)) if values.size else float("nan")

    @cached_property
    def top(self) -> float:
        """The largest of its numbers that is no code."""
        values = [value for value in self.numbers if f"{value:g}" not in self.codes]
        return max(values, default=float("nan"))

    def is_named(self, role: str) -> bool:
        """Whether the name says that it has a role."""
        return bool(re.search(ROLES[role], self.plain_words, re.ASCII))

    @cached_property
    def counts_rows(self) -> bool:
        """Whether its cells are whole numbers, all there and all different, as ids may be."""
        cells = self.cells
        whole = len(cells) > MAX_LEVELS and bool(cells.str.fullmatch(r"\d+").all())
        return whole and not cells.duplicated().any()

    @property
    def percent(self) -> bool:
        """Whether the name says percent."""
        return bool(re.search(PERCENT, self.plain_words, re.ASCII))


@dataclass(frozen=True, eq=False)
class Sheet:
    """One table as the proposal sees it."""

    path: Path
    form: FileFormat
    columns: tuple[Column, ...]
    rows: int

    @property
    def source(self) -> str:
        """Its name."""
        return self.path.name + (f" ({self.form.sheet})" if self.form.sheet else "")

    @cached_property
    def id(self) -> Column | None:
        """The column of the ids: by its name, else the first whose values could be ids."""
        named = [item for item in self.columns if item.is_named("id") and len(item.known)]
        if named:
            return named[0]
        text = [item for item in self.columns if item.kind == "words"]
        found = next((item for item in text if len(item.levels) > MAX_LEVELS), None)
        return found or next((item for item in self.columns[:2] if item.counts_rows), None)

    @property
    def repeats(self) -> bool:
        """Whether ids have several rows."""
        return self.id is not None and len(self.id.levels) < 0.9 * len(self.id.known)

    def named(self, role: str, *kinds: str) -> list[Column]:
        """List the columns that are called by a role and hold one of some kinds."""
        return [item for item in self.columns if item.is_named(role) and item.kind in kinds]


def look(path: Path, sheet: str | None = None) -> Sheet:
    """Read a table and look at its columns; a header that stands lower is found.

    Raises
    ------
    InputRejectedError
        The file cannot be read, or no line could be its header.
    """
    last: InputRejectedError | None = None
    for header in range(1, HEADER_LINES + 1):
        try:
            file = read_table(path, FileFormat(sheet=sheet, header=header))
        except InputRejectedError as error:
            if "table.header" not in str(error):
                raise (last or error) from error
            last = last or error
            continue
        found = _looked_at(path, FileFormat(sheet=sheet, header=header), file.frame)
        if last is not None and TWICE in str(last) and not _names_ids(found):
            continue  # the rows below a header that names a column twice are no header
        return found
    raise last or InputRejectedError(f"{path.name}: no line names the columns")


def _names_ids(sheet: Sheet) -> bool:
    return any(item.is_named("id") for item in sheet.columns)


def _looked_at(path: Path, form: FileFormat, frame: pd.DataFrame) -> Sheet:
    names = [name for name in frame.columns if name != "row"]
    cells = {
        name: frame[name].astype(object).where(frame[name].notna(), "").astype(str).map(plain_text)
        for name in names
    }
    comma = sum(int(part.str.fullmatch(r"[-+]?\d+,\d+").sum()) for part in cells.values())
    point = sum(int(part.str.fullmatch(r"[-+]?\d+\.\d+").sum()) for part in cells.values())
    decimal = "," if comma > point else "."
    form = FileFormat(sheet=form.sheet, header=form.header, decimal=decimal)
    return Sheet(
        path, form, tuple(Column(name, cells[name], decimal) for name in names), len(frame)
    )


@dataclass
class Proposal:
    """A proposed study.

    Attributes
    ----------
    text : str
        The TOML.
    questions : list of str
        What it asks, in its order.
    to_fill : list of str
        Keys without which nothing can be analysed.
    """

    text: str = ""
    questions: list[str] = field(default_factory=list)
    to_fill: list[str] = field(default_factory=list)


class _Writer:
    """Writes sections of a TOML, with questions as comments above the keys they are about."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.proposal = Proposal()
        self._section = ""

    def section(self, name: str) -> None:
        self._section = name.strip("[]")
        self.lines += ["", f"[{name}]"]

    def ask(self, text: str) -> None:
        self.proposal.questions.append(text)
        self.lines.append(ASK + text)

    def key(self, key: str, value: str, comment: str = "") -> None:
        self.lines.append(f"{key} = {value}" + (f"  # {comment}" if comment else ""))

    def text(self, key: str, value: str, comment: str = "") -> None:
        self.key(key, quoted(value), comment)

    def fill(self, key: str, question: str) -> None:
        self.ask(question)
        self.proposal.to_fill.append(f"{self._section}.{key}")
        self.text(key, FILL)

    def say(self, text: str) -> None:
        self.lines.append(f"# {text}")


def quoted(text: str) -> str:
    """Write a text as TOML."""
    return json.dumps(text, ensure_ascii=False)


def propose(table: Path, sheet: str | None = None, others: Sequence[Path] = ()) -> Proposal:
    """Look at a table, and at others that belong to it, and propose the study's TOML.

    Parameters
    ----------
    table : Path
        CSV, workbook or Parquet. Of a workbook, the sheet that looks like the patients' or visits'
        table is taken, and sheets that share its ids are joined.
    sheet : str, optional
        The sheet to take.
    others : sequence of Path
        Further tables to join by id.

    Raises
    ------
    InputRejectedError
        A file cannot be read, or has no column of ids.
    """
    main, further, hidden = _tables(table, sheet, others)
    if main.id is None:
        there = ", ".join(item.name for item in main.columns)
        raise InputRejectedError(
            f"{main.source}: no column looks like the ids of patients; the table has: {there}; "
            "call it id"
        )
    return _write(main, [item for item in further if item.id is not None], hidden)


def _tables(
    table: Path, sheet: str | None, others: Sequence[Path]
) -> tuple[Sheet, list[Sheet], dict[Path, list[str]]]:
    """Return the main table, further ones, and the hidden sheets that are left out, by file."""
    names, left_out = _sheets_of(table, sheet)
    hidden = {table: left_out}
    found = []
    for name in names:
        try:
            found.append(look(table, name))
        except InputRejectedError:
            if name in (None, sheet):
                raise
    main = max(
        (item for item in found if sheet is None or item.form.sheet in (None, sheet)), key=_weight
    )
    further = [item for item in found if item is not main]
    for path in others:
        names, hidden[path] = _sheets_of(path)
        further += [look(path, name) for name in names]
    return main, further, hidden


def _sheets_of(path: Path, asked: str | None = None) -> tuple[list[str | None], list[str]]:
    """Return the sheets to look at, None for the only one, and the hidden ones that are left out.

    A hidden sheet is an old version, more often than not; only if it is asked for, or all are
    hidden, is it looked at.
    """
    shown = sheets(path)
    if asked is not None and shown and asked not in shown:
        raise InputRejectedError(
            f"{path.name}: no sheet {asked!r}; it has {', '.join(map(repr, shown))}"
        )
    if len(shown) < 2:
        return [None], []
    wanted = [name for name, visible in shown.items() if visible or name == asked]
    if not any(shown.values()):
        wanted = list(shown)
    return [*wanted], [name for name in shown if name not in wanted]


def _weight(sheet: Sheet) -> tuple[bool, int, int]:
    """Rank sheets: with ids and follow-up first, then by their rows."""
    if sheet.id is None:
        return (False, 0, 0)
    follow_up = len(sheet.named("event", "number", "words")) + len(
        sheet.named("time", "number", "date")
    )
    return (True, min(follow_up, 1), sheet.rows)


def _write(main: Sheet, further: list[Sheet], hidden: dict[Path, list[str]]) -> Proposal:
    assert main.id is not None
    out = _Writer()
    for path, left_out in hidden.items():
        if left_out:
            names = ", ".join(map(repr, left_out))
            out.ask(f"{path.name} has hidden sheets ({names}), which are left out: right?")
    ids = set(main.id.known)
    joined, visits = _roles_of_sheets(out, main, further)
    layout = "visits" if main.repeats and main.named("time", "number", "date") else "patients"
    serial = main if layout == "visits" else visits
    used: set[str] = {main.id.name}
    columns = [*main.columns, *(column for item in joined for column in item.columns)]
    everything = Sheet(main.path, main.form, tuple(columns), main.rows)
    time = _visit_time(serial)
    ct_date = next(iter(everything.named("ct_date", "date")), None)
    head = [
        "# Proposed by `dlild-analysis init`. Answer the questions; correct what is wrong.",
        "schema_version = 1",
    ]
    out.lines = [*head, *out.lines]
    out.section("study")
    out.text("title", "A cohort with interstitial lung disease")
    out.say(
        'design = "", setting = "", scanner = "", ethics = "", funding = "": for the checklists'
    )
    _table_section(out, main, serial, everything, layout, time, ct_date)
    used |= {column.name for column in (time, ct_date) if column}
    for item in joined:
        _join_section(out, main, item, ids)
        assert item.id is not None
        used.add(item.id.name)
    _score_section(out, everything, used)
    _serial_sections(out, main, serial, everything, time, used)
    follow = _follow_up(everything, used)
    used |= {column.name for column in follow.values()}
    readings = [item for item in everything.named("reading", "number") if item.name not in used]
    if len(readings) > 1:
        used |= {item.name for item in readings}
    _covariates(out, everything, used)
    _outcome_section(out, follow, serial, time, everything)
    if len(readings) > 1:
        out.section("readings")
        out.key("columns", "[" + ", ".join(quoted(item.name) for item in readings) + "]")
    out.section("analysis")
    out.key("seed", "1")
    out.ask("which horizons does the study ask about, in months?")
    out.key("horizons_months", "[12, 24]")
    out.say('groups = "youden": high against low; or "median", or a cut-off chosen before')
    proposal = out.proposal
    proposal.text = "\n".join(out.lines) + "\n"
    return proposal


HORIZONS = ((12.0, 24.0), (6.0, 12.0), (3.0, 6.0))


def within_follow_up(proposal: Proposal, last: float) -> tuple[float, ...] | None:
    """Propose horizons that lie within the follow-up; changes the proposal's text.

    Parameters
    ----------
    last : float
        Longest follow-up in months.

    Returns
    -------
    tuple of float or None
        The horizons; None where the proposed ones are kept.
    """
    found = next((pair for pair in HORIZONS if pair[-1] <= last + 1.0), HORIZONS[-1])
    if found == HORIZONS[0]:
        return None
    usual = "horizons_months = [12, 24]"
    proposed = f"horizons_months = [{found[0]:g}, {found[1]:g}]"
    note = f"  # follow-up ends at {last:.4g} months"
    proposal.text = proposal.text.replace(usual, proposed + note)
    return found


def _roles_of_sheets(
    out: _Writer, main: Sheet, further: list[Sheet]
) -> tuple[list[Sheet], Sheet | None]:
    """Tell sheets to join from that of the visits; those that are neither are named."""
    assert main.id is not None
    ids = set(main.id.known)
    mine = {column.name for column in main.columns}
    joined: list[Sheet] = []
    visits: Sheet | None = None
    for item in further:
        assert item.id is not None
        shared = len(set(item.id.known) & ids)
        if not shared:
            out.say(f"{item.source} shares no id with {main.source} and is left out.")
            _say_near_ids(out, set(item.id.known), ids)
        elif item.repeats and not main.repeats and item.named("time", "number", "date"):
            visits = item
        elif item.repeats:
            out.say(f"{item.source} has several rows an id and is left out.")
        elif {column.name for column in item.columns} - {item.id.name} <= mine:
            out.ask(
                f"{item.source} has the same columns as {main.source}, and is left out: is "
                f"{main.source} the right one? init --sheet takes the other."
            )
        else:
            joined.append(item)
    return joined, visits


def _say_near_ids(out: _Writer, theirs: set[str], ours: set[str]) -> None:
    """Ask about ids that differ in leading zeros only, as Excel makes them; none is matched."""
    near = {name.lstrip("0") for name in theirs} & {name.lstrip("0") for name in ours} - {""}
    if near:
        out.ask(
            f"{len(near)} of its {len(theirs)} ids differ in leading zeros only: did Excel drop "
            "them? Write the ids alike in both tables."
        )


def _visit_time(serial: Sheet | None) -> Column | None:
    if serial is None:
        return None
    found = serial.named("time", "number", "date")
    plain = [item for item in found if not any(item.is_named(n) for n in ("death", "birth"))]
    return next((item for item in plain if not item.is_named("ct_date")), None)


def _unit(columns: list[Column]) -> str | None:
    for column in columns:
        for unit, pattern in UNITS.items():
            if re.search(pattern, column.plain_words, re.ASCII):
                return unit
    return None


def _table_section(
    out: _Writer,
    main: Sheet,
    serial: Sheet | None,
    everything: Sheet,
    layout: str,
    time: Column | None,
    ct_date: Column | None,
) -> None:
    assert main.id is not None
    out.section("table")
    _format_keys(out, main.form)
    out.text("layout", layout, "one row a patient" if layout == "patients" else "one row a visit")
    if not main.id.is_named("id"):
        out.ask(f"are the patients' ids in {main.id.name!r}? Its name does not say so.")
    out.text("id", main.id.name)
    times = [time] if time else everything.named("time", "number", "date")
    dated = any(item.kind == "date" for item in times)
    unit = "months" if dated else _unit(times)
    if unit is None:
        out.ask("in which unit are the times: days, weeks, months or years?")
    out.text("time_unit", unit or "months")
    if ct_date is not None:
        out.text("time_origin", "the HRCT")
        out.text("origin_date", ct_date.name, "the date from which times count")
    else:
        out.ask("from which moment do the times count? The words stand in the report.")
        first = dated and serial is not None
        out.text("time_origin", "the first visit" if first else "the HRCT")
    ambiguous = [item for item in everything.columns if item.kind == "date" and _two_ways(item)]
    if ambiguous:
        name = ambiguous[0].name
        out.ask(f"are the dates of {name!r} day first or month first? Their values do not show it.")
        out.say('date_order = "day-first"')
    codes = _codes(everything)
    if codes:
        out.ask("do these values mean that the true one is missing?")
        out.key("missing_codes", codes)
    repeated = _repeated(serial if layout == "visits" else main, time)
    if repeated:
        what = "id and time" if layout == "visits" else "id"
        out.ask(
            f"{repeated} rows repeat the {what} of another: which is right? "
            '"first" and "last" keep one and name the others, "reject" stops.'
        )
        out.text("duplicates", "first")


def _two_ways(column: Column) -> bool:
    dates = read_dates(column.known.reset_index(drop=True))
    return any("date_order" in problem for problem in dates.problems.values())


def _format_keys(out: _Writer, form: FileFormat, usual: str = ".") -> None:
    if form.sheet is not None:
        out.text("sheet", form.sheet)
    if form.header != 1:
        out.key("header", str(form.header), "line with the names of the columns")
    if form.decimal != usual:
        out.text("decimal", form.decimal)


def _codes(everything: Sheet) -> str:
    parts = []
    for item in everything.columns:
        found = [code for code in item.codes if item.kind == "number"]
        found += [quoted(word) for word in item.odd_words]
        if found:
            parts.append(f"{quoted(item.name)} = [{', '.join(found)}]")
    return "{ " + ", ".join(parts) + " }" if parts else ""


def _repeated(sheet: Sheet | None, time: Column | None) -> int:
    if sheet is None or sheet.id is None:
        return 0
    keys = {"id": sheet.id.cells}
    if time is not None:
        keys["time"] = time.cells
    elif sheet.repeats:
        return 0
    table = pd.DataFrame(keys)
    return int(table[table["id"] != ""].duplicated().sum())


def _join_section(out: _Writer, main: Sheet, item: Sheet, ids: set[str]) -> None:
    assert item.id is not None
    there = set(item.id.known)
    out.lines += ["", "[[join]]"]
    if item.path != main.path:
        out.text("file", item.path.name)
    _format_keys(out, item.form, main.form.decimal)
    shared = len(ids & there)
    out.text("id", item.id.name, f"{shared} of {len(there)} ids are in {main.source}")
    taken = {column.name for column in main.columns}
    clash = [column.name for column in item.columns if column.name in taken]
    clash = [name for name in clash if name != item.id.name]
    if clash:
        keep = [c.name for c in item.columns if c.name not in taken and c is not item.id]
        out.key("columns", "[" + ", ".join(map(quoted, keep)) + "]", f"{clash[0]} is in both")


def _score_section(out: _Writer, everything: Sheet, used: set[str]) -> None:
    found = [item for item in everything.named("score", "number") if item.name not in used]
    found = [item for item in found if not item.is_named("fvc") and not item.is_named("visual")]
    found.sort(key=lambda item: (not re.search("dl ?ild", item.words), not _overall(item)))
    out.section("score")
    if found:
        best = found[0]
        others = [item.name for item in found[1:4]]
        if others:
            out.ask(f"is this the score? Others could be {', '.join(map(repr, others))}.")
        out.text("column", best.name)
        out.text("unit", "fraction" if best.top <= 1.0 else "percent")
        out.text("label", "DL-ILD" if re.search("dl ?ild", best.words) else _label(best.name))
        used.add(best.name)
    else:
        out.say("No column looks like the score. With `fit --results DIR` it comes from the")
        out.say("client's results, by id.")
        out.text("column", "dl_ild_percent")
    visual = [item for item in everything.named("visual", "number") if item.name not in used]
    if visual:
        out.section("visual")
        out.text("column", visual[0].name)
        out.text("unit", "percent" if visual[0].percent else "points")
        used.add(visual[0].name)


def _overall(column: Column) -> bool:
    return bool(re.search(r"\b(overall|total|whole|all|percent)\b", column.words))


def _label(name: str) -> str:
    words = words_of(name).replace("overall", "").replace("percent", "").strip()
    return f"{words[:1].upper()}{words[1:]} on CT" if "ct" not in words.split() else words


def _serial_sections(
    out: _Writer,
    main: Sheet,
    serial: Sheet | None,
    everything: Sheet,
    time: Column | None,
    used: set[str],
) -> None:
    """Write lung function at baseline, and the visits."""
    if serial is not main:
        function = _lung_function(everything, used)
        if function:
            out.section("lung_function")
            _function_keys(out, function)
            used |= {item.name for item in function.values()}
    if serial is None or time is None or serial.id is None:
        return
    out.section("visits")
    if serial is not main:
        if serial.path != main.path:
            out.text("file", serial.path.name)
        _format_keys(out, serial.form, main.form.decimal)
        out.text("id", serial.id.name)
    out.text("time", time.name)
    function = _lung_function(serial, set())
    _function_keys(out, function)
    if not function:
        out.fill("fvc_percent", "which column is FVC in percent of predicted?")
    used |= {item.name for item in function.values()} if serial is main else set()
    if time.kind == "date" and not everything.named("ct_date", "date"):
        out.text("baseline", "first", "times count from the patient's first visit")
    else:
        out.ask(
            "the visit nearest to the origin is the baseline, within how many months of it? "
            f"Patients without one are left out{_without_baseline(serial, time)}."
        )
        out.key("baseline_window_months", "3")


def _without_baseline(serial: Sheet, time: Column) -> str:
    """Count the patients whom the window of the baseline leaves out, where times are numbers."""
    unit = _unit([time])
    if unit is None or time.kind != "number" or serial.id is None:
        return ""
    months = pd.to_numeric(time.cells.str.replace(",", ".", regex=False), errors="coerce")
    months = months.abs() * TIME_TO_MONTHS[unit]
    nearest = months.groupby(serial.id.cells).min()
    nearest = nearest[nearest.index != ""]
    counts = [f"{int((~(nearest <= window)).sum())} with {window}" for window in (3, 6, 12)]
    return f" ({', '.join(counts)}, of {len(nearest)})"


def _lung_function(sheet: Sheet, used: set[str]) -> dict[str, Column]:
    found: dict[str, Column] = {}
    for item in sheet.columns:
        if item.kind != "number" or item.name in used:
            continue
        if item.is_named("dlco") and (item.percent or item.middle > 15):
            found.setdefault("dlco_percent", item)
        elif item.is_named("fvc") and (item.percent or 15 < item.middle <= 200):
            found.setdefault("fvc_percent", item)
        elif item.is_named("fvc"):
            found.setdefault("fvc_volume", item)
    lone = [item for item in sheet.columns if item.words in ("percent", "%") and item.middle > 15]
    if "fvc_volume" in found and "fvc_percent" not in found and lone:
        found["fvc_percent"] = lone[0]
    return found


def _function_keys(out: _Writer, function: dict[str, Column]) -> None:
    for key, column in function.items():
        out.text(key, column.name)
        if key == "fvc_volume":
            out.text("fvc_unit", "L" if column.middle < 15 else "mL")


def _follow_up(everything: Sheet, used: set[str]) -> dict[str, Column]:
    found: dict[str, Column] = {}
    times = []
    for item in everything.columns:
        if item.name in used:
            continue
        dated = item.kind in ("number", "date")
        for role in ("death", "transplant", "last_seen"):
            if item.is_named(role) and dated and len(item.levels) > 2:
                found.setdefault(role, item)
                break
        else:
            trait = item.is_named("smoking") or item.is_named("sex")
            coded = bool(item.levels) and set(item.levels) <= {"0", "1", "2"}
            few = 2 <= len(item.levels) <= 4
            if item.is_named("event") and (few or coded) and not trait:
                found.setdefault("event", item)
            elif item.is_named("time") and dated and not _before_the_scan(item):
                times.append(item)
    if times:
        found["time"] = next((item for item in times if item.is_named("event")), times[0])
    return found


def _before_the_scan(item: Column) -> bool:
    return item.is_named("birth") or bool(
        re.search(r"diagnos|onset|symptom|beginn|enrol|consent|einwillig|诊断", item.plain_words)
    )


def _covariates(out: _Writer, everything: Sheet, used: set[str]) -> None:
    out.section("covariates")
    names: set[str] = set()
    proposed = []
    for item in everything.columns:
        if item.name in used or item.kind == "empty" or item.is_named("id"):
            continue
        role = next((r for r in ("sex", "birth", "age", "smoking") if item.is_named(r)), None)
        key = {"birth": "age"}.get(role or "", role or _key(item.name))
        if key in names:
            continue
        line = _covariate(key, item)
        if role and line:
            names.add(key)
            if role == "sex" and item.kind == "number":
                out.ask(f"which values of {item.name!r} are male and female?")
            elif item.kind == "words" or role == "sex":
                out.ask(f"is {item.levels[0]!r} the level to compare the others with?")
            out.lines.append(line)
        elif line:
            names.add(key)
            proposed.append(f"# {line}")
    empty = [quoted(item.name) for item in everything.columns if item.kind == "empty"]
    if empty:
        out.say(f"Without any value, and left out: {', '.join(empty)}.")
    if proposed:
        out.ask("which of these belong into the models? Take away the # of their lines.")
        out.lines += proposed


def _key(name: str) -> str:
    key = re.sub(r"\W+", "_", words_of(name), flags=re.ASCII).strip("_")
    return key if key and not key[0].isdigit() else f"x_{key}" if key else quoted(name)


def _covariate(key: str, item: Column) -> str:
    column = quoted(item.name)
    if item.kind == "date":
        return f'{key} = {{ column = {column}, type = "birth-date" }}' if key == "age" else ""
    if item.kind == "number" and not (key == "sex" or len(item.levels) == 2):
        unit = ', unit = "years"' if key == "age" else ""
        return f"{key} = {{ column = {column}{unit} }}"
    if not 2 <= len(item.levels) <= MAX_LEVELS:
        return ""
    reference = quoted(next(level for level in item.levels if level not in item.odd_words))
    rest = ", ".join(item.levels)
    return f'{key} = {{ column = {column}, type = "category", reference = {reference} }}  # {rest}'


def _outcome_section(
    out: _Writer,
    follow: dict[str, Column],
    serial: Sheet | None,
    time: Column | None,
    everything: Sheet,
) -> None:
    out.section("outcome")
    recorded = "event" in follow and "time" in follow
    if recorded:
        out.text("rule", "recorded")
        blank = len(follow["time"].cells) - len(follow["time"].known)
        if blank and "last_seen" in follow:
            out.say(
                f"{blank} rows have no {quoted(follow['time'].name)}: patients without the event "
                "are followed to last_seen."
            )
        elif blank:
            out.ask(
                f"{blank} rows have no {quoted(follow['time'].name)} and are left out. Where these "
                "had no event, last_seen must name the column of the last contact."
            )
        out.text("time", follow["time"].name)
        out.text("event", follow["event"].name)
        levels = follow["event"].levels
        answers = {level.casefold(): level for level in levels}
        yes = [answers[word] for word in YES_WORDS if word in answers]
        no = [answers[word] for word in NO_WORDS if word in answers]
        if set(levels) <= {"0", "1", "2"} and "0" in levels:
            out.ask("0 is read as censored, 1 as progression, 2 as death before it: right?")
        elif len(levels) == len(yes) + len(no) == 2 and yes and no:
            out.ask(f"{quoted(yes[0])} is read as progression, {quoted(no[0])} as censored: right?")
            out.key("codes", f"{{ censored = {quoted(no[0])}, progression = {quoted(yes[0])} }}")
        else:
            out.ask(f"which of {', '.join(map(quoted, levels))} is the progression?")
            out.proposal.to_fill.append("outcome.codes")
            out.key("codes", f"{{ censored = {quoted(levels[0])}, progression = {quoted(FILL)} }}")
    elif serial is not None and time is not None:
        out.ask("which decline is progression? `dlild-analysis rules` lists the rules.")
        out.text("rule", "relative-decline")
    else:
        out.text("rule", "recorded")
        dates = [quoted(item.name) for item in everything.columns if item.kind == "date"]
        hint = f" Dates are in {', '.join(dates)}; table.origin_date names the one they count from."
        question = "which column is the time to progression or to the last contact?"
        out.fill("time", question + (hint if dates else ""))
        sides = [quoted(item.name) for item in everything.columns if len(item.levels) in (2, 3)]
        hint = f" {', '.join(sides)} have two or three values; outcome.codes says what words mean."
        question = "which column says who progressed (1) and who did not (0)?"
        out.fill("event", question + (hint if sides else ""))
    for role, key in (
        ("death", "death_time"),
        ("transplant", "transplant_time"),
        ("last_seen", "last_seen"),
    ):
        if role in follow:
            out.text(key, follow[role].name)
    if "death" in follow or (recorded and "2" in follow["event"].levels):
        out.ask('is death an event ("event"), or does it compete with progression ("competing")?')
        out.text("death", "event")
