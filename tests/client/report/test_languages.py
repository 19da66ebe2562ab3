from __future__ import annotations

import re
from string import Formatter

import pytest

from dlild_client.contract.score import ZONES
from dlild_client.errors import BadSettingsError
from dlild_client.flags import MEANINGS
from dlild_client.report.languages import (
    LANGUAGES,
    TEXTS,
    check_language,
    class_title,
    flag_words,
    words,
)

CHINESE = re.compile("[\u4e00-\u9fff]")
SAME_IN_BOTH = {"lang", "source.dicom"}
"""Texts without a Chinese character, on purpose."""


@pytest.mark.parametrize("key", TEXTS)
def test_every_text_exists_in_both_languages_with_the_same_fields(key):
    text = TEXTS[key]
    assert text._fields == LANGUAGES
    if not key.startswith("flag."):
        assert text.en.strip()
        fields = [{field for _, field, _, _ in Formatter().parse(t) if field} for t in text]
        assert fields[0] == fields[1]
    assert not CHINESE.search(text.en)
    assert CHINESE.search(text.zh) or key in SAME_IN_BOTH


def test_every_flag_is_translated_and_none_that_does_not_exist():
    assert {key for key in TEXTS if key.startswith("flag.")} == {f"flag.{c}" for c in MEANINGS}


def test_every_zone_and_class_has_its_words(contract):
    for language in LANGUAGES:
        assert all(words(f"zone.{zone}", language) for zone in ZONES)
    for kind in contract.classes:
        assert class_title(kind.name, kind.title, "en") == kind.title
        assert CHINESE.search(class_title(kind.name, kind.title, "zh"))
    assert class_title("emphysema", "Emphysema", "zh") == "Emphysema"


def test_a_flag_is_stated_with_its_values():
    values = {"step_mm": 10.0, "thickness_mm": 1.25}
    assert flag_words("gaps_between_slices", values, "en") == (
        "lung between the slices was not seen (step_mm 10, thickness_mm 1.25)"
    )
    assert CHINESE.search(flag_words("gaps_between_slices", values, "zh"))
    assert flag_words("of_a_newer_client", {}, "zh") == "of a newer client"


def test_a_language_that_is_not_there_is_refused_in_one_line():
    assert check_language("zh") == "zh"
    with pytest.raises(BadSettingsError, match=r"no language 'de'; choose one of en, zh"):
        check_language("de")
