"""`dlild-export parity`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dlild_export.cli.console import ContractOption, input_errors, stderr


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
    --scan and --phantom, three phantoms are taken.
    """
    from dlild_client.contract import parse_contract  # noqa: PLC0415
    from dlild_export.data.digest import sha256  # noqa: PLC0415
    from dlild_export.serving.engines import engines_of  # noqa: PLC0415
    from dlild_export.serving.parity import measure_parity  # noqa: PLC0415
    from dlild_export.serving.parity_scans import DEFAULT_SEEDS, gather_scans  # noqa: PLC0415

    with input_errors():
        terms = parse_contract(contract.read_text("utf-8"))
        file, engines = engines_of(weights)
        if engines[0].name != "torch":
            stderr.print(f"note: {weights} has no checkpoint beside it: torch is not compared")
        seeds = phantom or ([] if scan else DEFAULT_SEEDS)
        scans = gather_scans(seeds, scan or [], terms)
        figures = measure_parity(engines, scans, terms, sha256(file), progress=stderr.print)
    print(figures.to_markdown(), end="")
    if out:
        out.write_text(figures.to_json(), "utf-8")
    for failure in figures.failures():
        stderr.print(f"error: {failure}", soft_wrap=True)
    raise typer.Exit(0 if figures.passes else 1)
