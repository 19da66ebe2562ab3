"""A real viewer lists SEG, SR and capture, and draws the segments on the CT."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from viewer.ohif import CHROMIUM, CT, ROOT, draw

APP = ROOT / ".tools" / "ohif" / "package" / "dist"


@pytest.mark.slow
@pytest.mark.server
@pytest.mark.skipif(not CT.is_dir(), reason="no ../shared/data beside the repository")
@pytest.mark.skipif(not APP.is_dir(), reason="OHIF is not fetched: make ohif")
@pytest.mark.skipif(not Path(CHROMIUM).exists(), reason="the Debian package chromium is missing")
def test_ohif_draws_the_segments_on_the_ct(tmp_path: Path) -> None:
    words = draw(APP, tmp_path / "ohif.png")
    for expected in ("SEG", "SR", "OT", "Reticulation", "Lung without lesion"):
        assert expected in words
    picture = np.asarray(Image.open(tmp_path / "ohif.png").convert("RGB")).astype(int)
    # The viewport, without the panels at both sides: blue is lung there, orange reticulation.
    red, green, blue = np.moveaxis(picture[80:780, 320:1080], -1, 0)
    assert np.count_nonzero((blue - red > 60) & (green > 60)) > 5_000
    assert np.count_nonzero((red - blue > 60) & (red > green)) > 100
