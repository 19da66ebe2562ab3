"""Single slices without lesions as cases of a training."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from dlild_client.errors import UnreadableFileError
from dlild_export.cli import app
from dlild_export.data.contracts import find_contract
from dlild_export.data.single_slices import (
    REPEATS,
    SLICES_A_CASE,
    label_slice,
    write_single_slices,
)
from dlild_export.phantom import PhantomSpec, make_phantom
from dlild_export.phantom.dicom import write_dicom_series


@pytest.fixture(scope="module")
def series(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Slices of a healthy phantom as DICOM files."""
    folder = tmp_path_factory.mktemp("slices")
    phantom = make_phantom(PhantomSpec(seed=3, noise_hu=10), spacing_mm=3.0)
    write_dicom_series(phantom, folder, pixel_mm=1.0, slice_mm=10.0)
    return folder


def test_lung_and_vessels_are_lung_and_gas_is_not() -> None:
    y, x = np.ogrid[:200, :260]
    hu = np.full((200, 260), -1000, np.int16)
    hu[((y - 100) / 80) ** 2 + ((x - 130) / 110) ** 2 < 1] = 40
    right = (y - 100) ** 2 + (x - 80) ** 2 < 35**2
    left = (y - 100) ** 2 + (x - 180) ** 2 < 35**2
    hu[right | left] = -850
    vessel = (y - 100) ** 2 + (x - 80) ** 2 < 2**2
    mass = (y - 100) ** 2 + (x - 180) ** 2 < 12**2
    gas = (y - 60) ** 2 + (x - 130) ** 2 < 8**2
    hu[vessel | mass] = 40
    hu[gas] = -990

    labels = label_slice(hu, 1.5)

    assert labels[right].mean() > 0.97
    assert labels[vessel].all()
    assert not labels[mass].any()
    assert not labels[gas].any()
    assert not labels[~(right | left)].mean() > 0.01


def test_eight_slices_make_a_case(series: Path, tmp_path: Path) -> None:
    files = sorted(series.glob("*.dcm"))[5 : 5 + SLICES_A_CASE + 1]

    names = list(write_single_slices(files, tmp_path, find_contract()))

    assert names == ["slices-00", "slices-01"]
    with np.load(tmp_path / "slices-00.npz") as case:
        assert case["hu"].shape == case["labels"].shape
        assert len(case["hu"]) == SLICES_A_CASE * REPEATS
        assert (case["hu"][0] == case["hu"][REPEATS - 1]).all()
        lung = case["labels"] == 1
        assert 0.02 < lung.mean() < 0.6
        assert case["hu"][lung].mean() < -700
        assert json.loads(str(case["info"]))["dl_ild_percent"] == 0


def test_what_is_no_slice_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.dcm").write_bytes(b"nothing")

    with pytest.raises(UnreadableFileError, match=r"a\.dcm: no CT slice"):
        list(write_single_slices([tmp_path / "a.dcm"], tmp_path / "out", find_contract()))


def test_an_empty_folder_is_named(tmp_path: Path) -> None:
    outcome = CliRunner().invoke(app, ["single-slices", str(tmp_path), str(tmp_path / "out")])

    assert outcome.exit_code == 3
    assert "no *.dcm" in outcome.stderr
