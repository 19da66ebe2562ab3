import json

import pytest
from bench.report import PAGE, publish, store, table, verdict


def test_a_table_goes_between_its_markers_and_nothing_else_changes(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "before\n<!-- made by `make a` -->\nold\n<!-- end of `make a` -->\nbetween\n"
        "<!-- made by `make b` -->\nkept\n<!-- end of `make b` -->\nafter\n"
    )
    publish("a", "new\n\n", page)
    publish("a", table(("x", "y"), [(1, "z")]), page)
    assert page.read_text() == (
        "before\n<!-- made by `make a` -->\n| x | y |\n| --- | --- |\n| 1 | z |\n"
        "<!-- end of `make a` -->\nbetween\n"
        "<!-- made by `make b` -->\nkept\n<!-- end of `make b` -->\nafter\n"
    )
    with pytest.raises(ValueError, match="once each"):
        publish("c", "", page)


def test_the_page_has_a_section_for_every_table():
    text = PAGE.read_text("utf-8")
    for part in ("bench", "bench-scale", "load", "soak"):
        assert text.count(f"<!-- made by `make {part}` -->") == 1
        assert text.count(f"<!-- end of `make {part}` -->") == 1


def test_parts_are_stored_beside_each_other(tmp_path):
    store(tmp_path / "out", "speed", {"a": 1})
    path = store(tmp_path / "out", "soak", {"b": 2})
    store(tmp_path / "out", "speed", {"a": 3})
    assert json.loads(path.read_text()) == {"speed": {"a": 3}, "soak": {"b": 2}}


def test_a_target_is_met_or_missed():
    assert "met" in verdict(1.0, 1.15, at_most=True)
    assert "missed" in verdict(1.2, 1.15, at_most=True)
    assert "met" in verdict(3.0, 3, at_most=False)
