from __future__ import annotations

import copy
import json
import pickle
import re
from pathlib import Path

import pytest

from dlild_client.flags import MEANINGS, Flag, details, merge

ROOT = Path(__file__).parents[2]


def test_a_flag_is_its_code_and_carries_its_numbers():
    flag = Flag("thick_slices", thickness_mm=5, step_mm=2.5)
    assert flag == "thick_slices"
    assert flag in ("thick_slices",)
    assert hash(flag) == hash("thick_slices")
    assert flag.values == {"thickness_mm": 5, "step_mm": 2.5}
    assert flag.text.startswith("slices or steps over 3 mm")
    assert flag.text.endswith("(thickness_mm 5, step_mm 2.5)")
    assert Flag("reoriented").text == MEANINGS["reoriented"]


@pytest.mark.parametrize(
    "clone", [copy.deepcopy, copy.copy, lambda f: pickle.loads(pickle.dumps(f))]
)
def test_a_copy_of_a_flag_keeps_its_numbers(clone):
    flag = clone(Flag("hu_shifted", air_hu=-950.123456))
    assert type(flag) is Flag
    assert flag == "hu_shifted"
    assert flag.values == {"air_hu": -950.1235}


def test_details_are_plain_values_for_json():
    told = details([Flag("heavy_noise", noise_hu=71.2), "a_flag_of_another"])
    assert json.loads(json.dumps(told)) == told
    assert told["heavy_noise"]["values"] == {"noise_hu": 71.2}
    assert told["a_flag_of_another"] == {"text": "a flag of another", "values": {}}


def test_one_doubt_raised_twice_is_one_flag_with_all_numbers():
    merged = merge(
        [Flag("contrast_likely", header="names it"), "reoriented", Flag("contrast_likely", hu=180)]
    )
    assert merged == ("contrast_likely", "reoriented")
    assert merged[0].values == {"header": "names it", "hu": 180}


def test_every_flag_that_the_code_can_raise_is_documented_and_every_documented_one_exists():
    source = "".join(
        p.read_text(encoding="utf-8") for p in (ROOT / "client/src/dlild_client").rglob("*.py")
    )
    raised = set(re.findall(r'Flag\(\s*"(\w+)"', source))
    raised |= {f"lungs_cut_off_{end}" for end in ("top", "bottom", "sides")}
    raised -= {"thick_slices_example"}
    assert raised == set(MEANINGS)
    page = (ROOT / "docs" / "inputs.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)) >= set(MEANINGS)
