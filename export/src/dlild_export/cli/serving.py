"""`dlild-export onnx`, `parity`, `int8` and `tensorrt`: the network as it is served."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from dlild_export.cli.console import (
    ContractOption,
    LungMasksOption,
    input_errors,
    lung_mask_files,
    progress_bar,
    stderr,
)


def onnx(
    run: Annotated[Path, typer.Argument(help="Folder or checkpoint that `train` wrote.")],
    calibrate: Annotated[
        Path | None,
        typer.Option(help="Cases (*.npz), best unseen by the training: makes their volumes right."),
    ] = None,
    count: Annotated[int, typer.Option(min=1, help="How many cases to calibrate on.")] = 40,
    recipe: Annotated[
        Path | None,
        typer.Option(help="Recipe that made the run: kept as RUN/recipe.toml, and in the file."),
    ] = None,
) -> None:
    """Write the network of a run as it is served: RUN/model.onnx, with its provenance.

    The metadata of the file hold the network's configuration, the trainings (steps, seeds, start
    weights, versions), the calibration and the recipe. The same checkpoint, calibration and recipe
    give the same bytes, so `evaluate` and `release` speak of the same weights.
    """
    from dlild_export.data.digest import sha256  # noqa: PLC0415
    from dlild_export.serving.onnx import (  # noqa: PLC0415
        CALIBRATION,
        RECIPE,
        checkpoint_of,
        export_run,
    )

    with input_errors():
        checkpoint = checkpoint_of(run)
        if recipe:
            checkpoint.with_name(RECIPE).write_text(recipe.read_text("utf-8"), "utf-8")
        if calibrate:
            calibration = checkpoint.with_name(CALIBRATION)
            calibration.unlink(missing_ok=True)  # what is calibrated is the network as trained
            biases = _calibrate(checkpoint, calibrate, count)
            record = {"class_biases": biases, "cases": count}
            calibration.write_text(json.dumps(record, indent=2) + "\n", "utf-8")
            print(f"class biases {', '.join(map(str, biases))}")
        weights = export_run(checkpoint)
    print(f"{weights}: sha256 {sha256(weights)}")


def _calibrate(checkpoint: Path, cases: Path, count: int) -> tuple[float, ...]:
    from dlild_export.data.contracts import find_contract  # noqa: PLC0415
    from dlild_export.serving.calibration import find_class_biases  # noqa: PLC0415
    from dlild_export.serving.engines import openvino_engines  # noqa: PLC0415
    from dlild_export.serving.onnx import export_run  # noqa: PLC0415
    from dlild_export.training.start import load_network  # noqa: PLC0415

    with progress_bar() as bar:
        task = bar.add_task("calibration", total=count)
        return find_class_biases(
            openvino_engines(export_run(checkpoint))[-1].load(),
            cases,
            contract=find_contract(),
            stride=load_network(checkpoint).config.stride,
            count=count,
            progress=lambda done: bar.update(task, completed=done),
        )


def parity(
    weights: Annotated[
        Path, typer.Argument(help="Run or checkpoint of `train`; or an ONNX file, without torch.")
    ],
    scan: Annotated[
        list[Path] | None, typer.Option(help="Real scan: DICOM folder or image. May be repeated.")
    ] = None,
    phantom: Annotated[
        list[int] | None, typer.Option(help="Seed of a phantom. May be repeated.")
    ] = None,
    contract: ContractOption = Path("model_repository/contract.json"),
    out: Annotated[Path | None, typer.Option(help="JSON file for the figures.")] = None,
) -> None:
    """Show that every engine gives the same DL-ILD on whole scans; exit 1 where one does not.

    Engines: torch, ONNX Runtime, OpenVINO in fp32, and in bf16 where the CPU offers it. Without
    --scan and --phantom, four phantoms are taken, one of measured texture.
    """
    from dlild_client.contract import parse_contract  # noqa: PLC0415
    from dlild_export.data.digest import sha256  # noqa: PLC0415
    from dlild_export.serving.engines import engines_of  # noqa: PLC0415
    from dlild_export.serving.parity import (  # noqa: PLC0415
        DEFAULT_MEASURED,
        DEFAULT_SEEDS,
        gather_scans,
        measure_parity,
    )

    with input_errors():
        terms = parse_contract(contract.read_text("utf-8"))
        file, engines = engines_of(weights)
        if engines[0].name != "torch":
            stderr.print(f"note: {weights} has no checkpoint beside it: torch is not compared")
        chosen = bool(phantom or scan)
        seeds = phantom or ([] if chosen else DEFAULT_SEEDS)
        measured = () if chosen else DEFAULT_MEASURED
        scans = gather_scans(seeds, scan or [], terms, measured)
        figures = measure_parity(engines, scans, terms, sha256(file), progress=stderr.print)
    print(figures.to_markdown(), end="")
    if out:
        out.write_text(figures.to_json(), "utf-8")
    for failure in figures.failures():
        stderr.print(f"error: {failure}", soft_wrap=True)
    raise typer.Exit(0 if figures.passes else 1)


def int8(
    weights: Annotated[Path, typer.Argument(help="ONNX file that `onnx` wrote.")],
    out: Annotated[Path, typer.Argument(help="INT8 form to write, where it passes the gate.")],
    scan: Annotated[
        list[Path] | None, typer.Option(help="Real scan for the gate. May be repeated.")
    ] = None,
    lung_masks: LungMasksOption = None,
    contract: ContractOption = Path("model_repository/contract.json"),
    figures: Annotated[Path | None, typer.Option(help="JSON file for the figures.")] = None,
    release: Annotated[
        Path | None,
        typer.Option(
            metavar="REPOSITORY",
            help="Model repository: add the form to the version that has these weights.",
        ),
    ] = None,
) -> None:
    """Make the INT8 form of a network: a Q/DQ graph, calibrated on phantoms.

    Written only where DL-ILD of at least 20 scans (8 phantoms of measured texture, 7 of the old
    plan, and of each --scan five forms) is within 0.05 point of FP32, and the mean Dice of the
    lesions loses at most 0.005; otherwise exit 1. The same weights give the same bytes. Where the
    CPU has no kernels for 8 bits the form is computed in FP32, and --release is refused.
    """
    from dlild_client.contract import parse_contract  # noqa: PLC0415
    from dlild_export.data.digest import sha256  # noqa: PLC0415
    from dlild_export.release.int8_gate import (  # noqa: PLC0415
        as_served,
        gate_scans,
        pass_gate,
        refusals,
        write_int8,
    )
    from dlild_export.release.versions import ReleaseError, add_int8  # noqa: PLC0415
    from dlild_export.serving.int8 import Int8Error  # noqa: PLC0415

    masks = lung_mask_files(lung_masks)
    unfinished = out.with_name(f".{out.name}.unfinished")
    try:
        with input_errors():
            terms = parse_contract(contract.read_text("utf-8"))
            write_int8(weights, unfinished, terms, masks, progress=stderr.print)
            scans = gate_scans(terms, scan or [], masks)
            found = pass_gate(
                weights, unfinished, scans, terms, sha256(weights), progress=stderr.print
            )
            print(found.to_markdown(), end="")
            if figures:
                figures.write_text(found.to_json(), "utf-8")
            if reasons := refusals(found):
                raise ReleaseError("; ".join(reasons))
            unfinished.rename(out)
            if release and not as_served(found):
                stderr.print(
                    f"error: {out} passed in FP32 alone, since this CPU has no kernels for 8 bits: "
                    "not released; run this on a CPU with VNNI or AMX",
                    soft_wrap=True,
                    markup=False,
                )
                raise typer.Exit(1)
            if release:
                version = add_int8(release, weights, out)
                print(f"{release}: version {version} has this INT8 form")
    except (Int8Error, ReleaseError) as error:
        stderr.print(f"error: no INT8 form: {error}", soft_wrap=True, markup=False)
        raise typer.Exit(1) from None
    finally:
        unfinished.unlink(missing_ok=True)
    print(f"{out}: sha256 {sha256(out)}")


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
    from dlild_export.serving.parity import DEFAULT_SEEDS, gather_scans  # noqa: PLC0415
    from dlild_export.serving.tensorrt import (  # noqa: PLC0415  # noqa: PLC0415
        ParityError,
        TensorRtError,
        build_version,
        load_tensorrt,
        released_weights,
    )

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
