"""`dlild-export tensorrt`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dlild_export.cli.console import input_errors, stderr


def tensorrt(
    repository: Annotated[Path, typer.Argument(help="Model repository.")],
    version: Annotated[
        int | None, typer.Option(min=1, help="Version of the network; default: the one served.")
    ] = None,
    scan: Annotated[
        list[Path] | None, typer.Option(help="Real scan for the gate, beside a phantom.")
    ] = None,
) -> None:
    """Build the network's TensorRT plan on this GPU, for the profile `tensorrt`.

    To be run in the Triton container that will serve it: a plan belongs to one version of TensorRT
    and one kind of GPU. FP16, strongly typed; held against ONNX Runtime before it is put in place.
    Without TensorRT or a GPU: one line, and exit code 2.
    """
    from dlild_export.data.contracts import read_contract  # noqa: PLC0415
    from dlild_export.serving.cuda import CudaError, Device  # noqa: PLC0415
    from dlild_export.serving.fp16 import HalfError  # noqa: PLC0415
    from dlild_export.serving.parity_scans import DEFAULT_SEEDS, gather_scans  # noqa: PLC0415
    from dlild_export.serving.tensorrt_build import (  # noqa: PLC0415
        ParityError,
        build_version,
        released_weights,
    )
    from dlild_export.serving.tensorrt_plan import TensorRtError, load_tensorrt  # noqa: PLC0415

    try:
        trt = load_tensorrt()
        with Device() as device, input_errors():
            number, weights = released_weights(repository, version)
            contract = read_contract(repository)
            scans = gather_scans(DEFAULT_SEEDS[:1], scan or [], contract)
            built, parity = build_version(
                trt, device, repository, number, scans, progress=stderr.print
            )
    except (TensorRtError, CudaError) as error:
        stderr.print(f"error: {error}", soft_wrap=True, markup=False)
        raise typer.Exit(2) from None
    except (ParityError, HalfError) as error:
        stderr.print(f"error: {error}; nothing was written", soft_wrap=True, markup=False)
        raise typer.Exit(1) from None
    print(parity.to_markdown(), end="")
    print(
        f"{weights.with_name('model.plan')}: {built.plan_bytes / 1e6:.1f} MB in "
        f"{built.build_seconds:.0f} s, TensorRT {built.tensorrt}, {built.gpu}"
    )
