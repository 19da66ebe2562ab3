"""Distillation: what a teacher answers, what a student learns of it, and who teaches whom."""

from __future__ import annotations

import csv
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from export.small_cases import small_config, write_cases
from torch.optim.swa_utils import AveragedModel
from typer.testing import CliRunner

from dlild_export.cli import app
from dlild_export.data.digest import sha256
from dlild_export.training.checkpoints import ResumeError
from dlild_export.training.config import TrainConfig, write_config
from dlild_export.training.distillation.least_squares import fit_first_block, fit_head
from dlild_export.training.distillation.loss import DistillationLoss, distillation_loss
from dlild_export.training.distillation.student import (
    Student,
    first_norms,
    measure_statistics,
)
from dlild_export.training.distillation.teacher import Targets, Teacher, load_teacher
from dlild_export.training.loop import StoppedError, train
from dlild_export.training.provenance import trainings
from dlild_export.training.start import WeightsError, adopt, first_level, load_network, normalised
from dlild_export.training.unet import HEALTHY_HU, UNet, UNetConfig

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")
WIDTHS = UNetConfig(channels=(4, 8, 8), evidence_passes=2, evidence_on_cubes=True)
HALVED = replace(WIDTHS, stem="space_to_depth", stem_channels=8)


def _random_network(config: UNetConfig, seed: int = 1) -> UNet:
    torch.manual_seed(seed)
    network = UNet(config)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm3d):
            module.running_mean.uniform_(-0.2, 0.2)
            module.running_var.uniform_(0.05, 0.2)
            module.bias.data.uniform_(0.0, 0.5)
    return network.eval()


def _write_teacher(path: Path, config: UNetConfig = WIDTHS, seed: int = 1) -> Path:
    settings = asdict(TrainConfig()) | {"network": asdict(config)}
    average = AveragedModel(_random_network(config, seed)).state_dict()
    torch.save({"step": 0, "config": settings, "average": average}, path)
    return path


def _config(**settings: Any) -> TrainConfig:
    defaults = {
        "network": asdict(HALVED) | {"channels": list(HALVED.channels)},
        "stages": [{"steps": 6, "patch": 16}],
        "distil": "blocks",
        "bf16": False,
        "fixed_statistics": True,
        "repeat_steps": 3,
    }
    return small_config(**(defaults | settings))


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cases(tmp_path_factory.mktemp("cases"), 3)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _write_teacher(tmp_path_factory.mktemp("teacher") / "teacher.pt")


@pytest.fixture(scope="module")
def blocks_run(
    cases: Path, teacher: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, TrainConfig]:
    """Return a training of the blocks, long enough to learn something."""
    run = tmp_path_factory.mktemp("runs") / "blocks"
    config = _config(
        stages=[{"steps": 60, "patch": 16}], repeat_steps=8, learning_rate=0.01, average_steps=2
    )
    train(cases, run, config, teacher=teacher)
    return run, config


def _hu(count: int = 1, edge: int = 16, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 1, edge, edge, edge, generator=generator) * 200 - 700


# ---- what a teacher answers ---------------------------------------------------------------------


def test_a_teacher_answers_what_its_levels_read() -> None:
    network = _random_network(WIDTHS)
    hu = _hu(2)

    answers = Teacher(network, _config(), CPU).answer(hu)

    with torch.no_grad():
        levels = network.features(hu - HEALTHY_HU)
        first = network.down[0](network.inputs(hu - HEALTHY_HU))
    torch.testing.assert_close(answers.logits, network.head(levels[0]).half())
    torch.testing.assert_close(answers.decoded, levels[1].half())
    torch.testing.assert_close(answers.pooled, network.pool(first).half())
    assert Teacher(network, _config(distil="all"), CPU).answer(hu).decoded.shape[1] == 0


