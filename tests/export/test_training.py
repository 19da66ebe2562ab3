"""The thin path of training: phantoms to checkpoint to ONNX, and its parity with torch."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from dlild_export.calibrate import add_lesion_bias, find_lesion_bias, lesion_share
from dlild_export.dataset import write_phantoms
from dlild_export.evaluate import Score, dice, predict, summarise
from dlild_export.onnx_export import check_parity, export_onnx, write_digest
from dlild_export.phantom import Pattern, PhantomSpec
from dlild_export.unet import UNet, UNetConfig

SMALL = UNetConfig(channels=(8, 16))


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phantoms")
    specs = [PhantomSpec(seed=s, pattern=Pattern.MIXED, severity=0.3) for s in (1, 2)]
    done = list(write_phantoms(folder, specs, lung_masks=[], spacing_mm=5.0, workers=1))
    assert sorted(done) == [1, 2]
    return folder


def test_onnx_computes_what_torch_does(tmp_path: Path) -> None:
    torch.manual_seed(3)
    network = UNet(SMALL).eval()
    weights = tmp_path / "model.onnx"
    window = np.random.default_rng(0).uniform(-1024, 400, (16, 24, 32)).astype(np.float32)

    export_onnx(network, weights)

    assert check_parity(network, weights, window).holds
    other = UNet(SMALL).eval()
    assert not check_parity(other, weights, window).holds


def test_the_lesion_bias_moves_the_score_and_nothing_else(phantoms: Path) -> None:
    torch.manual_seed(5)
    network = UNet(SMALL).eval()
    with torch.no_grad():
        network.head.weight.zero_()
        # Lung everywhere, with lesion just behind: any bias above 0.35 makes lesion of it.
        network.head.bias.copy_(torch.tensor([0.0, 1.0, 0.65, 0.0, 0.0, 0.0]))

    bias = find_lesion_bias(network, phantoms, count=2)
    assert bias == pytest.approx(0.0)  # all lung is 30 points short, all lesion 70 too far

    add_lesion_bias(network, 0.4)
    labels = network(torch.zeros(1, 1, 8, 8, 8)).argmax(dim=1)
    assert (labels == 2).all()


def test_lesion_share_counts_lesions_as_lung() -> None:
    logits = np.zeros((6, 1, 1, 3))
    logits[:, 0, 0, 0] = [2, 0, 0, 0, 0, 1.5]  # outside, nearly consolidation
    logits[:, 0, 0, 1] = [0, 2, 0, 1.5, 0, 0]  # lung, nearly reticulation
    logits[:, 0, 0, 2] = [0, 0, 3, 0, 0, 0]

    assert lesion_share(logits, 0.0) == (2, 1)
    assert lesion_share(logits, 1.0) == (3, 3)


def test_the_digest_is_written_into_the_contract(tmp_path: Path) -> None:
    contract, weights = tmp_path / "contract.json", tmp_path / "model.onnx"
    contract.write_text(json.dumps({"model": {"weights_sha256": "0" * 64}}))
    weights.write_bytes(b"weights")

    digest = write_digest(contract, weights)

    assert json.loads(contract.read_text())["model"]["weights_sha256"] == digest
    assert digest.startswith("9a129038")


def test_predict_covers_volumes_of_any_size() -> None:
    class Background:
        def run(self, _: object, feed: dict[str, np.ndarray]) -> list[np.ndarray]:
            window = feed["window"]
            assert all(n % 8 == 0 for n in window.shape[2:])
            out = np.zeros((1, 6, *window.shape[2:]), np.float16)
            out[:, 1] = 1
            return [out]

    assert predict(Background(), np.zeros((9, 16, 17))).shape == (9, 16, 17)  # type: ignore[arg-type]


def test_dice() -> None:
    first, second = np.array([True, True, False]), np.array([True, False, False])
    assert dice(first, second) == pytest.approx(2 / 3)
    assert np.isnan(dice(~first & first, ~first & first))


def test_summary_signs_the_bias() -> None:
    scores = [Score(1, 0.9, 0.8, 12.0, 10.0), Score(2, 0.9, float("nan"), 1.0, 0.0)]
    summary = summarise(scores)

    assert summary["dl_ild_bias"] == pytest.approx(1.5)
    assert summary["lesion_dice"] == pytest.approx(0.8)
