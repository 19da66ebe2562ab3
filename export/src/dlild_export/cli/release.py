"""`dlild-export release` and `dlild-export serve`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dlild_export.cli.console import input_errors, stderr

RepositoryArgument = Annotated[Path, typer.Argument(help="Model repository.")]


def release(
    run: Annotated[Path, typer.Argument(help="Folder or checkpoint that `train` wrote.")],
    repository: RepositoryArgument,
    evaluation: Annotated[Path, typer.Option(help="evaluation.json of these weights.")],
    notes: Annotated[
        Path | None, typer.Option(help="Markdown file: what the model card says of the data.")
    ] = None,
    scan: Annotated[
        list[Path] | None, typer.Option(help="Real scan for the parity gate. May be repeated.")
    ] = None,
    phantom: Annotated[
        list[int] | None,
        typer.Option(
            help="Seed of a phantom for it, beside one of measured texture; default: three."
        ),
    ] = None,
    card: Annotated[
        Path | None, typer.Option(help="Model card; default: MODEL_CARD.md beside the repository.")
    ] = None,
    keep_previous: Annotated[
        bool, typer.Option("--keep-previous", help="Keep the former network loaded as well.")
    ] = False,
    allow_below_floor: Annotated[
        str | None,
        typer.Option(
            metavar="REASON",
            help="Release although targets are missed; contract and model card give the reason.",
        ),
    ] = None,
) -> None:
    """Release the weights of a run as a new version, and answer with it.

    Refused where the evaluation is of other weights or misses its floor, where an engine differs
    from torch by more than 0.05 point of DL-ILD on a whole scan, or where these weights are a
    version already. Written at once or not at all.
    """
    from dlild_export.data.contracts import read_contract  # noqa: PLC0415
    from dlild_export.release.evaluation_file import read_evaluation  # noqa: PLC0415
    from dlild_export.release.model_card import read_run  # noqa: PLC0415
    from dlild_export.release.versions import Candidate, ReleaseError, check_candidate  # noqa: PLC0415
    from dlild_export.release.versions import release as put  # noqa: PLC0415
    from dlild_export.serving.engines import engines_of  # noqa: PLC0415
    from dlild_export.serving.parity import (  # noqa: PLC0415
        DEFAULT_MEASURED,
        DEFAULT_SEEDS,
        gather_scans,
        measure_parity,
    )

    with input_errors():
        contract = read_contract(repository)
        evidence = read_evaluation(evaluation)
        said = notes.read_text("utf-8") if notes else ""
        weights, engines = engines_of(run)
        candidate = Candidate(weights, evidence, read_run(run), said, allow_below_floor)
        try:
            digest = check_candidate(candidate, repository)
            seeds = phantom or DEFAULT_SEEDS
            scans = gather_scans(seeds, scan or [], contract, DEFAULT_MEASURED)
            parity = measure_parity(engines, scans, contract, digest, progress=stderr.print)
            version = put(
                candidate,
                parity,
                repository,
                card or repository.resolve().parent / "MODEL_CARD.md",
                keep_previous=keep_previous,
            )
        except ReleaseError as error:
            stderr.print(f"error: not released: {error}", soft_wrap=True, markup=False)
            raise typer.Exit(1) from None
    print(parity.to_markdown(), end="")
    print(f"released: version {version}, sha256 {digest}")


def serve(
    repository: RepositoryArgument,
    version: Annotated[int, typer.Argument(min=1, help="Version to answer with.")],
    also: Annotated[
        list[int] | None, typer.Option(help="Further version to keep loaded. May be repeated.")
    ] = None,
) -> None:
    """Let a repository answer with a version that was released: the step back, and forth again."""
    from dlild_export.release.versions import ReleaseError  # noqa: PLC0415
    from dlild_export.release.versions import serve as point_to  # noqa: PLC0415

    with input_errors():
        try:
            point_to(repository, version, tuple(also or ()))
        except ReleaseError as error:
            stderr.print(f"error: {error}", soft_wrap=True, markup=False)
            raise typer.Exit(1) from None
    loaded = sorted({version, *(also or ())})
    print(f"{repository} answers with version {version}; loaded: {', '.join(map(str, loaded))}")
