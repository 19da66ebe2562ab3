"""The sliding window of training and evaluation is the server's: same windows, same labels."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from examples import examples
from hypothesis import given
from hypothesis import strategies as st

from dlild_client.contract import Contract, parse_contract
from dlild_client.contract.schema import LARGEST_CLASS, LESIONS_TOGETHER
from dlild_client.contract.score import score_labels
from dlild_client.contract.windows import Box, fit_box, plan_windows
from dlild_client.volume import Volume
from dlild_export.serving.sliding import Windows, blend, plan_scan
from scan import OpenScan

TEXT = (Path(__file__).parents[3] / "model_repository" / "contract.json").read_text("utf-8")


@pytest.fixture(scope="module")
def contract() -> Contract:
    """Return the contract with windows small enough for a test."""
    whole = parse_contract(TEXT)
    small = replace(
        whole.windows, multiple=2, minimum=(6, 6, 6), maximum=(12, 12, 12), maximum_voxels=1000
    )
    return replace(whole, windows=small)


def noisy_network(seed: int):
    """Return a network whose probabilities differ from window to window, tiny ones among them."""
    rng = np.random.default_rng(seed)

    def run(window: np.ndarray) -> np.ndarray:
        powers = np.exp(rng.normal(0, 4, (1, 6, *window.shape[2:])))
        return (powers / powers.sum(axis=1, keepdims=True)).astype(np.float16)

    return run


def served(run, windows: Windows) -> tuple[np.ndarray, float]:
    """Labels and DL-ILD by the server's own modules."""
    scan = OpenScan(
        windows.box.shape,
        windows.plan.shape,
        len(windows.plan.origins),
        3.375,
        windows.contract,
    )
    for index, origin in enumerate(windows.plan.origins):
        hu = np.zeros((1, 1, *windows.plan.shape), np.float16)
        scan.add(run(hu)[0], origin, index)
    score = scan.finish()
    return score.labels, score.dl_ild_percent


@examples(15)
@given(
    box=st.tuples(*[st.integers(6, 20)] * 3),
    seed=st.integers(0, 1000),
    rule=st.sampled_from([LARGEST_CLASS, LESIONS_TOGETHER]),
)
def test_labels_are_the_servers_own(contract, box, seed, rule) -> None:
    contract = replace(contract, score=replace(contract.score, labels=rule))
    fitted = fit_box((0, 0, 0), box, box, contract)
    plan = plan_windows(fitted.shape, contract)
    windows = Windows(Volume(np.zeros(box, np.int16), (1.5, 1.5, 1.5)), fitted, plan, contract)

    labels = blend(noisy_network(seed), windows)

    expected, percent = served(noisy_network(seed), windows)
    np.testing.assert_array_equal(labels, expected)
    assert score_labels(labels, contract.classes) == pytest.approx(percent, abs=1e-12, nan_ok=True)


def test_an_honest_network_gives_the_box_back(contract) -> None:
    rng = np.random.default_rng(5)
    truth = rng.integers(0, 6, (9, 21, 14))
    grid = Volume(truth.astype(np.int16), (1.5, 1.5, 1.5))
    box = Box((1, 2, 0), (9, 20, 14))

    def run(window: np.ndarray) -> np.ndarray:
        return (np.arange(6)[None, :, None, None, None] == window).astype(np.float16)

    labels = blend(run, Windows(grid, box, plan_windows(box.shape, contract), contract))

    np.testing.assert_array_equal(labels, truth[1:9, 2:20])


def test_a_scan_is_planned_as_the_client_plans_it() -> None:
    from dlild_client.preparation.prepare import prepare  # noqa: PLC0415
    from dlild_export.phantom import Pattern, PhantomSpec, make_phantom  # noqa: PLC0415

    served_contract = parse_contract(TEXT)
    phantom = make_phantom(PhantomSpec(seed=1, pattern=Pattern.UIP, severity=0.2), spacing_mm=3.0)
    seen: list[np.ndarray] = []

    def run(window: np.ndarray) -> np.ndarray:
        seen.append(window)
        return np.full((1, 6, *window.shape[2:]), 1 / 6, np.float16)

    volume = Volume(phantom.hu, (3.0, 3.0, 3.0))
    expected = prepare(volume, served_contract)
    windows = plan_scan(expected.grid, served_contract)
    labels, box = blend(run, windows), windows.box

    assert box == expected.box
    assert labels.shape == box.shape
    for window, (_, sent) in zip(seen, expected.windows(-1024), strict=True):
        np.testing.assert_array_equal(window[0, 0], sent)
