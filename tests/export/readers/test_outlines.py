"""Readers' files: what they may say, and what is told where they cannot be understood."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from export.coded import ROOT, coarse_contract

from dlild_client.errors import InputError
from dlild_export.data.labels import IGNORE
from dlild_export.readers.outlines import UNNAMED, SliceName, read_outlines

SQUARE = [[1, 1], [4, 1], [4, 3], [1, 3]]


def _write(folder: Path, name: str, content: object) -> Path:
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content), "utf-8")
    return path


def test_json_holds_outlines_extents_and_zones(tmp_path: Path) -> None:
    path = _write(
        tmp_path,
        "reader.json",
        {
            "coordinates": "mm",
            "slices": [
                {
                    "z_mm": -20.5,
                    "outlines": [
                        {"class": "GGO", "points": SQUARE},
                        {"class": "lung", "points": SQUARE},
                        {"class": "ignore", "points": SQUARE},
                        {"points": SQUARE},
                    ],
                },
                {"sop_instance_uid": "1.2.3", "outlines": []},
                {"slice": 7, "extent_percent": 35},
            ],
            "zones": {"right_upper": 5},
        },
    )

    reading = read_outlines(path, coarse_contract())

    assert reading.in_mm
    drawn = reading.outlined[SliceName("z_mm", -20.5)]
    assert [o.label for o in drawn] == [2, 1, IGNORE, UNNAMED]
    np.testing.assert_array_equal(drawn[0].points, SQUARE)
    assert reading.outlined[SliceName("sop_instance_uid", "1.2.3")] == []
    assert reading.extents == {SliceName("slice", 7.0): 35.0}
    assert reading.zones == {"right_upper": 5.0}


def test_csv_says_the_same_as_json(tmp_path: Path) -> None:
    rows = ["z_mm,outline,class,x,y"]
    rows += [f"-20,1,reticulation,{x},{y}" for x, y in SQUARE]
    rows += [f"-20,2,reticulation,{x + 9},{y}" for x, y in SQUARE]
    rows += ["-10,,,,"]
    table = read_outlines(_write(tmp_path, "a.csv", "\n".join(rows)), coarse_contract())

    first, second = table.outlined[SliceName("z_mm", -20.0)]
    assert (first.label, second.label) == (3, 3)
    np.testing.assert_array_equal(first.points, SQUARE)
    np.testing.assert_array_equal(second.points, np.add(SQUARE, [9, 0]))
    assert table.outlined[SliceName("z_mm", -10.0)] == []
    assert not table.in_mm


def test_csv_of_extents_by_slice_and_by_zone(tmp_path: Path) -> None:
    text = "slice,zone,extent_percent\n3,,12.5\n,left_lower,40\n"
    reading = read_outlines(_write(tmp_path, "a.csv", text), coarse_contract())

    assert reading.extents == {SliceName("slice", 3.0): 12.5}
    assert reading.zones == {"left_lower": 40.0}


def _slice(**entry: object) -> dict[str, object]:
    return {"slices": [{"z_mm": 1, "outlines": []} | entry]}


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ("no json", "not JSON"),
        ([], "no object"),
        ({}, "nothing was read"),
        ({"coordinates": "voxel", "slices": [{}]}, "'voxel' is neither 'pixel' nor 'mm'"),
        ({"slices": [{"outlines": []}]}, "entry 1 of slices: name the slice by one of z_mm"),
        (_slice(slice=2), "name the slice by one of z_mm"),
        ({"slices": [{"z_mm": "top", "outlines": []}]}, "'top' is no number"),
        ({"slices": [{"z_mm": float("nan"), "outlines": []}]}, "nan is no number"),
        ({"slices": [{"slice": -1, "outlines": []}]}, "slice -1 is no index"),
        ({"slices": [{"slice": 1.5, "outlines": []}]}, "slice 1.5 is no index"),
        ({"slices": [{"z_mm": 1}]}, "give `outlines`"),
        ({"slices": [{"z_mm": 1, "extent_percent": 120}]}, "120 % is not between 0 and 100"),
        (
            {"slices": [{"z_mm": 1, "outlines": []}] * 2},
            "entry 2 of slices: z_mm 1 is listed twice",
        ),
        (_slice(outlines=[{"class": "emphysema", "points": SQUARE}]), "'emphysema' is not known"),
        (_slice(outlines=[{"points": SQUARE[:2]}]), "three corners or more, not 2"),
        (_slice(outlines=[{"points": [[1, 2, 3]] * 3}]), "a corner is [x, y]"),
        (_slice(outlines=[{"points": [[1, "b"]] * 3}]), "'b' is no number"),
        (_slice(outlines=[{"class": "lung"}]), "no object with `points`"),
        ({"zones": {"right_upper": -1}}, "-1 % is not between"),
    ],
)
def test_what_cannot_be_understood_is_reported_with_its_position(
    tmp_path: Path, document: object, said: str
) -> None:
    with pytest.raises(InputError, match="reader") as error:
        read_outlines(_write(tmp_path, "reader.json", document), coarse_contract())
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no rows with the columns"),
        ("z_mm,class\n1,lung\n", "no rows with the columns"),
        ("z_mm,x,y\n1,2,\n", "'' is no number"),
        ("z_mm,x,y\n1,2,3\n1,2,4\n", "three corners or more, not 2"),
        ("x,y\n2,3\n", "line 2: name the slice"),
        ("z_mm,extent_percent\n1,10\n1,20\n", "line 3: z_mm 1 is listed twice"),
        ("z_mm,extent_percent\n1,a lot\n", "line 2: 'a lot' is no number"),
    ],
)
def test_a_table_that_cannot_be_understood_is_reported_with_its_line(
    tmp_path: Path, text: str, said: str
) -> None:
    with pytest.raises(InputError) as error:
        read_outlines(_write(tmp_path, "reader.csv", text), coarse_contract())
    assert said in str(error.value)


def test_bytes_that_are_no_text_are_reported(tmp_path: Path) -> None:
    path = tmp_path / "reader.csv"
    path.write_bytes(b"\xff\xfe\x00z")
    with pytest.raises(InputError, match="no text"):
        read_outlines(path, coarse_contract())


def _blocks(kind: str) -> list[str]:
    text = (ROOT / "docs" / "evaluation.md").read_text("utf-8")
    return re.findall(rf"```{kind}\n(.*?)```", text, flags=re.DOTALL)


def test_the_examples_of_the_documentation_are_read(tmp_path: Path) -> None:
    (document,) = _blocks("json")
    reading = read_outlines(_write(tmp_path, "a.json", document), coarse_contract())
    assert len(reading.outlined) == 2
    assert reading.zones == {"right_upper": 5.0, "left_lower": 40.0}

    (tables,) = _blocks("text")
    rows = [[*re.split(r"\s{3,}", line), ""] for line in tables.splitlines()]
    outlines, extents = ("\n".join(row[place] for row in rows) for place in (0, 1))
    table = read_outlines(_write(tmp_path, "b.csv", outlines), coarse_contract())
    assert [len(drawn) for drawn in table.outlined.values()] == [1, 0]
    estimated = read_outlines(_write(tmp_path, "c.csv", extents), coarse_contract())
    assert (estimated.extents, estimated.zones) == (
        {SliceName("slice", 12.0): 35.0},
        reading.zones,
    )
