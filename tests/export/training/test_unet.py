"""The level of the lung, and HU relative to it: what the network sees of a chest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import openvino
import pytest
import torch
from examples import examples
from export.tiny import coarse_scan
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import avg_pool3d

from dlild_client.preparation.grid import to_grid
from dlild_client.reading.read import read_volume
from dlild_export.data.contracts import find_contract
from dlild_export.serving.onnx import INPUT, OUTPUT, export_onnx, round_to_bf16
from dlild_export.serving.stages import CONVOLUTIONS, compile_cpu, split
from dlild_export.training.start import load_network
from dlild_export.training.unet import (
    DENSITY_UNIT_HU,
    HEALTHY_HU,
    ServedUNet,
    UNet,
    UNetConfig,
    averaged_evidence,
    cube_evidence,
    evidence_on_cubes,
    relative_offset,
)
from dlild_export.training.unet import lung_density as density_of_offset

CELL = 4
REAL_CT = Path(__file__).parents[4] / "shared" / "data" / "lidc-idri-0314" / "dicom"


def density_of(hu: torch.Tensor, cell: int) -> torch.Tensor:
    return density_of_offset((hu - HEALTHY_HU)[:, 0], cell)[:, None]


def relative_hu(hu: torch.Tensor) -> torch.Tensor:
    hu_offset = (hu - HEALTHY_HU)[:, 0]
    return relative_offset(hu_offset, density_of_offset(hu_offset, CELL))[:, None] + HEALTHY_HU


def _chest(lung_hu: float) -> torch.Tensor:
    """Muscle with lung inside."""
    hu = torch.full((1, 1, 96, 48, 48), 40.0)
    hu[..., 24:56, 8:40, 8:40] = lung_hu
    return hu


@pytest.mark.parametrize("lung_hu", [-950.0, -900.0, -800.0])
def test_the_level_is_that_of_the_lung_whatever_lies_in_it(lung_hu: float) -> None:
    hu = _chest(lung_hu)
    hu[..., 36:44, 8:24, 8:24] = lung_hu + 250  # ground-glass
    hu[..., 46:50, :, 16:24] = 30.0  # a vessel

    level = density_of(hu, CELL)

    assert level.shape == hu.shape
    inside = level[..., 28:52, 12:36, 12:36] * DENSITY_UNIT_HU + HEALTHY_HU
    torch.testing.assert_close(inside, torch.full_like(inside, lung_hu), atol=15, rtol=0)


def test_where_no_lung_is_air_filled_the_level_says_nothing() -> None:
    assert density_of(_chest(-400.0), CELL).abs().max() == 0


@examples(20)
@given(lung_hu=st.floats(-975, -760), places=st.integers(1, 3))
def test_the_level_moves_with_the_windows_origin_by_whole_cells(
    lung_hu: float, places: int
) -> None:
    hu = _chest(lung_hu)
    moved = torch.roll(hu, places * CELL, dims=2)  # muscle comes in where muscle goes out

    expected = torch.roll(density_of(hu, CELL), places * CELL, dims=2)
    torch.testing.assert_close(density_of(moved, CELL), expected, atol=1e-4, rtol=1e-4)


def test_every_scan_of_a_batch_has_a_level_of_its_own() -> None:
    one, other = _chest(-950), _chest(-800)
    both = density_of(torch.cat((one, other)), CELL)
    torch.testing.assert_close(both[:1], density_of(one, CELL))
    torch.testing.assert_close(both[1:], density_of(other, CELL))


@pytest.mark.parametrize("hu", [-1000, -988, -987, -986, -985, -669, -668, -667, -666])
def test_what_is_air_filled_is_exact_in_bf16(hu: int) -> None:
    hu_offset = torch.full((1, 40, 40, 40), hu - HEALTHY_HU)
    torch.testing.assert_close(hu_offset.to(torch.bfloat16).float(), hu_offset, atol=0, rtol=0)
    assert (density_of_offset(hu_offset, CELL).abs().max() > 0) == (-986 <= hu <= -669)


@pytest.mark.parametrize(
    ("lung_hu", "other_hu", "share"),
    [(-930.0, -790.0, 0.4), (-770.0, -950.0, 0.3), (-850.0, -720.0, 0.4)],
    ids=["faint ground-glass in dark lung", "emphysema", "ground-glass"],
)
def test_the_level_rests_on_the_larger_share(lung_hu: float, other_hu: float, share: float) -> None:
    hu = _chest(lung_hu)
    hu[..., 24:56, 8:40, 8 : 8 + int(32 * share)] = other_hu

    inside = density_of(hu, CELL)[..., 28:52, 12:36, 12:36] * DENSITY_UNIT_HU + HEALTHY_HU

    torch.testing.assert_close(inside, torch.full_like(inside, lung_hu), atol=20, rtol=0)


@pytest.mark.parametrize("lung_hu", [-940.0, -900.0, -800.0])
def test_the_same_chest_looks_the_same_at_every_breath(lung_hu: float) -> None:
    hu = _chest(lung_hu)
    hu[..., 46:50, :, 16:24] = 30.0  # a vessel

    seen = relative_hu(hu)

    lung = (hu == lung_hu) & (torch.arange(96)[:, None, None] < 44)
    torch.testing.assert_close(seen[lung], torch.full_like(seen[lung], HEALTHY_HU), atol=25, rtol=0)
    torch.testing.assert_close(seen[hu >= 0], hu[hu >= 0])


def test_where_no_lung_is_air_filled_hu_stay() -> None:
    hu = _chest(-400.0)
    torch.testing.assert_close(relative_hu(hu), hu)


def _middle(hu: np.ndarray) -> np.ndarray:
    """Cut a window of one edge's length from the middle of a scan."""
    start = [(n - 64) // 2 for n in hu.shape]
    cut = hu[tuple(slice(s, s + 64) for s in start)]
    return np.ascontiguousarray(cut[None, None], np.float16)


def _windows(repository: Path) -> list[np.ndarray]:
    windows = [_middle(coarse_scan().array)]
    if REAL_CT.is_dir():
        contract = find_contract(repository)
        windows.append(_middle(to_grid(read_volume(REAL_CT), contract).array))
    return windows


@pytest.fixture(scope="module")
def exported(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Version 7, exported anew."""
    network = load_network(repository / "ild_unet" / "7" / "model.onnx")
    round_to_bf16(network)
    path = tmp_path_factory.mktemp("exported") / "model.onnx"
    export_onnx(network, path)
    return path


@pytest.mark.slow
def test_an_export_of_today_computes_what_the_released_version_7_does(
    repository: Path, exported: Path
) -> None:
    released = repository / "ild_unet" / "7" / "model.onnx"
    sessions = [
        onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        for path in (released, exported)
    ]

    for window in _windows(repository):
        before, after = (session.run([OUTPUT], {INPUT: window})[0] for session in sessions)
        assert len(np.unique(before.argmax(axis=1))) > 1
        # Evidence is averaged in another order since: the last bit of FP16 may differ.
        np.testing.assert_allclose(after, before, atol=2e-3)
        assert np.mean(after.argmax(axis=1) != before.argmax(axis=1)) < 1e-4


@given(
    shape=st.tuples(*[st.integers(3, 9)] * 3),
    passes=st.integers(0, 4),
    seed=st.integers(0, 2**32 - 1),
)
def test_the_mean_of_neighbours_is_that_of_poolings_with_zeros_beyond_the_edges(
    shape: tuple[int, int, int], passes: int, seed: int
) -> None:
    lung, lesions = torch.rand(2, 2, 1, *shape, generator=torch.Generator().manual_seed(seed))

    found = cube_evidence(lung, lesions, passes)

    weight = lung + lesions
    odds = ((lesions + 1e-6) / (lung + 1e-6)).log().clamp(-6, 6)
    sums = weight * odds
    for _ in range(passes):
        sums, weight = (avg_pool3d(x, 3, stride=1, padding=1) for x in (sums, weight))
    torch.testing.assert_close(found, sums / (weight + 1e-4), atol=1e-4, rtol=1e-4)


def test_evidence_is_averaged_in_fp32_where_the_network_is_in_mixed_precision() -> None:
    lung, lesions = torch.rand(2, 1, 1, 8, 8, 8)
    expected = cube_evidence(lung, lesions, 2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = cube_evidence(lung, lesions, 2)
    assert torch.equal(found, expected)


def test_the_level_of_the_lung_is_computed_without_a_channel_axis(exported: Path) -> None:
    model = onnx.shape_inference.infer_shapes(onnx.load(str(exported)))

    ranks = {
        v.name: len(v.type.tensor_type.shape.dim)
        for v in (*model.graph.value_info, *model.graph.input)
    }
    kinds = [n.op_type for n in model.graph.node]
    # The first one takes healthy lung off; the last one joins HU and level.
    level = model.graph.node[kinds.index("Sub") + 1 : kinds.index("Conv")]
    element_wise = {"Mul", "Sub", "Div", "Min", "Clip", "Greater", "Less", "And"}
    nodes = [node for node in level if node.op_type in element_wise]
    assert {node.op_type for node in nodes} == element_wise
    assert {ranks[node.output[0]] for node in nodes} == {4}


def test_checkpoints_that_store_the_upsampling_as_rise_are_read() -> None:
    config = UNetConfig(channels=(2, 4, 8))
    network, other = UNet(config), UNet(config)
    stored = {
        key.replace("upsampling.", "rise."): value for key, value in network.state_dict().items()
    }
    assert "rise.0.weight" in stored

    torch.nn.ModuleList([other]).load_state_dict({f"0.{k}": v for k, v in stored.items()})

    for key, value in network.state_dict().items():
        assert torch.equal(other.state_dict()[key], value)


def _logits(outside: float = -6.0, lung: float = 2.0, lesion: float = -1.0) -> torch.Tensor:
    values = torch.tensor([outside, lung, lesion, lesion - 1, lesion - 2, lesion - 3])
    return values[None, :, None, None, None].repeat(1, 1, 24, 24, 24)


def _odds(logits: torch.Tensor) -> torch.Tensor:
    """Return the evidence for lesions."""
    return logits[:, 2:].logsumexp(1) - logits[:, 1]


def _on_voxels(logits: torch.Tensor, passes: int) -> torch.Tensor:
    return averaged_evidence(logits, passes).softmax(1)


either_way = pytest.mark.parametrize("averaged", [_on_voxels, evidence_on_cubes])
Averaged = Callable[[torch.Tensor, int], torch.Tensor]


@either_way
def test_averaged_evidence_of_even_lung_stays(averaged: Averaged) -> None:
    logits = _logits()
    torch.testing.assert_close(averaged(logits, 3), logits.softmax(1), atol=1e-3, rtol=0)


@either_way
def test_averaging_moves_neither_the_lungs_nor_the_shares_of_the_classes(
    averaged: Averaged,
) -> None:
    torch.manual_seed(0)
    logits = 2 * torch.randn(2, 6, 16, 24, 16)

    before, after = logits.softmax(1), averaged(logits, 2)

    torch.testing.assert_close(after[:, 0], before[:, 0])
    torch.testing.assert_close(
        after[:, 2:] / after[:, 2:].sum(1, keepdim=True),
        before[:, 2:] / before[:, 2:].sum(1, keepdim=True),
        atol=5e-3,
        rtol=0,
    )
    assert _odds(after.log()).std() < 0.5 * _odds(before.log()).std()


@either_way
def test_lung_between_lines_is_decided_by_the_lines_and_a_speck_by_the_lung(
    averaged: Averaged,
) -> None:
    lines, speck = _logits(lesion=0.9), _logits()
    lines[:, 2, :, :, ::3] = 9.0  # a third of the lung is surely a lesion
    speck[:, 2, 11:13, 11:13, 11:13] = 9.0

    assert (_odds(averaged(lines, 4).log()) > 0).all()
    assert (_odds(averaged(speck, 4).log()) < 0).all()


@pytest.mark.parametrize(("averaged", "cube"), [(_on_voxels, 1.2), (evidence_on_cubes, 0.5)])
def test_the_weight_is_as_wide_as_documented(averaged: Averaged, cube: float) -> None:
    logits = _logits(lesion=2.0 - np.log(1 + np.exp(-1) + np.exp(-2) + np.exp(-3)))
    logits[:, 2:, 12, 12, 12] += 5.0  # the evidence is 0 elsewhere

    evidence = _odds(averaged(logits, 2).log())[0]
    evidence = torch.where(evidence > 1e-5, evidence, 0).sum((1, 2))

    places = torch.arange(len(evidence)).float()
    middle = (evidence * places).sum() / evidence.sum()
    variance = (evidence * (places - middle) ** 2).sum() / evidence.sum()
    assert float(variance) == pytest.approx(cube + 8 / 3 * 2, rel=0.05)


@either_way
def test_what_lies_outside_the_lungs_has_no_part_in_the_evidence(averaged: Averaged) -> None:
    logits = _logits()
    logits[..., 12:] = _logits(outside=20.0, lesion=8.0)[..., 12:]

    inside = averaged(logits, 4)[..., :12]

    torch.testing.assert_close(_odds(inside.log()), _odds(logits[..., :12]), atol=5e-2, rtol=0)


@either_way
@pytest.mark.parametrize("largest", [200.0, 1e4])
def test_averaged_evidence_of_extreme_logits_is_finite(
    averaged: Averaged, largest: float, tmp_path: Path
) -> None:
    class Averaging(torch.nn.Module):
        def forward(self, logits: torch.Tensor) -> torch.Tensor:
            return averaged(logits, 2)

    path = tmp_path / "averaging.onnx"
    logits = torch.zeros(6, 6, 8, 8, 8) - largest
    logits[range(6), range(6)] = largest  # each class for sure, in a case of its own
    torch.onnx.export(Averaging(), (logits,), str(path), dynamo=True, verbose=False)
    onnxruntime_session = onnxruntime.InferenceSession(
        str(path), providers=["CPUExecutionProvider"]
    )

    found = onnxruntime_session.run(
        None, {onnxruntime_session.get_inputs()[0].name: logits.numpy()}
    )

    openvino_model = openvino.Core().compile_model(str(path), "CPU")
    engines = {"onnxruntime": found[0], "openvino": openvino_model([logits.numpy()])[0]}
    for engine, shares in engines.items():
        assert np.isfinite(shares).all(), engine
        assert shares.argmax(1).reshape(6, -1).tolist() == [[n] * 512 for n in range(6)], engine


def _random(config: UNetConfig) -> UNet:
    torch.manual_seed(0)
    network = UNet(config).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return network


def _exported(network: UNet, path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Export a network, and return a window and what ONNX Runtime makes of it."""
    round_to_bf16(network)
    export_onnx(network, path)
    window = _middle(coarse_scan().array)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return window, session.run([OUTPUT], {INPUT: window})[0]


def _in_parts(path: Path, window: np.ndarray) -> np.ndarray:
    """Return what the parts that bf16 is served in make of a window, all of them in FP32."""
    core, tensor = openvino.Core(), openvino.Tensor(window)
    for part, _ in split(core.read_model(str(path)), "bf16"):
        request = compile_cpu(core, part, "f32", 1)
        request.set_input_tensor(tensor)
        request.infer()
        tensor = request.get_output_tensor()
    return np.array(tensor.data)


@pytest.mark.parametrize("on_cubes", [pytest.param(False, marks=pytest.mark.slow), True])
def test_a_network_that_averages_is_exported_and_read_back(on_cubes: bool, tmp_path: Path) -> None:
    config = UNetConfig(channels=(4, 8, 8), evidence_passes=2, evidence_on_cubes=on_cubes)
    network, path = _random(config), tmp_path / "model.onnx"

    window, served = _exported(network, path)

    assert load_network(path).config == config
    with torch.inference_mode():
        expected = ServedUNet(network)(torch.from_numpy(window)).numpy()
        taught = network(torch.from_numpy(window).float()).softmax(1).numpy()
    np.testing.assert_allclose(served, expected, atol=2e-3)
    np.testing.assert_allclose(taught, expected, atol=2e-3)
    np.testing.assert_allclose(_in_parts(path, window), expected, atol=2e-3)


HALVED = UNetConfig(
    channels=(4, 8, 8),
    stem="space_to_depth",
    stem_channels=8,
    evidence_passes=2,
    evidence_on_cubes=True,
)


def test_after_a_space_to_depth_the_head_alone_is_at_full_resolution() -> None:
    network = _random(HALVED)
    shapes = []
    for layer in network.modules():
        if isinstance(layer, torch.nn.Conv3d | torch.nn.ConvTranspose3d):
            layer.register_forward_hook(lambda _, __, output: shapes.append(output.shape[2:]))
    hu = torch.randn(1, 1, 16, 24, 32) * 100 - 800

    with torch.inference_mode():
        levels = network.features(hu - HEALTHY_HU)
        logits = network(hu)

    assert [tuple(level.shape[1:]) for level in levels] == [(8, 8, 12, 16)] * 2
    assert logits.shape == (1, 6, 16, 24, 32)
    assert shapes[-1] == hu.shape[2:]
    assert max(shapes[:-1]) == (8, 12, 16)


def test_a_space_to_depth_tells_the_voxels_of_a_cube_apart() -> None:
    network = _random(HALVED)
    with torch.inference_mode():
        logits = network.head(network.features(torch.randn(1, 1, 16, 16, 16) * 100)[0])
    cubes = logits.unfold(2, 2, 2).unfold(3, 2, 2).unfold(4, 2, 2)
    assert cubes.std((-3, -2, -1)).min() > 0


def test_a_space_to_depth_moves_with_the_scan() -> None:
    """By multiples of the stride, away from the window's rim."""
    network = _random(replace(HALVED, lung_density=False, relative_hu=False, evidence_passes=0))
    hu = torch.randn(1, 1, 64, 64, 64) * 100 - 800

    with torch.inference_mode():
        before, after = (network(x) for x in (hu, torch.roll(hu, 4, dims=2)))

    middle = (..., *3 * (slice(28, 36),))
    torch.testing.assert_close(torch.roll(before, 4, dims=2)[middle], after[middle])


@pytest.mark.slow
def test_a_network_with_a_space_to_depth_is_exported_and_read_back(tmp_path: Path) -> None:
    network, path = _random(HALVED), tmp_path / "model.onnx"

    window, served = _exported(network, path)
    read = load_network(path)
    parts = list(split(openvino.Core().read_model(str(path)), "bf16"))

    assert read.config == HALVED
    for some in (network, read):
        with torch.inference_mode():
            found = ServedUNet(some)(torch.from_numpy(window)).numpy()
        np.testing.assert_allclose(served, found, atol=2e-3)
    np.testing.assert_allclose(_in_parts(path, window), served, atol=2e-3)
    counts = [sum(op.get_type_name() in CONVOLUTIONS for op in m.get_ops()) for m, _ in parts]
    assert counts == [0, 13, 0]


def test_gradients_of_averaged_evidence_are_finite_where_a_class_is_impossible() -> None:
    logits = torch.zeros(1, 6, 8, 8, 8)
    logits[:, 0] = 300.0
    logits[:, 1, :, :, 4:] = 600.0
    network = UNet(UNetConfig(channels=(2, 4), evidence_passes=2, evidence_on_cubes=True))
    network.head = torch.nn.Identity()
    logits.requires_grad_()

    network.decide(logits).square().sum().backward()

    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()