@pytest.mark.parametrize(("settings", "computed"), [({}, 2), ({"repeat_steps": 0}, 4)])
def test_patches_that_come_again_are_answered_from_memory(
    settings: dict[str, Any], computed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = Teacher(_random_network(WIDTHS), _config(**settings), CPU)
    answer, calls = asked.answer, []
    monkeypatch.setattr(asked, "answer", lambda hu: calls.append(hu) or answer(hu))

    first, again = (asked.targets(_hu(2), [(0, 0), (0, 1)]) for _ in range(2))

    assert len(calls) == computed
    for name in ("logits", "pooled", "decoded"):
        assert torch.equal(getattr(first, name), getattr(again, name))


def test_memory_for_answers_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    one_patch = 2 * 16**3 * (6 + (4 + 8) / 8) / 1e9
    asked = Teacher(_random_network(WIDTHS), _config(cache_gb=1.5 * one_patch), CPU)
    for _ in range(2):
        asked.targets(_hu(2), [(0, 0), (0, 1)])
    answer, calls = asked.answer, []
    monkeypatch.setattr(asked, "answer", lambda hu: calls.append(hu) or answer(hu))

    asked.targets(_hu(2), [(0, 0), (0, 1)])

    assert len(calls) == 1


def _first_convolution(network: UNet, inputs: torch.Tensor) -> torch.Tensor:
    convolution, norm = normalised(network)[0]
    output: torch.Tensor = norm(convolution(inputs))
    return output


# ---- how a student begins -----------------------------------------------------------------------


def test_a_space_to_depth_begins_with_the_filters_of_full_resolution() -> None:
    network = _random_network(WIDTHS)
    student = adopt(network, HALVED)
    inputs = network.inputs(_hu() - HEALTHY_HU)

    with torch.no_grad():
        full, halved = (_first_convolution(net, inputs) for net in (network, student))

    torch.testing.assert_close(halved[:, :4], full[..., ::2, ::2, ::2])
    torch.testing.assert_close(halved[:, 4:], full[..., 1::2, 1::2, 1::2])


def test_a_new_level_begins_evenly_and_the_others_stay() -> None:
    network = adopt(_random_network(WIDTHS), HALVED)
    student, before = Student(network, "blocks"), dict(network.state_dict())
    before = {name: value.clone() for name, value in before.items()}
    decoded = torch.rand(3, 8, 8, 8, 8)

    measure_statistics(student, first_norms(network), _hu(3), decoded)

    after, level = network.state_dict(), first_level(before)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert changed <= level
    norm = normalised(network)[1][1]
    seen: list[torch.Tensor] = []
    norm.register_forward_hook(lambda _module, _inputs, output: seen.append(output.clone()))
    student(_hu(3), decoded)
    torch.testing.assert_close(seen[0].mean((0, 2, 3, 4)), norm.bias, atol=1e-3, rtol=0)
    assert norm.momentum == 0.1


@pytest.mark.parametrize("stem_channels", [8, 11, 3])
def test_the_first_block_begins_as_a_regression_on_the_teachers_features(
    stem_channels: int,
) -> None:
    network = _random_network(WIDTHS)
    student = adopt(network, replace(HALVED, stem_channels=stem_channels)).eval()
    fitted, fresh = _hu(6, 32), _hu(2, 32, seed=1)
    answer = Teacher(network, _config(), CPU).answer

    def missed() -> float:
        wanted = answer(fresh).pooled.float()
        with torch.no_grad():
            pooled = student.narrowing(student.down[0](student.inputs(fresh - HEALTHY_HU)))
        return float((pooled - wanted).square().mean() / wanted.var((0, 2, 3, 4)).mean())

    before = missed()
    fit_first_block(student, fitted, answer(fitted).pooled)

    assert missed() < (0.75 if stem_channels >= 4 else before + 1e-9)
    assert before > 0.9


def test_the_head_begins_as_a_regression_on_the_teachers_logits() -> None:
    network = _random_network(WIDTHS)
    student = Student(adopt(network, HALVED), "blocks").eval()
    hu = _hu(4)
    targets = Teacher(network, _config(), CPU).answer(hu)
    wanted = targets.logits.float()

    def missed() -> float:
        with torch.no_grad():
            logits, _ = student(hu, targets.decoded.float())
        return float((logits - wanted).square().mean() / wanted.var((0, 2, 3, 4)).mean())

    before = missed()
    fit_head(student, hu, targets)

    least = missed()
    assert least < 1 < before
    for factor in (0.5, 4.0):
        with torch.no_grad():
            student.network.head.weight.mul_(factor)
        assert missed() > least


# ---- the loss -----------------------------------------------------------------------------------


def _targets(seed: int = 0) -> Targets:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, 6, 8, 8, 8, generator=generator)
    pooled, decoded = (torch.rand(2, n, 4, 4, 4, generator=generator) for n in (4, 8))
    return Targets(logits, pooled, decoded)


