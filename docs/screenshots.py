"""Take the pictures of the README: pages of phantom patients, scored by the real server.

Needs Chromium (Debian: ``apt-get install chromium fonts-noto-cjk``) and the environments of
``make venvs``. Patients and scores are those of the served weights, so the pictures are taken again
with each release: ``make screenshots``.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from docs.references import ROOT
from PIL import Image
from playwright.sync_api import sync_playwright

from dlild_client import Client
from dlild_client.reading.read import read_volume
from dlild_client.report.comparison import comparison_page
from dlild_client.report.page import write_report
from dlild_client.report.summary import summary_page
from dlild_client.results.compare import compare_results
from dlild_client.results.files import write_result
from dlild_client.results.stored import read_stored
from dlild_deploy.server import EmbeddedServer
from dlild_export.phantom import Pattern, PhantomSpec, make_phantom
from dlild_export.phantom.dicom import write_dicom_series

OUT = ROOT / "docs" / "pictures"
PATIENT = PhantomSpec(seed=2_000_005, pattern=Pattern.UIP, severity=0.15)
LATER = replace(PATIENT, severity=0.3)
"""The same patient a year later."""
WIDTH = 1280
JPEG_QUALITY = 88
"""PNG of few colours would merge those of two classes; of all colours it has 1 MB."""


def main() -> None:
    """Score two scans of a phantom patient, and photograph their pages."""
    chromium = shutil.which("chromium")
    if chromium is None:
        sys.exit("docs.screenshots: no chromium here; apt-get install chromium")
    with tempfile.TemporaryDirectory(prefix="dlild-screenshots-") as place, served() as client:
        folder = Path(place)
        scans, results = [], []
        for name, spec in (("earlier", PATIENT), ("later", LATER)):
            write_dicom_series(make_phantom(spec), folder / name)
            result = client.score(read_volume(folder / name))
            write_result(result, folder / f"{name}-result")
            scans.append(folder / name)
            results.append(result)
        for language in ("en", "zh"):
            write_report(results[1], folder / f"report-{language}.html", language)
        save(summary_page(results[1]), "summary-en")
        stored = [read_stored(folder / f"{name}-result") for name in ("earlier", "later")]
        page = comparison_page(compare_results(stored, (0, 365)), scans)
        (folder / "comparison.html").write_text(page, encoding="utf-8")
        with browser(chromium) as opened:
            for name in ("report-en", "report-zh", "comparison"):
                photograph(opened, folder / f"{name}.html", name)


@contextmanager
def served() -> Iterator[Client]:
    """Yield a client of the real server."""
    with (
        EmbeddedServer(grpc_port=0, http_port=0, metrics_port=0) as server,
        Client(server.grpc_url) as client,
    ):
        yield client


@contextmanager
def browser(chromium: str) -> Iterator[Any]:
    """Yield a headless Chromium."""
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        try:
            yield opened
        finally:
            opened.close()


def photograph(opened: Any, path: Path, name: str) -> None:
    """Take a picture of a whole page."""
    page = opened.new_page(viewport={"width": WIDTH, "height": 900})
    page.goto(path.as_uri())
    page.wait_for_selector('[data-viewer][data-ready="yes"]')
    target = path.with_suffix(".png")
    page.screenshot(path=target, full_page=True)
    page.close()
    with Image.open(target) as image:
        save(image, name)


def save(image: Image.Image, name: str) -> None:
    """Write a picture."""
    image.convert("RGB").save(OUT / f"{name}.jpg", quality=JPEG_QUALITY, optimize=True)
    print(f"docs/pictures/{name}.jpg")


if __name__ == "__main__":
    main()
