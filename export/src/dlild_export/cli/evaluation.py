"""`dlild-export evaluate`, `repeatability` and `reading`: figures of some weights."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from dlild_export.cli.console import (
    LungMasksOption,
    MapOption,
    RepositoryOption,
    input_errors,
    lung_mask_files,
    progress_bar,
    stderr,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from dlild_client.contract import Contract
    from dlild_client.volume import Volume
    from dlild_export.evaluation.cases import EvaluationCase
    from dlild_export.evaluation.document import Evaluation
    from dlild_export.evaluation.served import Served
    from dlild_export.readers.compare import Comparison


class EngineOption(StrEnum):
    """Engines of the CPU."""

    OPENVINO = "openvino"
    ONNXRUNTIME = "onnxruntime"


class TextureOption(StrEnum):
    """How fine the disease of phantoms is."""

    PLAIN = "plain"
    MEASURED = "measured"


def evaluate(
    weights: Annotated[
        Path, typer.Argument(help="ONNX file, checkpoint, or folder of a run or a served version.")
    ],
    dataset: Annotated[
        Path | None,
        typer.Argument(
            help="Prepared scans, or a dataset as `check` takes it; phantoms when left out."
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for the report.")] = Path("evaluation"),
    first_seed: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="First seed of the phantoms, unseen by the training; 1000000 when left out, "
            "1600000 for those of measured texture.",
        ),
    ] = None,
    count: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="So many phantoms drawn at random, in place of the 24 of the release's plan.",
        ),
    ] = None,
    lung_masks: LungMasksOption = None,
    real: Annotated[
        list[Path] | None,
        typer.Option(help="Scan of healthy lungs (DICOM folder or image); may be repeated."),
    ] = None,
    planted: Annotated[
        str, typer.Option(help="DL-ILD to plant in each real scan, such as 5,15,30,50.")
    ] = "",
    texture: Annotated[
        TextureOption,
        typer.Option(help="Of phantoms and of what is planted; measured: as fine as in patients."),
    ] = TextureOption.PLAIN,
    engine: Annotated[
        EngineOption, typer.Option(help="openvino: as the embedded profile serves it.")
    ] = EngineOption.OPENVINO,
    repository: RepositoryOption = None,
    tolerance: Annotated[float, typer.Option(min=0.0, help="Of the surface Dice, mm.")] = 2.0,
    failures: Annotated[int, typer.Option(min=0, help="Failure cases to show.")] = 4,
    mapped: MapOption = None,
    with_trained: Annotated[
        bool,
        typer.Option("--with-trained", help="Also the cases of DATASET that were trained on."),
    ] = False,
    require_floor: Annotated[
        bool, typer.Option("--require-floor", help="Exit with 1 where the floor is missed.")
    ] = False,
) -> None:
    """Evaluate the product with some weights: figures, strata, failure cases, and the floor.

    Every scan goes through grid, lung box, windows, engine and blending as it is served. Cases of
    DATASET that the run was trained on are left out. OUT gets evaluation.html and evaluation.json.
    """
    from dlild_export.data.labels import parse_overrides  # noqa: PLC0415
    from dlild_export.evaluation import evaluate as run  # noqa: PLC0415
    from dlild_export.evaluation import load_served, write_report  # noqa: PLC0415
    from dlild_export.evaluation.cases import trained_cases  # noqa: PLC0415

    percents = _percents(planted, real)
    try:
        overrides = parse_overrides(mapped or [])
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--map") from None
    with input_errors():
        out.mkdir(parents=True, exist_ok=True)  # before the work: afterwards it would be lost
        served = load_served(weights, engine.value, repository)
        trained = trained_cases(weights)
        cases, description = (
            _dataset(dataset, out, served, overrides, None if with_trained else trained)
            if dataset
            else _measured(first_seed, count, lung_mask_files(lung_masks), served, trained)
            if texture is TextureOption.MEASURED
            else _phantoms(first_seed, count, lung_mask_files(lung_masks), served, trained)
        )
        found = run(
            served,
            cases,
            description=description,
            real=real or [],
            planted_percent=percents,
            texture=texture.value,
            tolerance_mm=tolerance,
            progress=say,
        )
    page = write_report(found, served, out, failures=failures)
    _show(found)
    print(f"report: {page}")
    if require_floor and not found.met:
        raise typer.Exit(1)


def say(line: str) -> None:
    """Report progress, a line a scan."""
    stderr.print(line, markup=False, highlight=False, soft_wrap=True)


def _percents(planted: str, real: list[Path] | None) -> list[float]:
    try:
        percents = [float(part) for part in planted.split(",") if part.strip()]
    except ValueError:
        percents = [-1.0]
    if any(not 0 < p <= 90 for p in percents):
        raise typer.BadParameter(
            f"{planted!r} is no list of percentages up to 90, such as 5,15,30,50",
            param_hint="--planted",
        )
    if percents and not real:
        raise typer.BadParameter(
            "lesions are planted in real scans: give --real", param_hint="--planted"
        )
    return percents


def _dataset(
    dataset: Path,
    out: Path,
    served: Served,
    overrides: dict[str, str],
    trained: frozenset[str] | None,
) -> tuple[Iterable[EvaluationCase], str]:
    from dlild_export.evaluation.cases import (  # noqa: PLC0415
        StoredCase,
        dataset_files,
        only_unseen,
    )

    with progress_bar() as bar:
        task = bar.add_task("preparing", total=None)
        files = dataset_files(
            dataset,
            out / "prepared",
            served.contract,
            overrides=overrides,
            progress=lambda done, whole: bar.update(task, completed=done, total=whole),
        )
    unseen = only_unseen([StoredCase.open(file) for file in files], trained)
    cases = (case.read(served.contract) for case in unseen.cases)
    return cases, unseen.describe(dataset.name)


def _phantoms(
    first_seed: int | None,
    count: int | None,
    masks: list[Path],
    served: Served,
    trained: frozenset[str] | None,
) -> tuple[Iterable[EvaluationCase], str]:
    from dlild_export.evaluation.cases import (  # noqa: PLC0415
        FIRST_SEED,
        phantom_cases,
        random_plan,
        refuse_trained,
        release_plan,
    )
    from dlild_export.phantom.cases import phantom_name  # noqa: PLC0415

    first = FIRST_SEED if first_seed is None else first_seed
    specs = release_plan(first) if count is None else random_plan(first, count)
    refuse_trained([phantom_name(spec.seed) for spec in specs], trained)
    kind = "of the release's plan" if count is None else "drawn at random"
    seeds = f", seeds {specs[0].seed} to {specs[-1].seed}" if specs else ""
    description = f"{len(specs)} phantoms {kind}{seeds}{_shapes(masks)}"
    return phantom_cases(specs, served.contract, masks), description


def _measured(
    first_seed: int | None,
    count: int | None,
    masks: list[Path],
    served: Served,
    trained: frozenset[str] | None,
) -> tuple[Iterable[EvaluationCase], str]:
    from dlild_export.evaluation.cases import (  # noqa: PLC0415
        FIRST_MEASURED_SEED,
        MEASURED_CASES,
        measured_cases,
        refuse_trained,
    )
    from dlild_export.phantom.cases import measured_name  # noqa: PLC0415

    first = FIRST_MEASURED_SEED if first_seed is None else first_seed
    seeds = range(first, first + (MEASURED_CASES if count is None else count))
    refuse_trained([measured_name(seed) for seed in seeds], trained)
    drawn = f"seeds {seeds.start} to {seeds.stop - 1}{_shapes(masks)}"
    description = f"{len(seeds)} phantoms of measured texture, {drawn}"
    return measured_cases(seeds, served.contract, masks), description


def _shapes(masks: list[Path]) -> str:
    return f", every second with one of {len(masks)} real lung shapes" if masks else ""


def _show(found: Evaluation) -> None:
    for title, verdict in (("Floor", found.verdict), ("Real scans", found.real_verdict)):
        if verdict is None:
            continue
        table = Table(title=f"{title}: {'met' if verdict.met else 'missed'}", title_justify="left")
        for column in ("target", "must be", "found", ""):
            table.add_column(column, justify="right" if column == "found" else "left")
        for t in verdict.targets:
            table.add_row(t.name, t.rule, t.found, "met" if t.met else "missed")
        Console().print(table)


def repeatability(
    weights: Annotated[
        Path, typer.Argument(help="ONNX file, checkpoint, or folder of a run or a served version.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for the report.")] = Path("repeatability"),
    patients: Annotated[int, typer.Option(min=1, help="Phantom patients, from 2 to 60 %.")] = 8,
    repeats: Annotated[
        int, typer.Option(min=2, help="Scans of each patient under each condition.")
    ] = 3,
    first_seed: Annotated[
        int, typer.Option(min=0, help="Seed of the first patient: unseen by the training.")
    ] = 2_000_000,
    texture: Annotated[
        TextureOption,
        typer.Option(help="Of the lungs, as for `phantom`: what changes differs, see the report."),
    ] = TextureOption.PLAIN,
    lung_masks: LungMasksOption = None,
    engine: Annotated[
        EngineOption, typer.Option(help="openvino: as the embedded profile serves it.")
    ] = EngineOption.OPENVINO,
    repository: RepositoryOption = None,
) -> None:
    """Measure how much DL-ILD differs when nothing but the scan has changed.

    The same phantom patients are scanned again: with other noise, kernel, slice thickness,
    position and breath (of measured texture: gaps), one at a time and together. OUT gets
    repeatability.html and repeatability.json, with within-subject SD and repeatability coefficient
    in points of DL-ILD.
    """
    from dlild_export.evaluation import load_served  # noqa: PLC0415
    from dlild_export.evaluation.repeatability import (  # noqa: PLC0415
        draw_subjects,
        measure,
        sum_up,
        write_repeatability,
    )
    from dlild_export.phantom.cases import mask_for  # noqa: PLC0415

    masks = lung_mask_files(lung_masks)
    subjects = draw_subjects(
        first_seed,
        patients,
        measured=texture is TextureOption.MEASURED,
        mask_of=lambda seed: mask_for(seed, masks),
    )
    conditions = len(subjects[0].conditions)
    whole = patients * repeats * conditions
    count = iter(range(1, whole + 1))
    with input_errors():
        out.mkdir(parents=True, exist_ok=True)  # before the work: afterwards it would be lost
        served = load_served(weights, engine.value, repository)
        found, refused = measure(
            subjects,
            served,
            repeats=repeats,
            progress=lambda line: say(f"{next(count)} of {whole}: {line}"),
        )
    last = first_seed + patients - 1
    description = (
        f"{patients} phantom patients, texture {texture.value}, seeds {first_seed} to {last}, "
        f"{repeats} scans each under {conditions} conditions"
    )
    page = write_repeatability(found, refused, served, description, out)
    table = Table("changes", "within-subject SD", "repeatability coefficient")
    for condition in sum_up(found):
        sd, coefficient = condition.measured.within_sd, condition.measured.coefficient
        table.add_row(
            condition.name,
            f"{sd.value:.2f} ({sd.low:.2f} to {sd.high:.2f})",
            f"{coefficient.value:.2f} ({coefficient.low:.2f} to {coefficient.high:.2f})",
        )
    Console().print(table)
    print(f"report: {page}")


def reading(
    study: Annotated[
        Path, typer.Argument(help="TOML or JSON file that names scans and readers, or a folder.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for the report.")] = Path("reading"),
    weights: Annotated[
        Path | None,
        typer.Option(
            help="Score the CTs with these weights (ONNX file, checkpoint, run) in place of the "
            "label maps of the study."
        ),
    ] = None,
    repository: RepositoryOption = None,
    pictures: Annotated[
        bool, typer.Option("--pictures/--no-pictures", help="Draw every slice that was outlined.")
    ] = True,
    shown: Annotated[int, typer.Option(min=0, help="Slices on the page, the worst first.")] = 8,
) -> None:
    """Hold label maps against readers' outlines or extents, and readers against each other.

    Only slices that a reader read count. OUT gets reading.html, reading.json and pictures/.
    """
    from dlild_export.data.contracts import find_contract  # noqa: PLC0415
    from dlild_export.readers import compare_study, read_study, write_reading_report  # noqa: PLC0415
    from dlild_export.readers.pictures import PictureFolder  # noqa: PLC0415
    from dlild_export.readers.report import PICTURES, About  # noqa: PLC0415

    with input_errors():
        given = read_study(study)
        out.mkdir(parents=True, exist_ok=True)
        score: Callable[[Volume], Volume] | None = None
        if weights:
            contract, score, labels = _scorer(weights, repository)
        else:
            contract, labels = find_contract(repository), "of the study"
        draw = PictureFolder(out / PICTURES, contract) if pictures else None
        found = compare_study(given, contract, score=score, draw=draw, progress=say)
        about = About(given.name, labels, len(given.scans))
        page = write_reading_report(found, about, contract, out, shown=shown)
    for comparison in found:
        _show_comparison(comparison)
    print(f"report: {page}")


def _scorer(
    weights: Path, repository: Path | None
) -> tuple[Contract, Callable[[Volume], Volume], str]:
    from dlild_export.evaluation import load_served  # noqa: PLC0415
    from dlild_export.evaluation.served import score_volume  # noqa: PLC0415

    served = load_served(weights, repository=repository)

    def score(volume: Volume) -> Volume:
        scored = score_volume(volume, served.run, served.contract)
        return scored.grid.with_array(scored.labels)

    return served.contract, score, f"weights {served.digest[:16]}, {served.engine}"


def _show_comparison(c: Comparison) -> None:
    from dlild_export.evaluation.page import number  # noqa: PLC0415

    table = Table(title=f"{c.first} and {c.second}", title_justify="left", box=None, pad_edge=False)
    columns = ("", "slices", f"{c.first}, %", f"{c.second}, %", "Dice", "sensitivity", "precision")
    for column in columns:
        table.add_column(column, justify="right" if column else "left")
    rows = [*c.scans.items(), ("all", c.figures)] if c.figures else []
    for name, f in rows:
        assert f is not None
        shares = (number(v) for v in (f.dice, f.sensitivity, f.precision))
        extents = (number(v, 1) for v in (f.first_percent, f.second_percent))
        table.add_row(name, str(f.slices), *extents, *shares)
    if rows:
        Console().print(table)
    for words, a in (("slices", c.over_slices), ("scans", c.over_scans), ("zones", c.over_zones)):
        if a:
            print(
                f"{c.first} and {c.second}, extents of {a.score.cases} {words}: bias "
                f"{number(a.score.bias.value, 1)} points, mean absolute difference "
                f"{number(a.score.mean_absolute_error.value, 1)}, ICC {number(a.icc.value)}"
            )