def _loss(
    logits: torch.Tensor, pooled: torch.Tensor, targets: Targets, **settings: Any
) -> DistillationLoss:
    defaults = {"variance": torch.ones(pooled.shape[1]), "passes": 2, "over_processes": lambda x: x}
    return distillation_loss(logits, pooled, targets, **(defaults | settings))


def test_the_loss_is_0_for_the_teachers_own_answers() -> None:
    targets = _targets()

    same = _loss(targets.logits, targets.pooled, targets)
    other = _loss(targets.logits + torch.randn(2, 6, 8, 8, 8), targets.pooled + 0.5, targets)

    assert same.total.item() == pytest.approx(0, abs=1e-6)
    assert set(other.measures) == {"divergence", "shares", "evidence", "missed"}
    assert all(value > 0 for value in other.measures.values())
    assert other.measures["missed"] == pytest.approx(0.25)


def test_what_is_missed_is_a_share_of_the_variance() -> None:
    targets = _targets()
    variance = targets.pooled.var((0, 2, 3, 4))

    loss = _loss(
        targets.logits,
        targets.pooled.mean((0, 2, 3, 4), keepdim=True).expand(targets.pooled.shape),
        targets,
        variance=variance,
    )

    assert loss.measures["missed"] == pytest.approx(1, abs=0.02)


def test_errors_far_from_the_lungs_count_a_tenth() -> None:
    logits = torch.zeros(1, 6, 32, 8, 8)
    logits[:, 0] = 12.0
    logits[:, :2, :4] = torch.tensor([0.0, 12.0]).view(1, 2, 1, 1, 1)
    targets = Targets(logits, logits[:, :0], logits[:, :0])
    lost = []
    for z in (0, 28):
        answered = logits.clone()
        answered[:, :2, z : z + 4] = 6.0
        lost.append(_loss(answered, logits[:, :0], targets).measures["divergence"])

    assert lost[1] == pytest.approx(lost[0] / 10, rel=0.05)


def test_sums_over_processes_come_before_the_division() -> None:
    targets = _targets()
    logits = targets.logits + torch.randn(2, 6, 8, 8, 8)
    pooled = targets.pooled + 0.1
    sums: list[torch.Tensor] = []

    def part(number: int) -> tuple[torch.Tensor, torch.Tensor, Targets]:
        tensors = (targets.logits, targets.pooled, targets.decoded)
        own = slice(number, number + 1)
        return logits[own], pooled[own], Targets(*(tensor[own] for tensor in tensors))

    _loss(*part(0), over_processes=lambda x: sums.append(x) or x)
    both = _loss(*part(1), over_processes=lambda x: x + sums[0])

    torch.testing.assert_close(both.total, _loss(logits, pooled, targets).total)


# ---- trainings ----------------------------------------------------------------------------------


