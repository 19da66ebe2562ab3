"""A page of this package in a real Chromium, with everything that it logs and asks for."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import sync_playwright

CHROMIUM = shutil.which("chromium")
needs_chromium = pytest.mark.skipif(
    CHROMIUM is None, reason="no chromium here (Debian: apt-get install chromium)"
)


class Opened:
    """An open page: `page` of playwright, and what went wrong on it."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self.errors: list[str] = []
        self.requests: list[str] = []
        page.on("console", lambda m: self.errors.append(m.text) if m.type != "log" else None)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("request", lambda request: self.requests.append(request.url))

    def open(self, path: Path) -> None:
        self.page.goto(path.as_uri())
        if self.page.query_selector("[data-viewer]"):
            self.page.wait_for_selector('[data-viewer][data-ready="yes"]', timeout=30_000)

    def serious_faults(self) -> list[str]:
        """Faults of accessibility that axe-core calls serious or critical."""
        found = Axe().run(self.page).response["violations"]
        return [
            f"{fault['id']}: {fault['nodes'][0]['html'][:200]}"
            for fault in found
            if fault["impact"] in {"serious", "critical"}
        ]

    def printed_pages(self, **options: Any) -> int:
        return len(re.findall(rb"/Type\s*/Page\b", self.page.pdf(**options)))

    def slice_of(self, plane: str, scan: int = 0) -> int:
        selector = f'[data-views="{scan}"] [data-plane={plane}] canvas'
        return int(self.page.get_attribute(selector, "data-slice"))

    def picture(self, plane: str, scan: int = 0) -> str:
        selector = f'[data-views="{scan}"] [data-plane={plane}] canvas'
        return str(self.page.eval_on_selector(selector, "canvas => canvas.toDataURL()"))


@contextmanager
def chromium() -> Iterator[Any]:
    """A headless Chromium that reaches no host."""
    with sync_playwright() as playwright:
        # As root it runs without its sandbox, as in containers.
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        try:
            yield browser
        finally:
            browser.close()
