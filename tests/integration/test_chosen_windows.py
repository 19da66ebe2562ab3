"""The windows that the client chooses give the score of dense ones, with far fewer voxels."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest

from dlild_client.contract import Contract, parse_contract
from dlild_client.contract.windows import WindowPlan, axis_origins, fit_box
from dlild_client.preparation.prepare import PreparedScan, prepare
from dlild_client.reading.read import read_volume
from engine import Engine, int8_beside
from scan import OpenScan

pytestmark = pytest.mark.slow
SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"


@pytest.fixture(scope="module")
def engine(weights: Path) -> Engine:
    return Engine(weights, int8=int8_beside(weights))


def cubes(prepared: PreparedScan, contract: Contract, overlap: float) -> PreparedScan:
    """The same scan with windows of 96^3."""
    edge = (96, 96, 96)
    spec = replace(contract.windows, minimum=edge, maximum=edge)
    box = fit_box(
        prepared.box.start,
        tuple(min(b, n) for b, n in zip(prepared.box.stop, prepared.grid.shape, strict=True)),
        prepared.grid.shape,
        replace(contract, windows=spec),
    )
    axes = [axis_origins(n, p, overlap) for n, p in zip(box.shape, edge, strict=True)]
    return replace(prepared, box=box, plan=WindowPlan(edge, tuple(product(*axes))))


def score(prepared: PreparedScan, engine: Engine, contract_text: str) -> float:
    """DL-ILD of the planned windows: same engine and blending as the server, one process."""
    contract = parse_contract(contract_text)
    scan = OpenScan(
        prepared.box.shape, prepared.plan.shape, len(prepared.plan.origins), 3.375, contract
    )
    for index, (origin, window) in enumerate(prepared.windows(-1024)):
        scan.add(engine.infer(window[None, None])[0], origin, index)
    return scan.finish().dl_ild_percent


def check(prepared: PreparedScan, engine: Engine, contract: Contract, contract_text: str) -> None:
    dense = cubes(prepared, contract, 0.5)
    sparse = cubes(prepared, contract, contract.windows.minimum_overlap)
    chosen = prepared.plan.voxels
    assert chosen < 0.75 * sparse.plan.voxels < dense.plan.voxels
    assert chosen < 1.6 * math.prod(prepared.box.shape)

    expected = score(dense, engine, contract_text)
    found = score(prepared, engine, contract_text)

    print(
        f"box {prepared.box.shape}, windows {prepared.plan.shape} x {len(prepared.plan.origins)}: "
        f"{chosen / 1e6:.1f} M voxels, cubes {sparse.plan.voxels / 1e6:.1f} M, dense "
        f"{dense.plan.voxels / 1e6:.1f} M; DL-ILD {found:.3f}, dense {expected:.3f}"
    )
    assert found == pytest.approx(expected, abs=0.2)


def test_the_phantom_scores_as_with_dense_windows(
    adult: Path,
    engine: Engine,
    contract: Contract,
    contract_text: str,
) -> None:
    prepared = prepare(read_volume(adult), contract)
    check(prepared, engine, contract, contract_text)


@pytest.mark.skipif(not SHARED.is_dir(), reason="no ../shared/data beside the repository")
def test_a_real_ct_scores_as_with_dense_windows(
    engine: Engine, contract: Contract, contract_text: str
) -> None:
    prepared = prepare(read_volume(SHARED / "lidc-idri-0314" / "dicom"), contract)
    check(prepared, engine, contract, contract_text)
