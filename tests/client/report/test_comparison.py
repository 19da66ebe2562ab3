"""`dlild compare`, as it is typed, and its page in a real Chromium."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from client.commands import assert_one_line, dlild
from client.report.browser import needs_chromium
from fake_server import FakeServer, cubes_only

from dlild_client.client import Client
from dlild_client.reading.read import read_volume
from dlild_client.results.files import write_nifti, write_result


@pytest.fixture(scope="module")
def folders(contract_text, chest_maker, tmp_path_factory):
    """Three scans of one patient: lungs that have become denser, and taller."""
    place = tmp_path_factory.mktemp("three")
    fake = FakeServer(cubes_only(contract_text))
    fake.start()
    try:
        with Client(fake.url) as client:
            for i, (denser, height) in enumerate(((0, 4.0), (20, 4.0), (35, 4.4))):
                chest = chest_maker(spacing=(height, 3.0, 3.0))
                hu = np.where(chest.array == -820, chest.array + np.int16(denser), chest.array)
                write_nifti(chest.with_array(hu), place / f"scan-{i}.nii.gz")
                scan = read_volume(place / f"scan-{i}.nii.gz")
                write_result(client.score(scan), place / f"out-{i}")
    finally:
        fake.stop()
    return place


def test_two_results_are_compared_in_a_table_and_as_json(folders, tmp_path):
    results = (folders / "out-0", folders / "out-1" / "result.json")
    done = dlild("compare", *results, "--dates", "2024-03-01,2025-02-20", "--out", tmp_path / "c")
    assert done.returncode == 0, done.stderr
    assert "0.97 years" in done.stdout
    # Image files say nothing of kernel and thickness.
    assert "all changes" in done.stdout
    written = json.loads((tmp_path / "c" / "comparison.json").read_text("utf-8"))
    assert [p.name for p in (tmp_path / "c").iterdir()] == ["comparison.json"]
    assert written["days"] == [0.0, 356.0]
    assert set(written["total"]["flags"]) >= {"kernel_unknown", "thickness_unknown"}
    assert "2024" not in json.dumps(written)
    printed = dlild("compare", *results, "--days", "10,366", "--json")
    assert json.loads(printed.stdout) == written


def test_what_cannot_be_compared_ends_in_one_line(folders, tmp_path):
    first, second = folders / "out-0", folders / "out-1"
    assert_one_line(dlild("compare", first), 2, "no comparison")
    assert_one_line(dlild("compare", first, first), 3, "one scan was given twice")
    assert_one_line(dlild("compare", first, tmp_path), 2, "no result.json there")
    assert_one_line(dlild("compare", first, second, "--dates", "1.3.2024,x"), 2, "'1.3.2024'")
    both = ("--dates", "2024-01-01,2024-02-01", "--days", "1,2")
    assert_one_line(dlild("compare", first, second, *both), 2, "give one of them")
    assert_one_line(dlild("compare", first, second, "--days", "5,1"), 2, "do not ascend")
    assert_one_line(dlild("compare", first, second, "--report"), 2, "--report needs --out")
    scan = folders / "scan-0.nii.gz"
    once = ("--report", "--out", tmp_path / "x", "--scan", scan)
    assert_one_line(dlild("compare", first, second, *once), 2, "1 times --scan for 2 results")
    swapped = (*once, "--scan", scan)
    assert_one_line(dlild("compare", first, second, *swapped), 3, "the scan is not the one")
    assert not (tmp_path / "x" / "comparison.json").exists()
    other = json.loads((second / "result.json").read_text("utf-8"))
    other["model"]["version"] = 4
    (tmp_path / "other.json").write_text(json.dumps(other), "utf-8")
    refused = dlild("compare", first, tmp_path / "other.json")
    assert_one_line(refused, 3, "different models cannot be compared")


@needs_chromium
@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_page_shows_both_scans_which_move_together(folders, tmp_path, opened, language):
    names = [folders / f"out-{i}" for i in range(3)]
    scans = [part for i in range(3) for part in ("--scan", folders / f"scan-{i}.nii.gz")]
    done = dlild(
        "compare", *names, "--days", "0,180,420", "--out", tmp_path / "c", "--report", *scans,
        "--language", language,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    page = tmp_path / "c" / "comparison.html"
    opened.open(page)
    assert (opened.errors, opened.requests) == ([], [page.as_uri()])
    text = opened.page.inner_text("body")
    assert bool(re.search("[\u4e00-\u9fff]", text)) == (language == "zh")
    assert "kernel_unknown" in text
    slider = opened.page.locator('[data-views="0"] [data-plane=axial] input')
    other = opened.page.locator('[data-views="1"] [data-plane=axial] input')
    top, other_top = (int(s.get_attribute("max")) for s in (slider, other))
    assert top < other_top
    before = opened.picture("axial", 1)
    slider.fill(str(top // 4))
    assert opened.slice_of("axial", 0) == top // 4
    assert opened.slice_of("axial", 1) == pytest.approx(top // 4 / top * other_top, abs=0.51)
    assert opened.picture("axial", 1) != before
    assert opened.serious_faults() == []
    assert opened.printed_pages(prefer_css_page_size=True) <= 2


def test_without_scans_the_page_shows_the_pictures_that_lie_beside(folders, tmp_path):
    names = (folders / "out-0", folders / "out-2")
    done = dlild("compare", *names, "--out", tmp_path / "c", "--report")
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "c" / "comparison.html").read_text("utf-8")
    assert page.count("data:image/jpeg") == 2
    assert "script-src 'none'" in page
