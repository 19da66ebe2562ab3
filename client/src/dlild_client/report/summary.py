"""The summary page: one picture that says what a result is, for archives and PDF.

Most viewers of archives show neither DICOM SEG nor SR, but all of them show a picture.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from functools import cache

from PIL import Image, ImageDraw, ImageFont

from dlild_client.report.facts import DENSITY, Facts, gather_facts
from dlild_client.report.languages import Language, check_language, words
from dlild_client.results.overlay import (
    BACKGROUND,
    DIM,
    GAP,
    PANEL_WIDTH,
    TEXT,
    draw_panels,
)
from dlild_client.results.result import Result

WIDTH = 3 * PANEL_WIDTH + 4 * GAP
"""Of the page, in pixels."""
ALERT = (255, 176, 86)
TRACK = (38, 44, 54)
LESION_BAR = (120, 190, 255)
MOST_FLAGS = 8
"""Flags that are written out; the others are counted."""
LARGE, MIDDLE, SMALL, TINY = 54, 22, 17, 14

CHINESE_FONTS = (
    # File name and index of the face for simplified Chinese, by system.
    ("NotoSansCJK-Regular.ttc", 2),
    ("NotoSansCJKsc-Regular.otf", 0),
    ("NotoSansSC-Regular.otf", 0),
    ("NotoSansSC-Regular.ttf", 0),
    ("SourceHanSansSC-Regular.otf", 0),
    ("wqy-microhei.ttc", 0),
    ("wqy-zenhei.ttc", 0),
    ("DroidSansFallbackFull.ttf", 0),
    ("msyh.ttc", 0),
    ("simhei.ttf", 0),
    ("simsun.ttc", 0),
    ("PingFang.ttc", 0),
    ("Hiragino Sans GB.ttc", 0),
    ("STHeiti Light.ttc", 0),
)

_CHINESE = "\u2e80-\u9fff\uf900-\ufaff"
_MARKS = "\u3000-\u303f\uff00-\uffef"
"""Punctuation that no line starts with."""

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
Fonts = Callable[[int], Font]


def summary_page(result: Result, language: str = "en") -> Image.Image:
    """Draw the summary page of a result.

    Score with the interval of a second scan, shares by class and zone, flags in words, slices with
    coloured lesions, provenance, and the research-use notice. It names no patient.

    Parameters
    ----------
    result : Result
    language : {"en", "zh"}
        Chinese needs a font of the system; where there is none the page is in English and says so.

    Returns
    -------
    Image
        RGB, 1376 pixels wide; the height follows from the slices and the flags.

    Raises
    ------
    BadSettingsError
        No such language.
    """
    wanted = check_language(language)
    fonts = _fonts(wanted)
    known: Language = wanted
    if fonts is None:
        known, fonts = "en", _fonts("en")
    assert fonts is not None
    facts = gather_facts(result.to_dict(), known)
    axial, coronal = draw_panels(result.image, result.labels, facts.classes)
    note = words("no_font", "en") if known != wanted else ""
    # Drawn twice: the first time on one row of pixels, to find the height.
    height = _Page(facts, fonts, 1).draw(axial, coronal, note)
    page = _Page(facts, fonts, height)
    page.draw(axial, coronal, note)
    return page.sheet


@cache
def _fonts(language: Language) -> Fonts | None:
    """Return fonts by size; None where the system has none for the language."""
    if language == "en":
        return cache(ImageFont.load_default)
    for name, index in CHINESE_FONTS:
        try:
            ImageFont.truetype(name, 12, index=index)
        except OSError:
            continue
        return cache(lambda size, name=name, index=index: ImageFont.truetype(name, size, index))
    return None


class _Page:
    """A sheet that is filled from above down; `top` is the next free row."""

    def __init__(self, facts: Facts, fonts: Fonts, height: int) -> None:
        self.facts, self.fonts = facts, fonts
        self.sheet = Image.new("RGB", (WIDTH, height), BACKGROUND)
        self.ink = ImageDraw.Draw(self.sheet)
        self.top = GAP

    def draw(self, axial: list[Image.Image], coronal: list[Image.Image], note: str) -> int:
        """Draw all parts, and return the height that they take."""
        self._score()
        self._bars()
        self._flags()
        self._pictures("axial_row", axial)
        self._pictures("coronal_row", coronal)
        self._provenance()
        self._paragraph(words("notice", self.facts.language), SMALL, ALERT)
        if note:
            self._paragraph(note, TINY, DIM)
        return self.top + GAP

    def _score(self) -> None:
        facts, language = self.facts, self.facts.language
        self._write((WIDTH - GAP, self.top), words("research_use", language), MIDDLE, ALERT, "ra")
        self._write((GAP, self.top + LARGE), f"DL-ILD {facts.score:.1f} %", LARGE, TEXT, "ls")
        volumes = (
            f"{words('lung_volume', language)} {facts.lung_ml:.0f} mL    "
            f"{words('lesion_volume', language)} {facts.lesion_ml:.0f} mL"
        )
        self._write((WIDTH - GAP, self.top + 40), volumes, SMALL, TEXT, "ra")
        self.top += LARGE + 16
        self._scale()
        self._paragraph(words("score_is", language), SMALL, DIM)
        self._paragraph(" ".join(facts.repeatability), SMALL, TEXT)
        self.top += 6

    def _scale(self) -> None:
        """Draw the score on a scale of 0 to 100 %, with the range of a second scan."""
        left, wide, tall = GAP, WIDTH - 2 * GAP, 14

        def at(percent: float) -> float:
            return left + wide * min(100.0, max(0.0, percent)) / 100

        self.ink.rectangle((left, self.top, left + wide, self.top + tall), fill=TRACK)
        self.ink.rectangle((left, self.top, at(self.facts.score), self.top + tall), fill=LESION_BAR)
        if self.facts.repeat_range is not None:
            low, high = (at(percent) for percent in self.facts.repeat_range)
            middle = self.top + tall / 2
            self.ink.line((low, middle, high, middle), fill=ALERT, width=3)
            for x in (low, high):
                self.ink.line((x, self.top - 3, x, self.top + tall + 3), fill=ALERT, width=3)
        self.top += tall + 6
        for percent in range(0, 101, 20):
            anchor = {0: "la", 100: "ra"}.get(percent, "ma")
            self._write((at(percent), self.top), f"{percent} %", TINY, DIM, anchor)
        self.top += TINY + 12

    def _bars(self) -> None:
        """Draw classes on the left and zones on the right."""
        start, language = self.top, self.facts.language
        half = (WIDTH - 3 * GAP) // 2
        self._heading(words("classes", language), GAP)
        for kind in self.facts.classes:
            shown = f"{kind.percent:.1f} %   {kind.volume_ml:.0f} mL"
            self._bar(GAP, half, kind.title, kind.percent, shown, kind.colour)
        below = self.top
        self.top = start
        right = 2 * GAP + half
        self._heading(words("zones", language), right)
        for zone in self.facts.zones:
            # A zone without lung has no share.
            share = "-" if zone.percent != zone.percent else f"{zone.percent:.1f} %"
            shown = f"{share}   {zone.lesion_ml:.0f} / {zone.lung_ml:.0f} mL"
            self._bar(right, half, zone.title, zone.percent, shown, LESION_BAR)
        self.top = max(self.top, below) + 10
        if self.facts.density:
            named = [words(f"density.{name}", language) for name, _ in DENSITY]
            values = zip(named, self.facts.density[0].values, strict=True)
            shown = "    ".join(f"{name} {value}" for name, value in values)
            self._paragraph(shown, TINY, TEXT)
            self.top += 6

    def _bar(
        self,
        left: int,
        wide: int,
        title: str,
        percent: float,
        shown: str,
        colour: tuple[int, int, int],
    ) -> None:
        start, room, tall = left + 200, wide - 400, 16
        middle = self.top + tall // 2
        self._write((left, middle), title, SMALL, TEXT, "lm")
        self.ink.rectangle((start, self.top, start + room, self.top + tall), fill=TRACK)
        if percent > 0:
            filled = max(1, round(room * min(100.0, percent) / 100))
            self.ink.rectangle((start, self.top, start + filled, self.top + tall), fill=colour)
        self._write((left + wide, middle), shown, SMALL, TEXT, "rm")
        self.top += tall + 9

    def _flags(self) -> None:
        facts, language = self.facts, self.facts.language
        self._heading(words("flags", language), GAP)
        for flag in facts.flags[:MOST_FLAGS]:
            self._paragraph(f"-  {flag.text}", SMALL, ALERT)
        if len(facts.flags) > MOST_FLAGS:
            more = words("more_flags", language, count=len(facts.flags) - MOST_FLAGS)
            self._paragraph(more, SMALL, ALERT)
        if not facts.flags:
            self._paragraph(words("no_flags", language), SMALL, TEXT)
        self.top += 8

    def _pictures(self, key: str, panels: list[Image.Image]) -> None:
        self._heading(words(key, self.facts.language), GAP)
        for i, panel in enumerate(panels):
            self.sheet.paste(panel, (GAP + i * (PANEL_WIDTH + GAP), self.top))
        self.top += max(panel.height for panel in panels) + GAP

    def _provenance(self) -> None:
        rows = "    ".join(f"{name}: {value}" for name, value in self.facts.provenance)
        self._paragraph(rows, TINY, DIM)

    def _heading(self, text: str, left: int) -> None:
        self._write((left, self.top), text, SMALL, DIM)
        self.top += SMALL + 10

    def _paragraph(self, text: str, size: int, colour: tuple[int, int, int]) -> None:
        font = self.fonts(size)
        for line in _lines(text, lambda part: self.ink.textlength(part, font=font)):
            self._write((GAP, self.top), line, size, colour)
            self.top += size + 6
        self.top += 2

    def _write(
        self,
        at: tuple[float, float],
        text: str,
        size: int,
        colour: tuple[int, int, int] = TEXT,
        anchor: str = "la",
    ) -> None:
        self.ink.text(at, text, font=self.fonts(size), fill=colour, anchor=anchor)


def _lines(text: str, length: Callable[[str], float]) -> Iterator[str]:
    """Break a text into lines: between words, and between Chinese characters."""
    line = ""
    for part in _parts(text):
        if line and length(line + part.rstrip()) > WIDTH - 2 * GAP:
            yield line.rstrip()
            line = ""
        line += part if line else part.lstrip()
    if line.strip():
        yield line.rstrip()


def _parts(text: str) -> Sequence[str]:
    """Split where a line may end: after spaces, and after a Chinese character or mark."""
    return re.findall(f"[{_CHINESE}][{_MARKS}]*|[^\\s{_CHINESE}]+\\s*|\\s+", text)
