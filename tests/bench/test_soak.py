"""The plan of `make soak`, what it calls flat, and its light network."""

import json
import random

import numpy as np
import pytest
from bench.chaos import BATCH
from bench.soak import growth, spread_mishaps, watch
from bench.support.memory import MIB
from bench.support.small import small_repository
from bench.support.voxelwise import BORDERS_HU, BY_HU, serve_voxelwise, write_voxelwise
from hypothesis import given
from hypothesis import strategies as st

from dlild_client.contract.weights import check_repository
from engine import Engine


@given(st.integers(500, 20_000))
def test_mishaps_come_first_one_at_a_time_and_end_with_the_served_version(scans):
    plan = spread_mishaps(scans, served=8, earlier=7)
    batches = scans // BATCH
    assert len(plan.kills) == len(plan.upgrades) >= 2
    assert plan.kills.isdisjoint(plan.upgrades)
    assert max({*plan.kills, *plan.upgrades}) <= batches // 3
    turns = [plan.upgrades[batch] for batch in sorted(plan.upgrades)]
    assert turns == [7, 8] * (len(turns) // 2)


@given(st.integers(500, 20_000))
def test_nothing_befalls_a_scan_twice(scans):
    plan = spread_mishaps(scans, served=8, earlier=7)
    befallen = [*plan.vanishing, *plan.spoilt, *plan.slow]
    assert len(befallen) == len(set(befallen))
    assert all(0 <= number < scans for number in befallen)


def samples(rss, scans=10_000, life=2, descriptors=lambda _scans: 90):
    """Samples of a server that was killed after a third of the scans."""
    drawn = random.Random(5)
    return [
        {
            "scans": n,
            "life": life if n > scans // 3 else 1,
            "rss": {"dlild": rss(n) + drawn.uniform(0, 30) * MIB, "ild_unet": 100 * MIB},
            "shared_memory": 12 * MIB,
            "threads": {"dlild": 11, "ild_unet": 9},
            "descriptors": {"dlild": descriptors(n) + drawn.randrange(4), "ild_unet": 8},
        }
        for n in range(BATCH, scans + 1, BATCH)
    ]


def not_flat(taken):
    return {name for name, judged in growth(watch(taken)).items() if not judged["flat"]}


def test_the_last_scans_of_the_last_server_are_watched():
    watched = watch(samples(lambda _scans: 100 * MIB))
    assert (watched[0]["scans"], watched[-1]["scans"]) == (6000, 10_000)
    assert watch(samples(lambda _scans: 0, life=1))[0]["scans"] == 6000


def test_what_varies_with_open_scans_is_flat():
    assert not_flat(samples(lambda _scans: 100 * MIB)) == set()


@pytest.mark.parametrize("kib", [4, 20])
def test_a_few_kib_a_scan_are_a_leak(kib):
    assert not_flat(samples(lambda scans: 100 * MIB + kib * 1024 * scans)) == {"`dlild`"}


def test_a_descriptor_of_every_client_that_vanished_is_a_leak():
    taken = samples(lambda _scans: 100 * MIB, descriptors=lambda scans: 90 + scans // 20)
    assert not_flat(taken) == {"descriptors"}


@pytest.mark.parametrize("shift", [0.0, 70.0])
def test_the_class_of_a_voxel_follows_from_its_hu(tmp_path, shift):
    write_voxelwise(tmp_path / "model.onnx", shift)
    hu = np.array([-1024.0, *BORDERS_HU, 2047.0], np.float16)
    between = (hu[1:] + hu[:-1]) / 2 + shift
    window = np.broadcast_to(between.astype(np.float16), (1, 1, 8, 8, len(BY_HU)))
    found = Engine(tmp_path / "model.onnx").infer(window)
    assert found.dtype == np.float16
    assert np.allclose(found.sum(axis=1), 1, atol=2e-3)
    assert (found[0].argmax(axis=0) == BY_HU).all()


def test_a_repository_serves_it_in_every_version_as_if_it_were_released(tmp_path):
    repository = small_repository(tmp_path)
    serve_voxelwise(repository)
    check_repository(repository, "embedded")
    releases = json.loads((repository / "releases.json").read_text("utf-8"))["releases"]
    held = {folder.name for folder in (repository / "ild_unet").glob("[0-9]*")}
    assert len(held) > 1
    assert len({releases[version]["weights_sha256"] for version in held}) == len(held)
