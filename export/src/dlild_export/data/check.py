"""List every fault of a dataset before any training."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from dlild_client.contract import Contract
from dlild_client.contract.score import dl_ild_percent, lesion_and_lung
from dlild_client.errors import InputError
from dlild_client.reading.images.nifti import SUFFIXES
from dlild_client.reading.read import read_volume
from dlild_export.data.faults import DatasetError, Fault, Kind
from dlild_export.data.labels import IGNORE
from dlild_export.data.layout import DICOM, Dataset, DatasetCase, read_dataset, straddling
from dlild_export.data.plausible import judge, look_at
from dlild_export.data.scans import LabelledScan, LabelRule, label_rule, read_scan

Progress = Callable[[int, int], None]
"""Called with the cases done, and all of them."""


@dataclass(frozen=True)
class CaseReport:
    """What was found in one case.

    Attributes
    ----------
    name, group : str
    faults : tuple of Fault
        None of them: the case can be trained on.
    shape : tuple of int or None
        Voxels (z, y, x); None where the image could not be read, as all that follows.
    spacing_mm : tuple of float or None
    class_ml : mapping of str to float
        Volume of every class, and of what is to be ignored.
    dl_ild_percent : float or None
        None where no lung is labelled.
    digest : str or None
        Of HU and geometry: equal scans have equal ones.
    """

    name: str
    group: str
    faults: tuple[Fault, ...]
    shape: tuple[int, int, int] | None = None
    spacing_mm: tuple[float, float, float] | None = None
    class_ml: Mapping[str, float] = field(default_factory=dict)
    dl_ild_percent: float | None = None
    digest: str | None = None


@dataclass(frozen=True)
class CheckReport:
    """What was found in a dataset.

    Attributes
    ----------
    layout : str
    cases : tuple of CaseReport
    faults : tuple of Fault
        Of the dataset and of all cases; none: it can be trained on.
    notes : tuple of str
        Worth knowing, no reason to refuse.
    """

    layout: str
    cases: tuple[CaseReport, ...]
    faults: tuple[Fault, ...]
    notes: tuple[str, ...]

    def to_json(self) -> str:
        """Return the report as JSON, for machines."""
        content = {
            "layout": self.layout,
            "clean": not self.faults,
            "faults": [asdict(f) for f in self.faults],
            "notes": list(self.notes),
            "cases": [asdict(c) | {"faults": len(c.faults)} for c in self.cases],
        }
        return json.dumps(content, indent=2)


def check_dataset(
    folder: Path,
    contract: Contract,
    *,
    overrides: Mapping[str, str] | None = None,
    workers: int = 1,
    progress: Progress | None = None,
) -> CheckReport:
    """Look for everything that can be seen to be wrong with a dataset.

    Parameters
    ----------
    folder : Path
        In one of the layouts of `dlild_export.data.layout`.
    contract : Contract
        The classes.
    overrides : mapping of str to str, optional
        Their label names to ours, where they are not known.
    workers : int
        Processes.
    progress : callable, optional

    Returns
    -------
    CheckReport
    """
    try:
        dataset = read_dataset(folder)
    except DatasetError as error:
        return CheckReport("unknown", (), error.faults, ())
    try:
        rule = label_rule(dataset, contract, overrides)
    except DatasetError as error:
        return CheckReport(dataset.layout, (), (*dataset.faults, *error.faults), ())
    reports: list[CaseReport] = []
    for report in _check_cases(dataset, rule, workers):
        reports.append(report)
        if progress:
            progress(len(reports), len(dataset.cases))
    reports.sort(key=lambda r: r.name)
    faults = [*dataset.faults, *(f for r in reports for f in r.faults)]
    faults += duplicates(dataset, [(r.name, r.digest) for r in reports])
    faults += straddling(dataset) + _test_scans(dataset, reports)
    notes = (*_notes(reports, contract), *_group_notes(dataset))
    return CheckReport(dataset.layout, tuple(reports), tuple(faults), notes)


def _check_cases(dataset: Dataset, rule: LabelRule, workers: int) -> Iterator[CaseReport]:
    if workers == 1 or len(dataset.cases) < 2:
        yield from (check_case(dataset, case, rule)[0] for case in dataset.cases)
        return
    with ProcessPoolExecutor(min(workers, len(dataset.cases))) as pool:
        jobs = [pool.submit(_report_of, dataset, case, rule) for case in dataset.cases]
        for job in as_completed(jobs):
            yield job.result()


def _report_of(dataset: Dataset, case: DatasetCase, rule: LabelRule) -> CaseReport:
    return check_case(dataset, case, rule)[0]


def check_case(
    dataset: Dataset, case: DatasetCase, rule: LabelRule
) -> tuple[CaseReport, LabelledScan | None]:
    """Read one case and judge it.

    Parameters
    ----------
    dataset : Dataset
    case : DatasetCase
        One of its cases.
    rule : LabelRule

    Returns
    -------
    CaseReport
    LabelledScan or None
        None where it could not be read.
    """
    try:
        scan = read_scan(dataset, case, rule)
    except DatasetError as error:
        return CaseReport(case.name, case.group, error.faults), None
    faults = judge(
        look_at(scan),
        rule.contract,
        image=dataset.relative(case.image),
        label=dataset.relative(case.label or case.image),
        case=case.name,
    )
    planes = [np.bincount(plane.ravel(), minlength=IGNORE + 1) for plane in scan.labels]
    counts = np.sum(planes, axis=0)
    ml = scan.volume.voxel_volume_mm3 / 1000
    names = {c.label: c.name for c in rule.contract.classes} | {IGNORE: "ignore"}
    lesion, lung = lesion_and_lung(counts, rule.contract.classes)
    report = CaseReport(
        name=case.name,
        group=case.group,
        faults=tuple(faults),
        shape=scan.volume.shape,
        spacing_mm=scan.volume.spacing_mm,
        class_ml={name: round(float(counts[k]) * ml, 1) for k, name in names.items() if k},
        dl_ild_percent=round(dl_ild_percent(lesion, lung), 2) if lung else None,
        digest=scan.volume.series.digest,
    )
    return report, scan


def duplicates(dataset: Dataset, digests: Iterable[tuple[str, str | None]]) -> list[Fault]:
    """Find scans that are there twice, from the names of cases and the digests of their scans."""
    by_digest: dict[str, list[str]] = defaultdict(list)
    for name, digest in sorted(digests):
        if digest:
            by_digest[digest].append(name)
    images = {case.name: dataset.relative(case.image) for case in dataset.cases}
    return [
        Fault(Kind.DUPLICATE, images[name], f"the same scan as {images[names[0]]}", name)
        for names in by_digest.values()
        for name in names[1:]
    ]


def _test_scans(dataset: Dataset, reports: list[CaseReport]) -> list[Fault]:
    """Find training scans among the test images (`imagesTs`)."""
    digests = {r.digest: r.name for r in reports if r.digest}
    folder = dataset.folder / "imagesTs"
    faults = []
    for path in sorted(folder.glob("*")) if folder.is_dir() else []:
        if path.name.startswith(".") or not path.name.endswith(SUFFIXES):
            continue
        try:
            digest = read_volume(path).series.digest
        except InputError:
            continue  # test images are no matter of the training
        if digest in digests:
            reason = f"the same scan as the training case {digests[digest]}"
            faults.append(Fault(Kind.STRADDLING, dataset.relative(path), reason))
    return faults


def _notes(reports: list[CaseReport], contract: Contract) -> tuple[str, ...]:
    readable = [r for r in reports if r.shape]
    if not readable:
        return ()
    cases: Counter[str] = Counter(n for r in readable for n, v in r.class_ml.items() if v > 0)
    notes = [
        f"no case has {kind.name}: a network trained on this alone will never find it"
        for kind in contract.classes
        if kind.lung and not cases[kind.name]
    ]
    thick = [r.name for r in readable if r.spacing_mm and max(r.spacing_mm) > 3]
    if thick:
        notes.append(f"{len(thick)} of {len(readable)} scans have slices over 3 mm apart")
    return tuple(notes)


def _group_notes(dataset: Dataset) -> tuple[str, ...]:
    if dataset.layout == DICOM or (dataset.folder / "groups.csv").is_file():
        return ()
    note = (
        "no groups.csv (case,group): every case counts as another patient; write one where a "
        "patient has several scans"
    )
    return (note,)