def test_blocks_learn_and_the_levels_between_stay_the_teachers(
    blocks_run: tuple[Path, TrainConfig], teacher: Path
) -> None:
    run, _ = blocks_run
    with (run / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    for name in ("missed", "divergence"):
        first, last = (sum(float(row[name]) for row in part) for part in (rows[:5], rows[-5:]))
        assert last < 0.6 * first, name

    network = load_network(run / "checkpoint.pt")
    taught, teaching = network.state_dict(), load_network(teacher).state_dict()
    level = first_level(taught)
    for name in taught.keys() - level:
        assert torch.equal(taught[name], teaching[name]), name
    assert network.config == HALVED


def test_a_checkpoint_records_its_teacher(
    blocks_run: tuple[Path, TrainConfig], teacher: Path
) -> None:
    record = trainings(torch.load(blocks_run[0] / "checkpoint.pt", weights_only=True))[-1]

    assert record["teacher_sha256"] == record["start_sha256"] == sha256(teacher)


@pytest.mark.parametrize("part", ["blocks", "all"])
def test_stopped_it_goes_on_as_if_it_had_not(
    part: str, cases: Path, teacher: Path, tmp_path: Path
) -> None:
    config = _config(distil=part, checkpoint_every=100)
    train(cases, tmp_path / "whole", config, teacher=teacher)

    def stop(done: int, _: float) -> None:
        if done == 3:
            raise StoppedError(done, 15)

    with pytest.raises(StoppedError):
        train(
            cases,
            tmp_path / "cut",
            replace(config, checkpoint_every=1),
            teacher=teacher,
            progress=stop,
        )
    train(cases, tmp_path / "cut", config, teacher=teacher)

    whole, cut = (
        torch.load(tmp_path / run / "checkpoint.pt", weights_only=True) for run in ("whole", "cut")
    )
    for name in ("network", "average"):
        assert whole[name].keys() == cut[name].keys()
        assert all(torch.equal(whole[name][key], cut[name][key]) for key in whole[name])
    with pytest.raises(ResumeError, match=r"taught by another teacher: .*another folder"):
        train(cases, tmp_path / "cut", config, teacher=_write_teacher(tmp_path / "o.pt", seed=2))


def test_the_whole_begins_with_the_blocks(
    blocks_run: tuple[Path, TrainConfig], cases: Path, teacher: Path, tmp_path: Path
) -> None:
    blocks = blocks_run[0] / "blocks.pt"
    # So slow that what comes out is what went in.
    slow = _config(distil="all", learning_rate=1e-30, average_steps=1)

    begun = load_network(train(cases, tmp_path, slow, teacher=teacher, blocks=blocks))

    expected = load_network(blocks_run[0] / "checkpoint.pt")
    for name, value in expected.state_dict().items():
        torch.testing.assert_close(begun.state_dict()[name], value, rtol=1e-3, atol=1e-3)
    record = trainings(torch.load(tmp_path / "checkpoint.pt", weights_only=True))[-1]
    assert record["blocks_sha256"] == sha256(blocks)
    assert blocks.stat().st_size < 0.6 * (blocks_run[0] / "checkpoint.pt").stat().st_size


def test_the_command_distils(cases: Path, teacher: Path, tmp_path: Path) -> None:
    write_config(_config(distil="none", stages=[{"steps": 1, "patch": 16}]), tmp_path / "my.toml")
    command = ["train", str(cases), str(tmp_path / "run"), "--config", str(tmp_path / "my.toml")]

    done = CliRunner().invoke(app, [*command, "--distil", "blocks", "--teacher", str(teacher)])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "run" / "blocks.pt").exists()

    command[2] = str(tmp_path / "other")
    options = ["--distil", "all", "--teacher", str(teacher), "--blocks", str(cases / "case-0.npz")]
    done = CliRunner().invoke(app, [*command, *options])
    assert (done.exit_code, done.output.count("\n")) == (3, 1)
    assert "no blocks of a training" in done.output


# ---- what cannot be taught ----------------------------------------------------------------------


def test_a_training_without_a_teacher_or_a_use_for_it_is_refused(
    cases: Path, teacher: Path, tmp_path: Path
) -> None:
    with pytest.raises(WeightsError, match=r"distil is blocks: name the weights .*--teacher"):
        train(cases, tmp_path, _config())
    with pytest.raises(WeightsError, match=r"teacher.pt has nothing to teach: distil is none"):
        train(cases, tmp_path, _config(distil="none"), teacher=teacher)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (replace(WIDTHS, classes=4), "tells 4 classes apart, and network.classes is 6"),
        (HALVED, "first level is space_to_depth too"),
        (replace(WIDTHS, channels=(4, 8, 16)), r"\(4, 8, 16\) channels .* is \(4, 8, 8\)"),
    ],
)
def test_a_teacher_that_does_not_fit_is_named(
    config: UNetConfig, message: str, tmp_path: Path
) -> None:
    path = _write_teacher(tmp_path / "odd.pt", config)

    with pytest.raises(WeightsError, match=rf"odd\.pt: the teacher.*{message}"):
        load_teacher(path, _config(), CPU)


def test_blocks_of_another_network_are_refused(
    blocks_run: tuple[Path, TrainConfig], cases: Path, teacher: Path, tmp_path: Path
) -> None:
    blocks = blocks_run[0] / "blocks.pt"
    network = asdict(HALVED) | {"channels": [4, 8, 8], "evidence_passes": 3}

    with pytest.raises(WeightsError, match=r"blocks.pt holds blocks of .*evidence_passes=3"):
        train(cases, tmp_path, _config(network=network), teacher=teacher, blocks=blocks)
