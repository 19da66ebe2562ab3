from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from dlild_client.errors import BadSettingsError, UnreadableFileError
from dlild_client.report import summary
from dlild_client.report.facts import gather_facts
from dlild_client.report.summary import WIDTH, summary_page
from dlild_client.results.overlay import draw_panels

REPEATABILITY = {
    "same_protocol": {"coefficient": 3.4, "low": 2.16, "high": 7.37},
    "all_changes": {"coefficient": 15.3, "low": 9.86, "high": 33.7},
}


def found(page: Image.Image, part: Image.Image) -> bool:
    """Whether a picture stands somewhere on a page, pixel by pixel."""
    large, small = np.asarray(page), np.asarray(part)
    rows = (
        top
        for top in range(large.shape[0] - small.shape[0] + 1)
        if (large[top, 14 : 14 + small.shape[1]] == small[0]).all()
    )
    return any((large[t : t + len(small), 14 : 14 + small.shape[1]] == small).all() for t in rows)


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_page_shows_the_slices_in_a_picture_as_high_as_it_must_be(scored, doubtful, language):
    page = summary_page(scored, language)
    assert (page.mode, page.width) == ("RGB", WIDTH)
    axial, coronal = draw_panels(
        scored.image, scored.labels, gather_facts(scored.to_dict()).classes
    )
    assert found(page, axial[0])
    assert found(page, coronal[0])
    # The last rows are the notice and a margin, and nothing is cut off.
    lines = np.asarray(page)[-60:].max(axis=(1, 2)) > 100
    assert lines.any()
    assert not lines[-8:].any()
    assert summary_page(doubtful, language).height > page.height


def test_the_page_changes_with_what_it_says(scored):
    first = np.asarray(summary_page(scored, "en"))
    again = np.asarray(summary_page(scored, "en"))
    np.testing.assert_array_equal(first, again)
    other = np.asarray(summary_page(replace(scored, dl_ild_percent=77.7), "en"))
    assert first.shape == other.shape
    assert (first != other).any()


def test_a_scan_without_any_lung_still_has_a_page(unlabelled):
    assert summary_page(unlabelled, "en").width == WIDTH


def test_without_a_chinese_font_the_page_is_english_and_says_so(scored, monkeypatch):
    english = summary_page(scored, "en")
    monkeypatch.setattr(summary, "CHINESE_FONTS", (("no-such-font.ttf", 0),))
    summary._fonts.cache_clear()
    try:
        page = summary_page(scored, "zh")
    finally:
        summary._fonts.cache_clear()
    assert page.height > english.height
    same = np.asarray(page)[: english.height - 20] == np.asarray(english)[:-20]
    assert same.all()


def test_a_language_that_is_not_there_is_refused(scored):
    with pytest.raises(BadSettingsError, match="no language 'fr'"):
        summary_page(scored, "fr")


def test_the_interval_of_a_second_scan_follows_from_the_coefficient(scored):
    document = {**scored.to_dict(), "dl_ild_percent": 10.0, "repeatability": REPEATABILITY}
    facts = gather_facts(document)
    assert facts.repeat_range == pytest.approx((6.6, 13.4))
    assert "expected from 6.6 to 13.4 % (95 %" in facts.repeatability[0]
    assert "from 0.0 to 25.3 %" in facts.repeatability[1]
    assert "phantoms" in facts.repeatability[2]
    unknown = gather_facts({**document, "repeatability": None})
    assert unknown.repeat_range is None
    assert unknown.repeatability == ("The repeatability of this model version is not known.",)


def test_facts_are_those_of_the_result(scored):
    facts = gather_facts(scored.to_dict())
    assert [c.lesion for c in facts.classes] == [True] * 4 + [False]
    assert sum(c.percent for c in facts.classes) == pytest.approx(100)
    assert facts.score == pytest.approx(sum(c.percent for c in facts.lesion_classes), abs=1e-3)
    assert sum(z.lesion_ml for z in facts.zones) == pytest.approx(facts.lesion_ml, abs=1e-3)
    shown = " ".join(value for _, value in facts.provenance)
    assert scored.model.weights_digest[:19] in shown
    assert "kernel B60f" in shown
    assert "SECRET" not in repr(facts)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"zones": {}}, "result.json lacks the field 'right_upper'"),
        ({"classes": {"lung": {}}}, "result.json lacks the field 'colour'"),
        ({"dl_ild_percent": "much"}, "result.json has a field of a wrong type"),
        ({"model": None}, "result.json has a field of a wrong type"),
    ],
)
def test_a_result_with_a_field_missing_is_refused_in_one_line(scored, change, message):
    with pytest.raises(UnreadableFileError, match=message) as caught:
        gather_facts({**scored.to_dict(), **change})
    assert "\n" not in str(caught.value)
