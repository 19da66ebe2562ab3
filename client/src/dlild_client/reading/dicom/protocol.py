"""Breath and posture of a series from its header: an ILD protocol has several of each.

Descriptions are free text, in the language of the hospital. They may identify a patient, so they
are only searched for the words below, and never kept.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

INSPIRATION, EXPIRATION = "inspiration", "expiration"
SUPINE, PRONE, LATERAL = "supine", "prone", "lateral"

POSITIONS = {
    "HFS": SUPINE, "FFS": SUPINE, "HFP": PRONE, "FFP": PRONE,
    "HFDR": LATERAL, "HFDL": LATERAL, "FFDR": LATERAL, "FFDL": LATERAL,
}  # fmt: skip
"""Values of PatientPosition (DICOM PS3.3, C.7.3.1.1.2) for a patient on a table."""

PREFIX = r"(?:(?:HR)?CT|THX|THORAX|CHEST|LUNG)?"
"""Prefixes written before a word without a space: HRCTEXP."""

# Words without accents, as normalised by `_words`; a $ marks the end of a word.
STARTS = {
    EXPIRATION: (
        "EXP$", "EXPI$", "EXHAL", "EXSP$", "EXPIR", "EXSPIR", "ESPIR", "EKSP$", "EKSPIR", "AUSATM",
        "AUSGEATM", "UITADEM", "UITGEADEM", "UTAND", "UTPUST", "UDAND", "WYDECH", "VYDECH",
        "IZDAH", "IZDIH", "ISKVEP", "IZELP", "VALJAHING", "ULOSHENG", "KILEGZ", "NEFES VERME",
        "HEMBUSAN", "THO RA$", "FRC$", "RV$", "AIR TRAP", "AIRTRAP",
        "ВЫДОХ", "ВЫДЫХ", "ЭКСПИР", "ВИДИХ", "ЕКСПІР", "ИЗДАХ", "ИЗДИШ", "ЕКСПИР", "ΕΚΠΝΟ",
    ),
    INSPIRATION: (
        "INS$", "INSP$", "INSPI$", "INHAL", "INSPIR", "ISPIR", "EINATM", "EINGEATM", "INADEM", "INGEADEM",
        "INAND", "INNAND", "INDAND", "WDECH", "NADECH", "VDECH", "UDAH", "UDIH", "IKVEP", "IEELP",
        "SISSEHING", "SISAANHENG", "BELEGZ", "NEFES ALMA", "TARIKAN NAPAS", "HIT VAO$", "TLC$",
        "ВДОХ", "ИНСПИР", "ВДИХ", "ІНСПІР", "ВДИШ", "ΕΙΣΠΝΟ",
    ),
    PRONE: (
        "PRONE", "PRONO$", "PRONA$", "PRON$", "PRONACJ", "PROCUBIT", "BAUCHLAGE", "BAUCHL$",
        "BUIKLIG", "BUKLAGE", "BUKLEJE", "BUKLEIE", "MAGLAGE", "VATSAMAKUU", "VATSALLAAN",
        "PAHINMAKUU", "DECUBITUS VENTRAL", "DECUBITO VENTRAL", "BRZUCH", "NA BRISE", "NA BRUCHU",
        "NA BRUSE", "TRBUH", "HASON FEKV", "HASON$", "YUZUSTU", "YUZU KOYUN", "TENGKURAP", "NAM SAP$",
        "НА ЖИВОТ", "ПРОН", "ΠΡΗΝ", "ΜΠΡΟΥΜΥΤ",
    ),
    SUPINE: (
        "SUPIN", "RUCKENL", "RUGLIG", "RYGGL", "RYGLEJE", "DECUBITUS DORSAL", "DECUBITO DORSAL",
        "SELINMAKUU", "NA PLECACH", "NA ZADECH", "NA CHRBTE", "HANYATT", "SIRTUSTU", "TERLENTANG",
        "НА СПИН", "ΥΠΤΙ",
    ),
    LATERAL: (
        "DECUBITUS LATERAL", "DECUBITO LATERAL", "LATERAL DECUBITUS", "SEITENLAGE", "ZIJLIG",
        "SIDOLAGE", "НА БОКУ",
    ),
}  # fmt: skip
WITHIN = {
    EXPIRATION: (
        "呼气", "呼氣", "呼気", "吐气", "吐氣", "호기", "날숨", "내쉬", "내쉼", "زفير", "بازدم", "נשיפה",
        "หายใจออก", "श्वास छोड",
    ),
    INSPIRATION: (
        "吸气", "吸氣", "吸気", "흡기", "들숨", "شهيق", "دم عمیق", "שאיפה", "หายใจเข้า",
    ),
    PRONE: (
        "俯卧", "俯臥", "伏卧", "伏臥", "腹卧", "腹臥", "うつ伏せ", "うつぶせ", "복와위", "엎드",
        "انبطاح", "منبطح", "دمر", "על הבטן", "นอนคว่ำ",
    ),
    SUPINE: (
        "仰卧", "仰臥", "背卧", "背臥", "仰向け", "あおむけ", "앙와위", "استلقاء", "על הגב", "นอนหงาย",
    ),
    LATERAL: ("侧卧", "側臥", "側卧", "측와위"),
}  # fmt: skip
"""Words of scripts without spaces: matched anywhere."""

NEGATIONS = {
    "NO", "NOT", "NON", "WITHOUT", "OHNE", "KEIN", "KEINE", "NICHT", "SANS", "SENZA", "SIN", "SEM",
    "ZONDER", "GEEN", "BEZ", "UTAN", "UDEN",
}  # fmt: skip
_PATTERNS = {
    what: re.compile(
        rf"(?:^| ){PREFIX}(?:"
        + "|".join(re.escape(s[:-1]) + "(?= |$)" if s[-1] == "$" else re.escape(s) for s in starts)
        + ")"
    )
    for what, starts in STARTS.items()
}


def judge_breath(texts: Iterable[str]) -> str:
    """Find the phase of breathing that descriptions name.

    Parameters
    ----------
    texts : iterable of str
        Descriptions, the most specific to the series first.

    Returns
    -------
    str
        `inspiration`, `expiration`; empty where none is named, or both in one text.

    Examples
    --------
    >>> judge_breath(["HRCT in exspiratione"]), judge_breath(["Thorax Insp/Exsp"])
    ('expiration', '')
    >>> judge_breath(["Thorax 1.0 B60", "EXP_1mm"]), judge_breath(["Exposure test"])
    ('expiration', '')
    """
    return _first_named(texts, (INSPIRATION, EXPIRATION))


def judge_posture(texts: Iterable[str], position: str) -> str:
    """Find the posture of the patient from descriptions and PatientPosition.

    Either may be left at its default, supine; so whichever of the two is not supine counts.

    Parameters
    ----------
    texts : iterable of str
        Descriptions, the most specific to the series first.
    position : str
        PatientPosition.

    Returns
    -------
    str
        `supine`, `prone`, `lateral`; empty where neither states it.

    Examples
    --------
    >>> judge_posture(["Bauchlage"], "HFS"), judge_posture([], "FFP"), judge_posture([], "HFS")
    ('prone', 'prone', 'supine')
    """
    described = _first_named(texts, (SUPINE, PRONE, LATERAL))
    entered = POSITIONS.get(position.strip().upper(), "")
    return described if described in {PRONE, LATERAL} else entered or described


def _first_named(texts: Iterable[str], kinds: tuple[str, ...]) -> str:
    for text in texts:
        found = [kind for kind in kinds if _names(text, kind)]
        if found:
            return found[0] if len(found) == 1 else ""
    return ""


def _names(text: str, kind: str) -> bool:
    if any(word in text for word in WITHIN[kind]):
        return True
    words = _words(text)
    for match in _PATTERNS[kind].finditer(words):
        before = words[: match.start()].split()
        if not (before and (before[-1] in NEGATIONS or before[-2:] == ["W", "O"])):
            return True
    return False


def _words(text: str) -> str:
    """Normalise a text: words in capitals, without accents, separated by single spaces.

    Examples
    --------
    >>> _words("HRCT-Exspir., Rückenlage_1.25mm")
    'HRCT EXSPIR RUCKENLAGE MM'
    """
    plain = unicodedata.normalize("NFKD", text.translate(_LETTERS).upper())
    kept = (c for c in plain if not unicodedata.combining(c))
    return " ".join("".join(c if c.isalpha() else " " for c in kept).split())


_LETTERS = str.maketrans({"ø": "o", "Ø": "O", "ł": "l", "Ł": "L", "đ": "d", "Đ": "D", "ı": "i"})
"""Letters without a Unicode decomposition."""
