"""How a network is trained: every setting, its default and why; read from and written to TOML."""

from __future__ import annotations

import tomllib
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import tomli_w
import torch
from pydantic import Field, TypeAdapter, ValidationError

from dlild_client.contract.precision import cpu_flags
from dlild_export.training.cases import CLASSES
from dlild_export.training.provenance import renamed
from dlild_export.training.unet import UNetConfig

Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]
Size = Annotated[float, Field(ge=0, allow_inf_nan=False)]


# Fewer voxels along an edge of the deepest level leave batch normalisation little to measure. And
# with 2, oneDNN's bf16 gradient of a 3 x 3 x 3 convolution is whatever lay in memory (torch 2.13).
_DEEPEST_EDGE = 4
BF16_KERNELS = frozenset({"avx512bw", "avx_ne_convert"})
"""Flags of CPUs of which oneDNN has kernels for bf16, imitated where they are not native. On others
torch computes a convolution in bf16 by plain loops: a hundred times as long as in FP32."""


@dataclass(frozen=True, kw_only=True)
class Stage:
    """Steps that share a patch size and a batch."""

    steps: Positive
    # Edge of the cubic patches, voxels: a multiple of the network's stride.
    patch: Positive = 64
    # Patches a step and process. Two are the fewest that batch normalisation takes kindly to.
    batch: Positive = 2


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """Where patches are drawn: relative weights, whatever their sum."""

    # Anywhere in the scan: teaches what is not lung.
    anywhere: Size = 0.25
    # Round a voxel of lung without lesion.
    lung: Size = 0.2
    # Round a voxel on the surface of the lungs, where lesions hide in the chest wall.
    surface: Size = 0.2
    # Round a voxel of a lesion class; every class equally often, however rare.
    lesion: Size = 0.35


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """How patches are changed: probability and strength of each change."""

    # Left and right.
    flip: Share = 0.5
    # Front and back: a prone patient's lungs are the other way up, and so is what gravity does.
    prone: Share = 0.0
    # Turned (radians), sheared and stretched (shares) together.
    affine: Share = 0.5
    turn: Size = 0.15
    shear: Size = 0.1
    stretch: Size = 0.2
    # Calibration of the scanner: HU times 1 +- scale, plus +- shift HU; in every patch.
    scale: Size = 0.03
    shift_hu: Size = 20.0
    # Depth of breath: healthy lung moved by up to this many HU, air and water by none.
    aeration: Share = 0.5
    aeration_hu: Annotated[float, Field(ge=0, lt=150)] = 110.0
    # White noise of up to this standard deviation.
    noise: Share = 0.2
    noise_hu: Size = 40.0
    # Soft kernels: a blur within the slices, of up to this standard deviation in voxels.
    smooth: Share = 0.1
    softest: Annotated[float, Field(ge=0.3)] = 1.0
    # Sharp kernels: up to this multiple of what a blur takes away is added.
    sharpen: Share = 0.1
    sharpest: Annotated[float, Field(ge=0.2)] = 1.0
    # Kernels as scanners have them, with their noise: soft ones blur within the slices, by up to
    # this standard deviation in voxels, sharp ones undo such a blur; white noise of up to
    # `noise_hu` passes through the same kernel.
    kernel: Share = 0.0
    kernel_width: Annotated[float, Field(ge=0.3, le=1.0)] = 0.6
    # Thick slices: z averaged over 2 to `thickest` voxels and interpolated back.
    thick: Share = 0.1
    thickest: Annotated[int, Field(ge=2)] = 4


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How the network is trained."""

    network: UNetConfig = field(default_factory=UNetConfig)
    # One after the other, in one schedule: large patches cost more and pay at the end.
    stages: Annotated[tuple[Stage, ...], Field(min_length=1)] = (
        Stage(steps=4500, patch=64),
        Stage(steps=500, patch=96),
    )
    sampling: Sampling = field(default_factory=Sampling)
    augmentation: Augmentation = field(default_factory=Augmentation)

    learning_rate: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 3e-3
    weight_decay: Size = 1e-4
    # From the highest learning rate to 0: half a cosine, or (1 - share done) ** 0.9 as nnU-Net.
    schedule: Literal["cosine", "poly"] = "cosine"
    warm_up_steps: Count = 150
    # Gradients longer than this are shortened to it.
    clip_norm: Annotated[float, Field(gt=0)] = 5.0
    # Weights are averaged over about this many of the last steps.
    average_steps: Positive = 300

    # Batch normalisation by the statistics of the weights to begin with, as when the network is
    # served, not by those of each batch. Two patches differ from the next two, so a network learns
    # to lean on their statistics, and measures too little of a lesion where it has them no more:
    # a first training learns faster with its batches', a second one should end without them. Then
    # one patch a step will do.
    fixed_statistics: bool = False

    # The loss is Dice + cross-entropy. Above 0, cross-entropy is focal with this gamma.
    focal_gamma: Size = 0.0
    # Weight of the same loss with all lesion classes as one: DL-ILD depends on them together.
    lesions_together: Size = 0.0
    # Weight of every class in the cross-entropy; empty: all alike.
    class_weights: tuple[Size, ...] = ()
    # Coarser levels of the decoder that are taught as well, each counting half of the one before.
    deep_supervision: Count = 0

    # What a teacher's answers teach in place of labels. "none": nothing. "blocks": the first and
    # the last block of a network with a space-to-depth, with the teacher's features in place of all
    # levels between. "all": the whole network.
    distil: Literal["none", "blocks", "all"] = "none"
    # Steps after which the patches of a stage come again; 0: never. What a teacher answered is kept
    # in memory, up to `cache_gb`: it costs more than a student's step.
    repeat_steps: Count = 0

    # Share of the patients (groups) that is kept for validation; 0 trains on all.
    held_out: Annotated[float, Field(ge=0, lt=1)] = 0.1
    # Steps between two validations; 0 never validates.
    validate_every: Count = 500
    # At most so many of the held-out cases are scored each time.
    validate_cases: Positive = 4

    checkpoint_every: Positive = 250
    # Steps that a row of metrics.csv is the mean of.
    log_every: Positive = 10
    seed: Count = 0
    # bf16 halves the time of a step where the CPU or GPU has it; a CPU without AVX-512 computes in
    # FP32 all the same (`mixed_precision`).
    bf16: bool = True
    # A GPU's fastest convolutions sum in any order; true forbids them. A CPU is exact as it is.
    deterministic: bool = False
    # Processes that draw patches beside the training; 0: the training draws them itself. On a
    # few CPU cores they gain nothing; a GPU wants 4 to 8.
    workers: Count = 0
    # Compressed cases cannot be mapped into memory and are kept there up to this size.
    cache_gb: Annotated[float, Field(gt=0)] = 8.0

    def __post_init__(self) -> None:
        """Check what one setting means for another."""
        channels = self.network.channels
        if len(channels) < 2 or min(channels) < 1:
            raise ValueError(f"network.channels {channels} must be two or more positive numbers")
        if self.network.classes != CLASSES:
            raise ValueError(f"network.classes is {self.network.classes}, the contract's {CLASSES}")
        for stage in self.stages:
            if stage.patch % self.network.stride:
                raise ValueError(
                    f"patch {stage.patch} is no multiple of {self.network.stride}, which this "
                    "network needs"
                )
            if stage.patch < _DEEPEST_EDGE * self.network.stride:
                raise ValueError(
                    f"patch {stage.patch} is less than {_DEEPEST_EDGE * self.network.stride}, and "
                    f"leaves less than {_DEEPEST_EDGE} voxels on the deepest level"
                )
        if not any(weight > 0 for weight in asdict(self.sampling).values()):
            raise ValueError("sampling: every weight is 0, so no patch can be drawn")
        if self.class_weights and len(self.class_weights) != self.network.classes:
            raise ValueError(
                f"class_weights has {len(self.class_weights)} numbers for "
                f"{self.network.classes} classes"
            )
        self._check_distillation()
        if self.deep_supervision > len(channels) - 2:
            raise ValueError(
                f"deep_supervision {self.deep_supervision} is more than the {len(channels) - 2} "
                "coarser levels of this network's decoder"
            )

    def _check_distillation(self) -> None:
        if self.distil == "none":
            return
        if self.distil == "blocks" and self.network.stem != "space_to_depth":
            raise ValueError(
                f"distil is blocks, and network.stem is {self.network.stem}: only a network of "
                "space_to_depth has blocks that are taught by themselves"
            )
        of_labels = ("focal_gamma", "lesions_together", "class_weights", "deep_supervision")
        given = [name for name in of_labels if getattr(self, name)]
        if given:
            raise ValueError(
                f"{', '.join(given)}: a teacher has no use for what weighs labels; leave it out, "
                "or distil nothing"
            )

    @property
    def steps(self) -> int:
        """Steps of all stages."""
        return sum(stage.steps for stage in self.stages)

    def drawn(self, step: int) -> int:
        """Return the step whose patches a step takes: an earlier one where they come again."""
        first = 0
        for stage in self.stages:
            if step < first + stage.steps:
                break
            first += stage.steps
        return first + (step - first) % self.repeat_steps if self.repeat_steps else step

    def stage(self, step: int) -> Stage:
        """Return the stage that a step belongs to."""
        for stage in self.stages:
            if step < stage.steps:
                return stage
            step -= stage.steps
        return self.stages[-1]


# What may change between a training and its resumption: nothing here touches the weights.
RUNTIME = frozenset(
    {"checkpoint_every", "log_every", "validate_every", "validate_cases", "workers", "cache_gb"}
)
_ADAPTER = TypeAdapter(TrainConfig)


class ConfigError(ValueError):
    """A setting of the training that is unknown or cannot be."""


def config_from(settings: dict[str, Any], source: str = "configuration") -> TrainConfig:
    """Make a configuration of a tree of settings; what is not named keeps its default.

    Parameters
    ----------
    settings : dict
        As TOML gives it.
    source : str
        Where the settings come from, for the message.

    Raises
    ------
    ConfigError
        A setting is unknown, of the wrong type or out of range; one line names all of them.
    """
    if isinstance(settings.get("network"), dict):
        settings = settings | {"network": renamed(settings["network"])}
    try:
        return _ADAPTER.validate_python(settings, extra="forbid")
    except ValidationError as error:
        faults = (
            f"{'.'.join(map(str, e['loc'])) or 'all'}: {e['msg'].removeprefix('Value error, ')}"
            + (f" (given: {e['input']!r})" if not isinstance(e["input"], dict) else "")
            for e in error.errors()
        )
        raise ConfigError(f"{source}: {'; '.join(faults)}") from None


def read_config(path: Path) -> dict[str, Any]:
    """Read settings from a TOML file; `config_from` checks them.

    Raises
    ------
    ConfigError
        The file is not there or is no TOML.
    """
    try:
        return tomllib.loads(path.read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path}: {error}") from None


def write_config(config: TrainConfig, path: Path) -> None:
    """Write every setting as TOML."""
    path.write_text(tomli_w.dumps(asdict(config)))


def differences(stored: dict[str, Any], config: TrainConfig) -> list[str]:
    """Name the settings, but those that may change, in which a stored configuration differs."""
    former = asdict(config_from(stored, "settings of the checkpoint"))
    return [
        f"{key} was {former[key]!r} and is {value!r}"
        for key, value in asdict(config).items()
        if key not in RUNTIME and former[key] != value
    ]


def mixed_precision(device: torch.device, *, wanted: bool) -> torch.autocast:
    """Return the context that a network is run in, as often as need be.

    Parameters
    ----------
    device : torch.device
        Where the network is.
    wanted : bool
        Whether to compute in bf16 where the device has kernels for it, and otherwise in FP32.

    Returns
    -------
    torch.autocast
    """
    has_kernels = device.type != "cpu" or bool(cpu_flags() & BF16_KERNELS)
    return torch.autocast(device.type, torch.bfloat16, enabled=wanted and has_kernels)
