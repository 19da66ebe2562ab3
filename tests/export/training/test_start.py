"""Weights to begin with: a checkpoint's or a released ONNX file's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from export.small_cases import small_config, write_cases

from dlild_export.serving.onnx import export_onnx
from dlild_export.training.loop import train
from dlild_export.training.start import (
    WeightsError,
    adopt,
    load_network,
    normalised,
    restore_statistics,
)
from dlild_export.training.unet import ServedUNet, UNet, UNetConfig

pytestmark = pytest.mark.usefixtures("one_thread")

WIDTHS = UNetConfig(channels=(4, 8, 8))


def _hu(seed: int, n: int = 1) -> torch.Tensor:
    hu = np.random.default_rng(seed).normal(-600, 300, (n, 1, 32, 32, 32))
    return torch.from_numpy(hu.round()).half()


@pytest.fixture(scope="module")
def network() -> UNet:
    """A network whose normalisation has seen something."""
    torch.manual_seed(0)
    network = UNet(WIDTHS).train()
    with torch.no_grad():
        for seed in range(20):
            network(_hu(seed, 2).float())
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return network.eval()


@pytest.fixture(scope="module")
def released(network: UNet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("released") / "model.onnx"
    export_onnx(network, path)
    return path


def _served(network: UNet, window: torch.Tensor) -> np.ndarray:
    with torch.inference_mode():
        return ServedUNet(network)(window).float().numpy()


def _difference(network: UNet, path: Path, edge: int = 32) -> float:
    window = _hu(99)[..., :edge, :edge, :edge]
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    expected = session.run(None, {session.get_inputs()[0].name: window.numpy()})[0]
    return float(np.abs(_served(network, window) - expected.astype(np.float32)).max())


def test_a_released_file_gives_its_network_back(network: UNet, released: Path) -> None:
    read = load_network(released)

    assert read.config == WIDTHS
    assert _difference(read, released) < 2e-3
    assert _difference(UNet(WIDTHS).eval(), released) > 0.05


def test_the_shipped_weights_can_be_begun_with(repository: Path) -> None:
    for shipped in (repository / "ild_unet").glob("*/model.onnx"):
        # Versions 2 and 3 saw another density, a mean: theirs is a near start.
        most = 0.1 if shipped.parent.name in {"2", "3"} else 2e-3
        assert _difference(load_network(shipped), shipped) < most


def test_training_goes_on_from_what_was_released(released: Path) -> None:
    read = load_network(released)
    window = _hu(99, 2)
    before = _served(read, window)

    astray = np.abs(_served(read.train(), window) - before).mean()
    read = load_network(released)
    restore_statistics(read, [_hu(seed).float() for seed in range(10)])

    np.testing.assert_allclose(_served(read.eval(), window), before, atol=2e-3)
    near = np.abs(_served(read.train(), window) - before).mean()
    assert near < astray / 10


def test_a_checkpoint_and_an_onnx_file_begin_trainings(tmp_path: Path) -> None:
    cases = write_cases(tmp_path / "cases", 2)
    settings = {"stages": [{"steps": 6, "patch": 16}], "bf16": False}
    checkpoint = train(cases, tmp_path / "first", small_config(**settings))
    network = load_network(checkpoint)
    export_onnx(network, tmp_path / "model.onnx")

    # So slow that what comes out is what went in.
    slow = small_config(**settings, learning_rate=1e-30, average_steps=1)
    for start in (checkpoint, tmp_path / "model.onnx"):
        begun = train(cases, tmp_path / f"from-{start.name}", slow, start=start)
        got, expected = load_network(begun), network
        for name, parameter in got.head.named_parameters():
            torch.testing.assert_close(parameter, expected.head.get_parameter(name))


def test_another_network_is_refused(released: Path, tmp_path: Path) -> None:
    cases = write_cases(tmp_path / "cases", 2)

    with pytest.raises(WeightsError, match=r"model.onnx holds .*\(4, 8, 8\).*\(8, 16\)"):
        train(cases, tmp_path / "run", small_config(), start=released)


def test_files_that_hold_no_weights_are_named(tmp_path: Path) -> None:
    for name in ("no.pt", "no.onnx"):
        path = tmp_path / name
        with pytest.raises(WeightsError, match=f"{name}: no such file"):
            load_network(path)
        path.write_bytes(b"\x08nothing of the kind")
        with pytest.raises(WeightsError, match=f"{name}: no"):
            load_network(path)
    torch.save({"average": {}}, tmp_path / "other.pt")
    with pytest.raises(WeightsError, match=r"other\.pt: no checkpoint"):
        load_network(tmp_path / "other.pt")


def test_another_onnx_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.onnx"
    ends = [onnx.helper.make_tensor_value_info(name, 1, [1]) for name in "ab"]
    node = onnx.helper.make_node("Relu", ["a"], ["b"])
    graph = onnx.helper.make_graph([node], "other", ends[:1], ends[1:])
    onnx.save(onnx.helper.make_model(graph), str(path))

    with pytest.raises(WeightsError, match="not an ONNX file of this U-Net"):
        load_network(path)


def test_statistics_can_be_kept_as_they_are_served(tmp_path: Path) -> None:
    cases = write_cases(tmp_path / "cases", 2)
    settings = {"stages": [{"steps": 4, "patch": 16}], "bf16": False}
    first = train(cases, tmp_path / "first", small_config(**settings))
    fixed = small_config(**settings, fixed_statistics=True)

    with pytest.raises(WeightsError, match=r"fixed_statistics is true.*--start"):
        train(cases, tmp_path / "none", fixed)
    second = train(cases, tmp_path / "second", fixed, start=first)

    begun, trained = load_network(first).state_dict(), load_network(second).state_dict()
    running = [name for name in begun if "running" in name]
    assert running
    for name in running:
        torch.testing.assert_close(trained[name], begun[name])
    assert not torch.equal(trained["head.weight"], begun["head.weight"])


def test_a_network_that_newly_sees_the_density_computes_what_it_did_before(network: UNet) -> None:
    plain = UNet(replace(WIDTHS, lung_density=False)).eval()
    seeing = adopt(plain, WIDTHS)

    assert seeing.config == WIDTHS
    np.testing.assert_allclose(_served(seeing, _hu(3)), _served(plain, _hu(3)), atol=2e-4)
    with torch.no_grad():
        next(seeing.parameters())[:, 1] = 5.0
    assert np.abs(_served(seeing, _hu(3)) - _served(plain, _hu(3))).max() > 2e-3


@pytest.mark.parametrize("stem", ["full", "space_to_depth"])
def test_a_network_of_another_stem_begins_with_the_deeper_levels(stem: str) -> None:
    other = {"full": "space_to_depth", "space_to_depth": "full"}[stem]
    before = UNet(replace(WIDTHS, stem=stem, stem_channels=4)).eval()

    adopted = adopt(before, replace(WIDTHS, stem=other, stem_channels=4))

    assert adopted.config.stem == other
    kept, weights = before.state_dict(), adopted.state_dict()
    for name in ("down.1.0.weight", "down.2.4.running_var", "upsampling.0.bias", "up.0.3.weight"):
        assert torch.equal(weights[name], kept[name])
    assert weights["head.weight"].shape != kept["head.weight"].shape


def test_statistics_are_restored_after_a_space_to_depth_too() -> None:
    torch.manual_seed(0)
    network = UNet(replace(WIDTHS, stem="space_to_depth")).eval()
    before = _served(network, _hu(99, 2))

    restore_statistics(network, [_hu(seed).float() for seed in range(4)])

    np.testing.assert_allclose(_served(network, _hu(99, 2)), before, atol=2e-3)
    assert all(
        not torch.equal(norm.weight, torch.ones_like(norm.weight))
        for _, norm in normalised(network)
    )
