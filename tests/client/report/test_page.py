"""The report in a real Chromium."""

from __future__ import annotations

import base64
import csv
import io
import json
import re
import zlib
from dataclasses import replace

import numpy as np
import pytest
from client.report.browser import needs_chromium
from PIL import Image

from dlild_client.contract.score import ZONES
from dlild_client.flags import MEANINGS, Flag
from dlild_client.preparation.grid import to_grid
from dlild_client.reading.read import read_volume
from dlild_client.report.facts import gather_facts
from dlild_client.report.page import report_page, write_report
from dlild_client.report.pictures import Pictures
from dlild_client.report.reading import reading_columns
from dlild_client.report.viewer import pack_hu, viewer_data
from dlild_client.results.overlay import crop_to_lungs


@pytest.fixture(scope="session", params=["en", "zh"])
def page_file(request, scored, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / f"report-{request.param}.html"
    write_report(scored, path, request.param)
    return path


@pytest.fixture(scope="session")
def english(scored, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "report.html"
    write_report(scored, path)
    return path


@pytest.fixture(scope="session")
def blind(scored, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "reading.html"
    pictures = Pictures(scored.image, scored.labels)
    path.write_text(report_page(scored.to_dict(), pictures, blind=True, scan_id="P-17"), "utf-8")
    return path


@needs_chromium
def test_it_opens_without_errors_requests_or_serious_faults(opened, page_file, scored):
    opened.open(page_file)
    assert opened.errors == []
    assert opened.requests == [page_file.as_uri()]
    text = opened.page.inner_text("body")
    assert f"DL-ILD {scored.dl_ild_percent:.1f} %" in text
    assert bool(re.search("[\u4e00-\u9fff]", text)) == page_file.name.endswith("zh.html")
    assert "SECRET" not in page_file.read_text("utf-8")
    assert opened.serious_faults() == []


@needs_chromium
def test_a_script_that_is_not_its_own_does_not_run_and_nothing_is_fetched(opened, english):
    opened.open(english)
    opened.page.evaluate(
        """() => {
            const script = document.createElement("script");
            script.textContent = "window.intruder = true";
            document.body.append(script);
            fetch("http://127.0.0.1:9/").catch(() => {});
        }"""
    )
    opened.page.wait_for_timeout(200)
    assert opened.page.evaluate("window.intruder") is None
    assert sum("Content Security Policy" in error for error in opened.errors) >= 2


@needs_chromium
def test_slider_keys_and_wheel_move_the_slice(opened, english):
    opened.open(english)
    slider = opened.page.locator('[data-plane="axial"] input')
    before, first = opened.picture("axial"), opened.slice_of("axial")
    slider.fill(str(first + 3))
    assert opened.slice_of("axial") == first + 3
    assert opened.picture("axial") != before
    slider.press("ArrowLeft")
    assert opened.slice_of("axial") == first + 2
    viewer = opened.page.locator("[data-viewer]")
    viewer.focus()
    viewer.press("ArrowUp")
    viewer.press("PageUp")
    assert opened.slice_of("axial") == first + 13
    viewer.press("c")
    viewer.focus()
    coronal = opened.slice_of("coronal")
    viewer.press("ArrowDown")
    assert opened.slice_of("coronal") == coronal - 1
    opened.page.locator('[data-plane="sagittal"] canvas').hover()
    sagittal = opened.slice_of("sagittal")
    opened.page.mouse.wheel(0, 100)
    opened.page.wait_for_timeout(100)
    assert opened.slice_of("sagittal") == sagittal - 1
    viewer.press("Home")
    assert opened.slice_of("sagittal") == 0


@needs_chromium
def test_window_opacity_classes_and_label_map_change_the_picture(opened, english):
    opened.open(english)
    viewer = opened.page.locator("[data-viewer]")
    seen = {opened.picture("axial")}

    def is_new() -> None:
        picture = opened.picture("axial")
        assert picture not in seen
        seen.add(picture)

    viewer.focus()
    viewer.press("3")
    is_new()
    assert opened.page.locator("[data-tool=level]").input_value() == "40"
    pressed = opened.page.locator('[data-window][aria-pressed="true"]')
    assert pressed.get_attribute("data-window") == "40,400"
    opened.page.locator("[data-tool=width]").fill("900")
    is_new()
    assert pressed.count() == 0
    viewer.focus()
    viewer.press("+")
    is_new()
    viewer.press("x")
    is_new()
    for box in opened.page.locator("[data-label]").all():
        box.uncheck()
    nothing = opened.picture("axial")
    viewer.focus()
    viewer.press("o")
    assert opened.picture("axial") == nothing
    assert nothing not in seen


@needs_chromium
def test_the_pointer_reads_the_hu_and_the_class_of_the_voxel(opened, english, scored):
    opened.open(english)
    start, stop = crop_to_lungs(scored.labels)
    box = tuple(slice(a, b) for a, b in zip(start, stop, strict=True))
    hu, labels = scored.image.array[box], scored.labels.array[box]
    titles = {c.label: c.title for c in scored.contract.classes if c.lung}
    kinds = set()
    for plane, across, down in (("axial", 2, 1), ("coronal", 2, 0), ("sagittal", 1, 0)):
        canvas = opened.page.locator(f'[data-plane="{plane}"] canvas')
        canvas.scroll_into_view_if_needed()
        size = canvas.bounding_box()
        for part_across, part_down in ((0.25, 0.5), (0.7, 0.4), (0.05, 0.05)):
            at = [opened.slice_of(name) for name in ("axial", "coronal", "sagittal")]
            column = int(part_across * hu.shape[across])
            row = int(part_down * hu.shape[down])
            canvas.hover(
                position={
                    "x": (column + 0.5) / hu.shape[across] * size["width"],
                    "y": (row + 0.5) / hu.shape[down] * size["height"],
                }
            )
            at[across] = column
            at[down] = row if plane == "axial" else hu.shape[down] - 1 - row
            shown = opened.page.locator("[data-tool=readout]").inner_text()
            kind = titles.get(int(labels[tuple(at)]))
            assert shown == f"{hu[tuple(at)]} HU" + (f", {kind}" if kind else "")
            kinds.add(kind)
    assert len(kinds) > 1


@needs_chromium
def test_the_picture_has_the_grey_values_of_the_window(opened, english, scored):
    """A canvas without overlay, against the window applied to HU here."""
    opened.open(english)
    viewer = opened.page.locator("[data-viewer]")
    viewer.focus()
    for key in ("o", "x"):
        viewer.press(key)
    start, stop = crop_to_lungs(scored.labels)
    box = tuple(slice(a, b) for a, b in zip(start, stop, strict=True))
    plane = scored.image.array[box][opened.slice_of("axial")]
    expected = np.clip((plane.astype(float) - (-600 - 750)) * 255 / 1500, 0, 255)
    data = opened.picture("axial").partition(",")[2]
    drawn = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("L"))
    height, width = plane.shape
    # Centres of voxels that are like their neighbours: elsewhere the browser smooths.
    rows = ((np.arange(height) + 0.5) / height * drawn.shape[0]).astype(int)
    columns = ((np.arange(width) + 0.5) / width * drawn.shape[1]).astype(int)
    seen = drawn[np.ix_(rows, columns)].astype(float)
    flat = np.zeros(plane.shape, bool)
    flat[1:-1, 1:-1] = (
        np.max(
            [
                np.abs(plane[1:-1, 1:-1] - np.roll(plane, s, a)[1:-1, 1:-1])
                for a in (0, 1)
                for s in (-1, 1)
            ],
            axis=0,
        )
        < 10
    )
    # Letters stand at the edges.
    flat[:12], flat[-12:], flat[:, :12], flat[:, -12:] = False, False, False, False
    assert flat.sum() > 1000
    assert np.abs(seen - expected)[flat].max() < 3


@needs_chromium
@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("flags", ["none", "all"])
def test_it_prints_on_two_pages_at_most(opened, scored, tmp_path, language, flags):
    if flags == "all":
        every = tuple(Flag(code, step_mm=1.25, mean_hu=-912.5) for code in MEANINGS)
        scored = replace(scored, flags=every)
    path = tmp_path / "report.html"
    write_report(scored, path, language)
    opened.open(path)
    printed = {
        paper: opened.printed_pages(format=paper, print_background=True)
        for paper in ("A4", "Letter")
    }
    printed["as the page asks"] = opened.printed_pages(prefer_css_page_size=True)
    assert {paper: pages for paper, pages in printed.items() if pages > 2} == {}


@needs_chromium
def test_a_blind_page_shows_no_result_until_a_reading_is_saved(opened, blind, scored, contract):
    score = f"{scored.dl_ild_percent:.1f} %"
    opened.open(blind)
    page = opened.page
    assert score not in page.inner_text("body")
    assert not page.is_visible("[data-tool=overlay]")
    start, stop = crop_to_lungs(scored.labels)
    middle = [(b - a) // 2 for a, b in zip(start, stop, strict=True)]
    assert [opened.slice_of(p) for p in ("axial", "coronal", "sagittal")] == middle
    page.locator('[data-plane="axial"] canvas').hover()
    assert page.locator("[data-tool=readout]").inner_text().endswith("HU")
    before = opened.picture("axial")
    for press in ("o", "o"):
        page.locator("[data-viewer]").press(press)
        assert opened.picture("axial") == before
    save = page.locator("[data-reading] [type=submit]")
    fault = page.locator("[data-fault]")
    save.click()
    assert "reader" in fault.inner_text()
    page.fill("[name=reader]", 'R1, "chief"')
    assert page.input_value("[name=id]") == "P-17"
    page.fill("[name=right_upper_reticulation]", "12")
    save.click()
    assert fault.inner_text() == (
        "Right upper, Reticulation, %: enter a number from 0 to 100 in steps of 5."
    )
    page.fill("[name=right_upper_reticulation]", "60")
    page.fill("[name=right_upper_consolidation]", "55")
    save.click()
    assert fault.inner_text() == "Right upper: the classes add up to more than 100 %."
    page.fill("[name=right_upper_consolidation]", "30")
    page.fill("[name=left_lower_ground_glass]", "15")
    assert page.inner_text("[data-extent]") == "17.5 %"
    assert score not in page.inner_text("body")
    save.click()
    assert score in page.inner_text("body")
    assert page.is_visible("[data-tool=overlay]")
    assert opened.picture("axial") != before
    assert page.get_attribute("[name=right_upper_reticulation]", "readonly") is not None
    assert opened.serious_faults() == []
    classes = [c.name for c in contract.classes if c.lesion]
    with page.expect_download() as download:
        page.click("[data-download=json]")
    assert download.value.suggested_filename == "reading-P-17-R1-chief-.json"
    stored = json.loads(download.value.path().read_text("utf-8"))
    assert list(stored) == ["schema_version", *reading_columns(classes)]
    with page.expect_download() as download:
        page.click("[data-download=csv]")
    assert download.value.suggested_filename.endswith(".csv")
    (row,) = csv.DictReader(io.StringIO(download.value.path().read_text("utf-8")))
    assert list(row) == reading_columns(classes)
    assert row == {name: str(stored[name]) for name in row}
    assert (row["reader"], row["blind"]) == ('R1, "chief"', "yes")
    assert row["series_digest"] == scored.series.digest
    assert float(row["extent_percent"]) == 17.5
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", row["date"])
    assert sum(float(row[f"{z}_{c}"]) for z in ZONES for c in classes) / 6 == 17.5
    assert opened.errors == []


@needs_chromium
def test_a_reading_beside_the_score_is_marked_as_not_blind(opened, english):
    opened.open(english)
    opened.page.click("summary")
    opened.page.fill("[name=reader]", "=R2")
    opened.page.click("[data-reading] [type=submit]")
    with opened.page.expect_download() as download:
        opened.page.click("[data-download=csv]")
    (row,) = csv.DictReader(io.StringIO(download.value.path().read_text("utf-8")))
    assert row["blind"] == "no"
    assert row["reader"] == "'=R2"
    assert row["extent_percent"] == "0"


def test_hu_are_packed_exactly_or_in_the_finest_step_that_fits():
    rng = np.random.default_rng(4)
    hu = rng.integers(-1024, 1400, (5, 6, 7)).astype(np.int16)
    hu[0, 0, :3] = (-1024, 2047, -1024)
    sizes = []
    for most, step in ((10**6, 1), (0, 8)):
        packed, found = pack_hu(hu, most)
        assert found == step
        low, high = np.frombuffer(zlib.decompress(packed), np.uint8).reshape(2, *hu.shape)
        folded = low.astype(int) | high.astype(int) << 8
        units = np.cumsum((folded >> 1) ^ -(folded & 1), axis=2)
        clipped = np.clip(hu, -1024, 1023)
        assert (np.abs(units * step - 1024 - clipped) < step).all()
        sizes.append(len(packed))
    between, step = pack_hu(hu, sizes[0] - 1)
    assert step == 2
    assert len(between) < sizes[0]


def test_the_viewer_opens_where_most_lesions_are(scored):
    facts = gather_facts(scored.to_dict())
    start, stop = crop_to_lungs(scored.labels)
    box = tuple(slice(a, b) for a, b in zip(start, stop, strict=True))
    lesions = np.isin(scored.labels.array[box], [c.label for c in facts.lesion_classes])
    data = viewer_data(Pictures(scored.image, scored.labels), facts.classes)
    for axis, index in enumerate(data["start"]):
        amounts = lesions.sum(axis=tuple(a for a in range(3) if a != axis))
        assert amounts[index] == amounts.max() > 0


def test_a_heading_and_an_id_are_shown_as_text(scored):
    evil = '<script>alert("x")</script>'
    page = report_page(
        scored.to_dict(), Pictures(scored.image, scored.labels), title=evil, scan_id=evil
    )
    assert evil not in page
    assert "&lt;script&gt;alert" in page


def test_the_real_scan_makes_a_page_under_15_mb(shared_data, scored, contract):
    """With the fake server's rule in place of the network: the voxels decide, not the score."""
    image = to_grid(read_volume(shared_data / "lidc-idri-0314" / "dicom"), contract)
    labels = np.zeros(image.shape, np.uint8)
    labels[5:-5, 75:225, 50:230] = 1
    page = report_page(scored.to_dict(), Pictures(image, image.with_array(labels)))
    assert len(page.encode()) < 15_000_000
