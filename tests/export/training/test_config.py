"""The configuration of a training: TOML there and back, and what is refused."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch

from dlild_export.training import config as training_config
from dlild_export.training.config import (
    ConfigError,
    TrainConfig,
    config_from,
    differences,
    read_config,
    write_config,
)


def test_toml_there_and_back(tmp_path: Path) -> None:
    config = config_from(
        {
            "stages": [{"steps": 7, "patch": 32, "batch": 3}, {"steps": 2}],
            "network": {"channels": [8, 16, 32]},
            "class_weights": [1, 1, 1, 2, 2, 1],
            "augmentation": {"noise_hu": 12.5},
        }
    )

    write_config(config, tmp_path / "config.toml")

    assert config_from(read_config(tmp_path / "config.toml")) == config
    assert config_from({}) == TrainConfig()


def test_every_step_has_its_stage() -> None:
    config = config_from({"stages": [{"steps": 2, "patch": 64}, {"steps": 3, "patch": 96}]})

    assert config.steps == 5
    assert [config.stage(step).patch for step in range(5)] == [64, 64, 96, 96, 96]


def test_patches_come_again_within_their_stage() -> None:
    stages = [{"steps": 5, "patch": 64}, {"steps": 3, "patch": 96}]

    again, never = config_from({"stages": stages, "repeat_steps": 2}), config_from({})

    assert [again.drawn(step) for step in range(8)] == [0, 1, 0, 1, 0, 5, 6, 5]
    assert [never.drawn(step) for step in (0, 4999)] == [0, 4999]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"learning_rat": 1e-3}, "learning_rat: .*(given: 0.001)"),
        ({"sampling": {"lungs": 1}}, "sampling.lungs"),
        ({"learning_rate": "fast"}, "learning_rate: .*given: 'fast'"),
        ({"learning_rate": 0}, "learning_rate: .*greater than 0"),
        ({"learning_rate": float("nan")}, "learning_rate"),
        ({"held_out": 1.0}, "held_out: .*less than 1"),
        ({"stages": []}, "stages"),
        ({"stages": [{"steps": 0}]}, "stages.0.steps"),
        ({"stages": [{"steps": 5, "patch": 60}]}, "patch 60 is no multiple of 8"),
        ({"stages": [{"steps": 5, "patch": 16}]}, "patch 16 is less than 32"),
        ({"schedule": "linear"}, "schedule: .*'cosine' or 'poly'"),
        ({"sampling": dict.fromkeys(("anywhere", "lung", "surface", "lesion"), 0)}, "is 0"),
        ({"class_weights": [1, 2]}, "2 numbers for 6 classes"),
        ({"deep_supervision": 3}, "more than the 2 coarser levels"),
        ({"network": {"channels": [16]}}, "two or more"),
        ({"network": {"classes": 4}}, "contract's 6"),
        ({"average_steps": 2.5}, "average_steps"),
        ({"distil": "blocks"}, "distil is blocks, and network.stem is full"),
        ({"distil": "all", "focal_gamma": 2.0, "class_weights": [1] * 6}, "focal_gamma, class_w"),
        ({"distil": "half"}, "distil: .*'none', 'blocks' or 'all'"),
    ],
)
def test_a_wrong_setting_is_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"^my.toml: .*{message}") as caught:
        config_from(settings, "my.toml")

    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", [None, "steps = ", "\x00"])
def test_a_file_that_is_no_toml_is_named(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "my.toml"
    if text is not None:
        path.write_text(text)

    with pytest.raises(ConfigError, match=r"my\.toml"):
        read_config(path)


def test_only_what_touches_the_weights_is_a_difference() -> None:
    config = TrainConfig()
    stored = asdict(config)
    stored["workers"], stored["log_every"] = 3, 7
    assert differences(stored, config) == []

    stored["seed"] = 5
    del stored["focal_gamma"]  # of a release that did not have the setting yet
    assert differences(stored, config) == ["seed was 5 and is 0"]


@pytest.mark.parametrize(
    ("flags", "wanted", "expected"),
    [
        ({"avx2", "avx512bw"}, True, torch.bfloat16),
        ({"avx2", "avx512bw"}, False, torch.float32),
        ({"avx2"}, True, torch.float32),
        (set(), True, torch.float32),
    ],
)
def test_a_cpu_without_kernels_for_bf16_computes_in_fp32(flags, wanted, expected, monkeypatch):
    monkeypatch.setattr(training_config, "cpu_flags", lambda: frozenset(flags))
    layer, values = torch.nn.Linear(2, 2), torch.zeros(1, 2)
    with training_config.mixed_precision(torch.device("cpu"), wanted=wanted):
        assert layer(values).dtype == expected
