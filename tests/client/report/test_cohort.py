"""`dlild batch --report`: reports of all scans, and the index in a real Chromium."""

from __future__ import annotations

import pytest
from client.commands import assert_one_line, dlild
from client.report.browser import needs_chromium

from dlild_client.batch.record import columns
from dlild_client.report.cohort import write_index
from dlild_client.results.files import write_nifti


def cell(contract, **values) -> dict[str, str]:
    return {**dict.fromkeys(columns(contract), ""), **values}


@pytest.fixture
def batch(server, chest, chest_maker, tmp_path):
    """Two scans, one of them in thick slices, and a file that is none."""
    scans = tmp_path / "SECRET-FOLDER"
    scans.mkdir()
    write_nifti(chest, scans / "SECRET-A.nii.gz")
    write_nifti(chest_maker((60, 90, 120), (2.0, 3.0, 3.0)), scans / "SECRET-B.nii.gz")
    (scans / "SECRET-C.nii.gz").write_bytes(b"no scan")
    out = tmp_path / "out"
    done = dlild("batch", scans, "--url", server.url, "--out", out, "--report")
    assert done.returncode == 3, done.stderr
    return scans, out


@needs_chromium
def test_the_index_lists_all_scans_and_opens_their_reports(batch, server, opened):
    scans, out = batch
    index = out / "index.html"
    names = {p.stem for p in (out / "scans").iterdir()}
    assert {p.name for p in (out / "reports").iterdir()} == {
        f"{name}.{kind}" for name in names for kind in ("html", "jpg")
    }
    opened.open(index)
    assert opened.errors == []
    assert all(request.startswith(out.as_uri()) for request in opened.requests)
    text = opened.page.inner_text("body")
    assert "2 scans were scored" in text
    assert "UnreadableFile" in text
    assert opened.serious_faults() == []
    loaded = "images => images.every(image => image.complete && image.naturalWidth > 0)"
    assert opened.page.eval_on_selector_all(".thumbnail", loaded)
    assert opened.page.locator(".thumbnail").count() == 2
    link = opened.page.locator("tbody a").first
    name = link.inner_text()
    link.click()
    opened.page.wait_for_selector('[data-viewer][data-ready="yes"]')
    assert opened.page.input_value("[name=id]") == name
    # The run goes on where it was, and the index is written again in another language.
    again = dlild("batch", scans, "--url", server.url, "--out", out, "--report", "--language", "zh")
    assert again.returncode == 0, again.stderr
    assert 'lang="zh' in index.read_text("utf-8")
    assert index.read_text("utf-8").count('class="thumbnail"') == 2


def test_no_page_holds_the_path_of_a_scan(batch):
    _, out = batch
    for page in (out / "index.html", *(out / "reports").glob("*.html")):
        assert "SECRET-FOLDER" not in page.read_text("utf-8")


@needs_chromium
def test_flagged_scans_come_first_and_headings_sort(contract, tmp_path, opened):
    rows = [
        cell(contract, id="clean-high", status="scored", dl_ild_percent="44.5"),
        cell(contract, id="two", status="scored", dl_ild_percent="5",
             flags="thick_slices metal_likely"),
        cell(contract, id="failed", status="failed", error="TimedOut", message="<b>no answer</b>"),
        cell(contract, id="one", status="scored", dl_ild_percent="60", flags="heavy_noise"),
        cell(contract, key="0123456789abcdef", status="scored", dl_ild_percent="7.25"),
    ]  # fmt: skip
    opened.open(write_index(tmp_path, rows))
    page = opened.page

    def order() -> list[str]:
        return [cell.inner_text() for cell in page.locator("tbody th").all()]

    assert order() == ["two", "one", "failed", "clean-high", "0123456789abcdef"]
    assert "<b>no answer</b>" in page.inner_text("body")
    page.get_by_role("button", name="DL-ILD").click()
    assert order() == ["one", "clean-high", "0123456789abcdef", "two", "failed"]
    page.get_by_role("button", name="DL-ILD").click()
    assert order() == ["two", "0123456789abcdef", "clean-high", "one", "failed"]
    assert page.locator("th[aria-sort]").inner_text() == "DL-ILD"
    page.get_by_role("button", name="Scan").click()
    assert order() == ["0123456789abcdef", "clean-high", "failed", "one", "two"]
    assert opened.errors == []
    assert opened.serious_faults() == []


def test_an_empty_cohort_has_an_index(tmp_path):
    page = write_index(tmp_path, []).read_text("utf-8")
    assert "0 scans were scored" in page


def test_a_language_that_is_not_there_is_refused_before_any_scan(server, tmp_path):
    done = dlild(
        "batch", tmp_path, "--url", server.url, "--out", tmp_path / "o", "--language", "fr"
    )
    assert_one_line(done, 2, "no language 'fr'")
