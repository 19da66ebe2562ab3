"""The gate of the INT8 form: what passes, what is refused, and which scans go through it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import Result
from export.tiny import coarse_scan, tiny_run, write_repository
from typer.testing import CliRunner

from dlild_client.contract import Contract, parse_contract
from dlild_client.volume import SeriesInfo, Volume
from dlild_export.cli import app
from dlild_export.data.contracts import read_releases
from dlild_export.data.digest import sha256
from dlild_export.release import int8_gate
from dlild_export.release.int8_gate import GateScan, pass_gate, refusals, variants
from dlild_export.serving import engines
from dlild_export.serving.engines import IN_FP32, Engine


@pytest.fixture(scope="module")
def contract(repository: Path) -> Contract:
    """The contract, with a grid of the scan's voxels: it is scored hundreds of times here."""
    real = parse_contract((repository / "contract.json").read_text("utf-8"))
    return replace(real, grid=replace(real.grid, spacing_mm=coarse_scan().spacing_mm))


def by_hu(lesion_hu: float) -> Engine:
    """Return an engine that calls lung denser than `lesion_hu` ground-glass."""

    def run(window: np.ndarray) -> np.ndarray:
        labels = np.where(window < -1000, 0, np.where(window < lesion_hu, 1, 2))
        return (np.arange(6)[:, None, None, None] == labels[0]).astype(np.float16)[None]

    return Engine("by-hu", f"{lesion_hu:g}", lambda: run)


@pytest.fixture
def gate(contract: Contract, monkeypatch: pytest.MonkeyPatch):
    def through(*lesion_hu: float, scans: int = 20, truth: np.ndarray | None = None):
        monkeypatch.setattr(int8_gate, "gate_engines", lambda *_: [by_hu(hu) for hu in lesion_hu])
        grid = coarse_scan()
        given = [GateScan(f"scan {n}", grid, truth) for n in range(scans)]
        return pass_gate(Path("a"), Path("b"), given, contract, "d" * 64)

    return through


def test_what_is_equal_passes(gate) -> None:
    assert refusals(gate(-500, -500)) == []


def test_fewer_than_twenty_scans_do_not_pass(gate) -> None:
    (reason,) = refusals(gate(-500, -500, scans=19))
    assert reason == "only 19 scans went through the gate, 20 are asked for"


def test_a_small_difference_passes_and_one_over_the_limit_is_refused_on_every_scan(gate) -> None:
    assert refusals(gate(-500, -499)) == []
    found = gate(-500, -494)
    assert 0.05 < abs(found.rows[1].difference) < 0.2, "more than this gate passes"
    assert len(refusals(found)) == 20
    assert "at most 0.05 pass" in refusals(found)[0]


def test_a_loss_of_dice_is_refused_even_where_the_index_is_right(gate, contract) -> None:
    grid = coarse_scan()
    truth = np.where(grid.array >= -500, 2, 1).astype(np.uint8)
    assert refusals(gate(-500, -500, truth=truth)) == []
    worse = gate(-500, -300, scans=2, truth=truth)
    assert any("mean Dice of the lesions" in reason for reason in refusals(worse))
    expected, lost = worse.mean_dice().values()
    assert expected > lost + 0.005


def test_a_real_scan_goes_through_with_gaps_and_other_kernels() -> None:
    rng = np.random.default_rng(0)
    volume = Volume(
        rng.integers(-1000, 300, (22, 8, 8)).astype(np.int16),
        (1.0, 0.7, 0.7),
        series=SeriesInfo(slices=22),
        slice_thicknesses_mm=(1.0,) * 22,
    )
    found = dict(variants(volume))

    assert list(found) == ["", ", every 5th slice", ", every 10th slice", ", softer", ", sharper"]
    gapped = found[", every 10th slice"]
    np.testing.assert_array_equal(gapped.array, volume.array[[0, 10, 20]])
    assert (gapped.spacing_mm, gapped.slice_thicknesses_mm) == ((10.0, 0.7, 0.7), (1.0,) * 3)
    spread = [float(np.std(found[name].array)) for name in (", softer", "", ", sharper")]
    assert spread == sorted(spread)


def run_command(
    repository: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, quantised: Engine
) -> tuple[Result, Path, Path]:
    """Make and release an INT8 form, where the gate finds it to compute as `quantised` does.

    Returns the outcome, the copied repository that it was to be released to, and the file.
    """
    crop = np.random.default_rng(0).uniform(-1024, 400, (32,) * 3).astype(np.float16)
    scans = [GateScan(f"scan {n}", coarse_scan()) for n in range(20)]
    monkeypatch.setattr(int8_gate, "calibration_crops", lambda *_: iter([crop]))
    monkeypatch.setattr(int8_gate, "gate_scans", lambda *_: iter(scans))
    monkeypatch.setattr(int8_gate, "gate_engines", lambda *_: [by_hu(-500), quantised])
    copied = write_repository(folder / "model_repository", repository)
    weights, out = tiny_run() / "model.onnx", folder / "model.int8.onnx"
    contract = copied / "contract.json"
    content = json.loads(contract.read_text("utf-8"))
    content["grid"]["spacing_mm"] = coarse_scan().spacing_mm
    contract.write_text(json.dumps(content, indent=2), "utf-8")
    command = ["int8", str(weights), str(out), "--contract", str(contract)]
    command += ["--release", str(copied)]
    return CliRunner().invoke(app, command), copied, out


@pytest.mark.parametrize("agree", [True, False])
def test_the_command_writes_what_passes_and_nothing_else(
    agree: bool, repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = by_hu(-500 if agree else -300)
    done, copied, out = run_command(repository, tmp_path, monkeypatch, engine)

    placed = copied / "ild_unet" / "1" / "model.int8.onnx"
    assert done.exit_code == (0 if agree else 1)
    assert (out.is_file(), placed.is_file()) == (agree, agree)
    assert not list(tmp_path.glob(".*unfinished"))
    if agree:
        assert read_releases(copied).releases[1].int8_sha256 == sha256(out) == sha256(placed)
        assert sha256(out) in (copied / "ild_unet" / "config.pbtxt").read_text()
        source = {p.key: p.value for p in onnx.load(str(out)).metadata_props}[int8_gate.SOURCE]
        assert source == sha256(tiny_run() / "model.onnx")
    else:
        assert read_releases(copied).releases[1].int8_sha256 is None
        assert "no INT8 form: by-hu -300 on scan 0: DL-ILD" in done.output


def test_a_form_that_was_computed_in_fp32_is_written_and_not_released(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = replace(by_hu(-500), note=IN_FP32)
    done, copied, out = run_command(repository, tmp_path, monkeypatch, engine)

    assert done.exit_code == 1
    assert "no kernels for 8 bits: not released; run this on a CPU with VNNI or AMX" in done.output
    assert out.is_file()
    assert read_releases(copied).releases[1].int8_sha256 is None


def test_int8_is_computed_in_fp32_where_the_cpu_has_no_kernels_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    notes = []
    for flags in (frozenset({"avx512_vnni"}), frozenset()):
        monkeypatch.setattr(engines, "cpu_flags", lambda flags=flags: flags)
        notes.append(int8_gate.gate_engines(Path("a"), Path("b"))[1].note)
    assert notes == ["", IN_FP32]
