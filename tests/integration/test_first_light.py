"""The whole journey through the real server: DICOM in, DL-ILD out, and never a wrong score."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from integration.conftest import changed, count_scores, send, talk

from dlild_client import Client, write_result
from dlild_client.contract import Contract, parse_contract
from dlild_client.preparation.prepare import PreparedScan
from dlild_client.results.result import Result
from dlild_client.transport.wire import WindowRequest
from dlild_deploy.server import EmbeddedServer
from dlild_export.phantom import Phantom
from engine import Engine, int8_beside
from scan import OpenScan

pytestmark = pytest.mark.server
SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"


def in_process(
    prepared: PreparedScan, weights: Path, contract_text: str
) -> tuple[float, np.ndarray]:
    """Score the same windows without a server: same engine, same blending, one process."""
    contract = parse_contract(contract_text)
    engine = Engine(weights, int8=int8_beside(weights))
    count = len(prepared.plan.origins)
    scan = OpenScan(prepared.box.shape, prepared.plan.shape, count, 3.375, contract)
    for index, (origin, window) in enumerate(prepared.windows(-1024)):
        scan.add(engine.infer(window[None, None])[0], origin, index)
    score = scan.finish()
    return score.dl_ild_percent, score.labels


@pytest.mark.only("embedded", "compared voxel by voxel with the engine of that profile")
def test_the_score_is_that_of_the_same_windows_without_a_server(
    scored: Result, prepared: PreparedScan, weights: Path, contract_text: str
) -> None:
    expected, labels = in_process(prepared, weights, contract_text)

    assert scored.dl_ild_percent == pytest.approx(expected, abs=0.01)
    box = tuple(slice(a, b) for a, b in zip(prepared.box.start, prepared.box.stop, strict=True))
    assert np.mean(scored.labels.array[box] != labels) < 1e-5


def test_the_score_is_near_the_phantoms_truth(
    embedded_server: EmbeddedServer, adult: Path, phantom: Phantom
) -> None:
    with Client(embedded_server.grpc_url) as client:
        scored = client.score(adult)
    assert scored.dl_ild_percent == pytest.approx(phantom.dl_ild_percent, abs=3)
    assert scored.lung_volume_ml == pytest.approx(phantom.lung_volume_ml, rel=0.03)


def test_two_scans_at_once_give_the_results_of_one_after_the_other(
    embedded_server: EmbeddedServer, patient: Path, scored: Result
) -> None:
    def score(_: int) -> np.ndarray:
        return client.score(patient).labels.array

    with Client(embedded_server.grpc_url) as client, ThreadPoolExecutor(2) as pool:
        together = list(pool.map(score, range(2)))

    assert np.array_equal(together[0], scored.labels.array)
    assert np.array_equal(together[1], scored.labels.array)


def test_a_lost_window_gives_no_score(
    embedded_server: EmbeddedServer, requests: list[WindowRequest]
) -> None:
    answers = talk(embedded_server.grpc_url, [r for r in requests if r.index != 3])

    assert count_scores(answers) == 0
    assert "INCOMPLETE" in answers[-1].error_message
    assert "missing: 3" in answers[-1].error_message


def test_a_window_repeated_instead_of_another_gives_no_score(
    embedded_server: EmbeddedServer, requests: list[WindowRequest]
) -> None:
    requests[3] = requests[2]

    answers = talk(embedded_server.grpc_url, requests)

    assert count_scores(answers) == 0
    assert "missing: 3" in answers[-1].error_message


@pytest.mark.parametrize("place", [0, 3, -1])
def test_a_window_that_fails_gives_no_score(
    embedded_server: EmbeddedServer, requests: list[WindowRequest], place: int
) -> None:
    window = requests[place].window.copy()
    window[5, 6, 7] = np.nan
    requests[place] = changed(requests[place], window=window)

    answers = talk(embedded_server.grpc_url, requests)

    assert count_scores(answers) == 0
    assert any("REFUSED" in a.error_message for a in answers if hasattr(a, "error_message"))


def test_the_whole_scan_sent_again_scores_after_a_failure(
    embedded_server: EmbeddedServer, requests: list[WindowRequest]
) -> None:
    talk(embedded_server.grpc_url, requests[:4], ends=False)
    again = [changed(r, sequence_id="5c1b8f0e-7a3d-4b8e-9d57-1f6b0c2a9e44") for r in requests]

    answers = talk(embedded_server.grpc_url, again)

    assert count_scores(answers) == 1


def test_an_abort_request_ends_a_scan_at_once(
    embedded_server: EmbeddedServer, requests: list[WindowRequest], contract: Contract
) -> None:
    talk(embedded_server.grpc_url, requests[:2], ends=False)

    smallest = contract.windows.minimum
    ended = send(embedded_server.grpc_url, [requests[0].abort_request(smallest)])
    late = send(embedded_server.grpc_url, [requests[2].message()])

    assert count_scores(ended + late) == 0
    assert "INCOMPLETE" in ended[-1].error_message
    assert "START flag" in late[-1].error_message or "GONE" in late[-1].error_message


@pytest.mark.only("embedded", "its precision depends on the processor")
def test_the_files_of_a_result(scored: Result, tmp_path: Path) -> None:
    write_result(scored, tmp_path)

    stored = json.loads((tmp_path / "result.json").read_text(encoding="utf-8"))
    assert stored["model"]["profile"] == "embedded"
    assert stored["model"]["engine"] == "openvino"
    assert stored["model"]["precision"] in {"int8", "bf16", "f32"}
    assert stored["research_use_only"] is True
    labels = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "labels.nii.gz")))
    voxel_ml = np.prod(stored["grid"]["spacing_mm"]) / 1000
    assert (labels >= 1).sum() * voxel_ml == pytest.approx(stored["lung_volume_ml"], abs=0.01)
    assert (labels >= 2).sum() * voxel_ml == pytest.approx(stored["lesion_volume_ml"], abs=0.01)
    zones = stored["zones"].values()
    assert sum(z["lung_ml"] for z in zones) == pytest.approx(stored["lung_volume_ml"], abs=0.01)


@pytest.mark.slow
@pytest.mark.skipif(not SHARED.is_dir(), reason="no ../shared/data beside the repository")
def test_a_real_ct_without_disease(embedded_server: EmbeddedServer) -> None:
    with Client(embedded_server.grpc_url) as client:
        result = client.score(SHARED / "lidc-idri-0314" / "dicom")

    assert 2500 < result.lung_volume_ml < 3100
    assert result.dl_ild_percent < 8
