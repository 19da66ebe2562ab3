"""A result of the fake server, and variants of it, for all that people look at."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from client.conftest import SeriesWriter, make_chest
from client.report.browser import Opened, chromium
from fake_server import FakeServer, cubes_only

from dlild_client.client import Client
from dlild_client.flags import Flag
from dlild_client.reading.read import read_volume
from dlild_client.results.result import Result


@pytest.fixture(scope="session")
def scored(contract_text: str, tmp_path_factory: pytest.TempPathFactory) -> Result:
    """One scored chest, shared: nothing may change it."""
    writer = SeriesWriter(tmp_path_factory.mktemp("dicom"))
    fake = FakeServer(cubes_only(contract_text))
    fake.start()
    try:
        with Client(fake.url) as client:
            return client.score(read_volume(writer.write(make_chest(), "SECRET-FOLDER")))
    finally:
        fake.stop()


@pytest.fixture(scope="session")
def doubtful(scored: Result) -> Result:
    """The same with more flags than a page writes out."""
    codes = ("thick_slices", "contrast_likely", "hu_shifted", "metal_likely", "heavy_noise")
    more = ("unusual_kernel", "blank_slices", "not_supine", "lossy_compression", "series_joined")
    first = Flag("gaps_between_slices", step_mm=10.0, thickness_mm=1.25)
    return replace(scored, flags=(first, *(Flag(code) for code in (*codes, *more))))


@pytest.fixture(scope="session")
def unlabelled(scored: Result) -> Result:
    """The same with a label map in which nothing is lung."""
    empty = np.zeros_like(scored.labels.array)
    return replace(scored, labels=scored.labels.with_array(empty))


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A browser for one module: its event loop would break `asyncio.run` in the tests of others."""
    with chromium() as opened:
        yield opened


@pytest.fixture
def opened(browser: Any) -> Iterator[Opened]:
    """A fresh page."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, accept_downloads=True)
    yield Opened(context.new_page())
    context.close()
