"""Patches: a function of seed, step and index, in which every class is met."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from export.small_cases import case_arrays, small_config, write_case, write_cases

from dlild_export.data.prepare import prepared_files
from dlild_export.training.augment import Augment, blur_slices, show_by_kernel, thick_slices
from dlild_export.training.cases import open_case
from dlild_export.training.config import Augmentation
from dlild_export.training.patches import PatchSource, find_voxels

STILL = {"flip": 0, "affine": 0, "scale": 0, "shift_hu": 0, "noise": 0, "smooth": 0}
STILL |= {"sharpen": 0, "thick": 0, "aeration": 0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cases(tmp_path_factory.mktemp("cases"))


def _source(folder: Path, **settings: object) -> PatchSource:
    return PatchSource([open_case(f) for f in prepared_files(folder)], small_config(**settings))


def test_a_patch_is_a_function_of_seed_step_and_index(folder: Path) -> None:
    first, second = _source(folder, seed=3), _source(folder, seed=3)
    other = _source(folder, seed=4)

    keys = [(step, index) for step in range(4) for index in range(3)]
    drawn = [first[key] for key in keys]
    for key in reversed(keys):  # in any order, and whatever was drawn before
        hu, labels = second[key]
        assert torch.equal(hu, drawn[keys.index(key)][0])
        assert torch.equal(labels, drawn[keys.index(key)][1])
    assert not torch.equal(other[keys[0]][0], drawn[0][0])
    assert len({tuple(hu.flatten()[:50].tolist()) for hu, _ in drawn}) == len(keys)


def test_patches_have_the_shape_of_their_stage(folder: Path) -> None:
    stages = [{"steps": 2, "patch": 16}, {"steps": 2, "patch": 24}]
    source = _source(folder, stages=stages, augmentation={"affine": 1.0})

    for step, edge in enumerate((16, 16, 24, 24)):
        hu, labels = source[step, 0]
        assert hu.shape == labels.shape == (1, edge, edge, edge)
        assert hu.dtype == torch.float32
        assert labels.dtype == torch.uint8


def test_every_class_is_met_and_the_unknown_stay_so(folder: Path) -> None:
    source = _source(folder)

    met = {label for step in range(60) for label in source[step, 0][1].unique().tolist()}

    assert met == {0, 1, 2, 3, 4, 5, 255}


def test_a_rare_class_is_drawn_as_often_as_a_common_one(tmp_path: Path) -> None:
    for seed in range(8):
        arrays = case_arrays(seed)
        arrays["labels"][arrays["labels"] == 5] = 1
        write_case(tmp_path / f"{seed}.npz", arrays)
    write_case(tmp_path / "rare.npz", case_arrays(9))
    source = _source(tmp_path, sampling={"anywhere": 0, "lung": 0, "surface": 0, "lesion": 1})

    names = [source.case((step, 0)).name for step in range(400)]

    # One lesion patch in four is of class 5, which one case alone has.
    assert 0.25 < names.count("rare") / 400 < 0.45


def test_the_file_named_is_the_file_drawn(tmp_path: Path) -> None:
    for number in range(5):
        arrays = case_arrays(number)
        arrays["hu"][:] = -1000 + number
        write_case(tmp_path / f"{number}.npz", arrays)
    source = _source(tmp_path, augmentation=STILL)

    for step in range(30):
        values = set(source[step, 1][0].unique().tolist()) - {-1024.0}
        assert {f"{value + 1000:.0f}" for value in values} <= {source.case((step, 1)).name}


def test_places_of_the_surface_are_lung_beside_what_is_not() -> None:
    labels = np.zeros((40, 40, 40), np.uint8)
    labels[10:30, 10:30, 10:30] = 1
    labels[14:20, 14:20, 14:20] = 3
    labels[28:30] = 255

    voxels = find_voxels(labels)

    small = labels[::2, ::2, ::2]
    assert [len(p) for p in voxels[:6]] == [int((small == c).sum()) for c in range(6)]
    surface = np.zeros_like(small, bool)
    surface.flat[voxels[6]] = True
    expected = np.zeros_like(surface)
    expected[5:14, 5:15, 5:15] = True
    expected[6:14, 6:14, 6:14] = False  # above, the neighbour is not known and is no outside
    np.testing.assert_array_equal(surface, expected)


def test_patches_reach_over_the_edge_into_air(tmp_path: Path) -> None:
    write_case(tmp_path / "one.npz", case_arrays(0))
    patch = [{"steps": 1, "patch": 64}]
    source = _source(tmp_path, stages=patch, augmentation=STILL)

    hu, labels = source[0, 0]

    outside = hu == -1024
    assert outside.any()
    assert (labels[outside] == 0).all()


# ---- augmentation -------------------------------------------------------------------------------


def _block() -> tuple[torch.Tensor, torch.Tensor]:
    labels = torch.zeros(1, 40, 40, 40, dtype=torch.uint8)
    labels[:, 14:26, 12:24, 10:30] = 1
    return labels.float() * 1000 - 900, labels


@pytest.mark.parametrize("seed", range(4))
def test_turning_keeps_hu_and_labels_together(seed: int) -> None:
    augment = Augment(Augmentation(**STILL | {"affine": 1.0, "flip": 0.5}))
    rng = np.random.default_rng(seed)
    hu, labels = _block()
    assert augment.size(32, rng) == 40

    moved_hu, moved = augment(hu, labels, 32, rng)

    assert moved.shape == moved_hu.shape == (1, 32, 32, 32)
    assert ((moved_hu > -400) == (moved == 1)).float().mean() > 0.99
    assert not torch.equal(moved, labels[:, 4:36, 4:36, 4:36])


def test_front_and_back_are_exchanged_in_hu_and_labels() -> None:
    augment = Augment(Augmentation(**STILL | {"prone": 1.0}))
    hu, labels = _block()

    moved_hu, moved = augment(hu, labels, 40, np.random.default_rng(0))

    assert torch.equal(moved_hu, hu.flip(-2))
    assert torch.equal(moved, labels.flip(-2))


def test_what_is_not_asked_for_does_not_happen() -> None:
    augment = Augment(Augmentation(**STILL))
    hu, labels = _block()

    same_hu, same = augment(hu, labels, 40, np.random.default_rng(0))

    assert torch.equal(same_hu, hu)
    assert torch.equal(same, labels)


@pytest.mark.parametrize("change", ["noise", "smooth", "sharpen", "thick"])
def test_changes_of_the_scanner_stay_within_what_scanners_do(change: str) -> None:
    augment = Augment(Augmentation(**STILL | {change: 1.0}))
    rng = np.random.default_rng(0)
    hu, labels = _block()
    hu = hu + 30 * torch.from_numpy(rng.standard_normal(hu.shape, np.float32))

    changed, same = augment(hu, labels, 40, rng)

    assert torch.equal(same, labels)
    assert 1 < (changed - hu).abs().mean() < 60
    assert abs(float(changed.mean() - hu.mean())) < 5
    noise = float(changed[:, :8].std() / hu[:, :8].std())
    assert noise > 1.02 if change in {"noise", "sharpen"} else noise < 0.95


def test_kernels_act_within_the_slices() -> None:
    hu = torch.zeros(1, 16, 16, 16)
    hu[:, 8] = 100.0  # a slice alone: what acts along z would spread it
    for change in ("smooth", "sharpen"):
        augment = Augment(Augmentation(**STILL | {change: 1.0}))
        changed, _ = augment(hu, hu.to(torch.uint8), 16, np.random.default_rng(1))
        inner = changed[:, :, 4:-4, 4:-4]
        torch.testing.assert_close(inner, hu[:, :, 4:-4, 4:-4], atol=0.1, rtol=0)


def test_a_sharper_kernel_undoes_a_softer_one_within_the_slices() -> None:
    torch.manual_seed(0)
    hu = blur_slices(100 * torch.randn(1, 6, 32, 32), 0.8)

    soft = show_by_kernel(hu, 0.5)
    back = show_by_kernel(soft, -0.5)

    inner = (..., slice(6, -6), slice(6, -6))
    lost = (soft - hu)[inner].std()
    assert lost > 0.1 * hu[inner].std()
    assert (back - hu)[inner].std() < 0.3 * lost


def test_noise_passes_through_the_kernel_that_is_drawn() -> None:
    augment = Augment(Augmentation(**STILL | {"kernel": 1.0, "noise_hu": 30.0}))
    hu, labels = _block()
    spreads = []
    for seed in range(24):
        changed, same = augment(hu, labels, 40, np.random.default_rng(seed))
        assert torch.equal(same, labels)
        assert abs(float(changed.mean() - hu.mean())) < 5
        noise = (changed - hu)[:, :8]
        spreads.append(float((noise[..., 1:] - noise[..., :-1]).std() / noise.std()))
    assert min(spreads) < 1.3 < 1.43 < max(spreads)  # white noise: square root of 2


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_thick_slices_average_along_z_alone(factor: int) -> None:
    torch.manual_seed(0)
    across = torch.randn(1, 1, 12, 12).expand(1, 18, 12, 12)
    along = torch.randn(1, 18, 1, 1).expand(1, 18, 12, 12)

    torch.testing.assert_close(thick_slices(across, factor), across)
    assert thick_slices(along, factor).shape == along.shape
    assert thick_slices(along, factor).std() < 0.8 * along.std()
