"""A small chest, scanned as the name says, with its result."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from types import SimpleNamespace

import numpy as np
import pytest
from client.conftest import SeriesWriter
from client.results.labelled import labelled_result
from client.writers import write_enhanced

from dlild_client.reading.read import read_volume
from dlild_client.results.compare import compare_results
from dlild_client.results.files import write_result
from dlild_client.results.result import Result
from dlild_client.results.stored import read_stored
from dlild_client.volume import Volume

AXIAL, CORONAL, SAGITTAL = (1, 0, 0, 0, 1, 0), (1, 0, 0, 0, 0, -1), (0, 1, 0, 0, 0, -1)


def write_scan(writer, chest_maker, name: str):
    """A small chest in 30 slices, as the name says."""
    shape, spacing = (30, 40, 56), (6.0, 3.0, 3.0)
    if name == "odd sizes":
        shape = (30, 41, 57)
    chest = chest_maker(shape, spacing)
    if name in {"coronal", "sagittal"}:
        points = (1, 0, 2) if name == "coronal" else (2, 0, 1)
        array = np.ascontiguousarray(chest.array.transpose(points)[:, ::-1])
        turned = Volume(array, tuple(chest.spacing_mm[i] for i in points))
        step = (0.0, 3.0, 0.0) if name == "coronal" else (3.0, 0.0, 0.0)
        orientation = CORONAL if name == "coronal" else SAGITTAL
        return writer.write(turned, orientation=orientation, step=step)
    if name == "tilted":
        return writer.write(chest, step=(0.0, 1.2, 6.0))
    if name == "oblique":
        a = np.radians(12)
        row, column = (np.cos(a), 0, -np.sin(a)), (0, 1, 0)
        normal = np.cross(row, column) * 6
        return writer.write(chest, orientation=(*row, *column), step=tuple(normal))
    if name == "uneven":
        z = np.cumsum([0, *([4.0, 8.0] * 15)])[:30]

        def edit(ds, i):
            ds.ImagePositionPatient = [-150.0, -130.0, float(z[i])]

        return writer.write(chest, edit=edit)
    if name == "gaps":
        return writer.write(chest, edit=lambda ds, i: setattr(ds, "SliceThickness", 1.0))
    folder = writer.write(chest, step=(0.0, 0.0, -6.0) if name == "backwards" else None)
    return write_enhanced(folder, folder.parent / "enhanced.dcm") if name == "enhanced" else folder


@pytest.fixture(scope="session")
def results(tmp_path_factory, chest_maker, contract) -> Callable[[str], Result]:
    """Results by the name of the scan, each made once."""

    @cache
    def make(name: str) -> Result:
        writer = SeriesWriter(tmp_path_factory.mktemp("series"))
        path = write_scan(writer, chest_maker, name)
        return labelled_result(read_volume(path, with_source=True), contract)

    return make


@pytest.fixture
def scored(results, request) -> Result:
    """The result of a scan, with headers of its own that a test may change."""
    result = results(getattr(request, "param", "axial"))
    source = result.image.source
    own = replace(source, header=copy.deepcopy(source.header))
    return replace(result, image=replace(result.image, source=own))


@pytest.fixture(scope="session")
def patient(tmp_path_factory, chest_maker, contract):
    """Three studies of one patient, scanned and scored: lungs that differ, and one other kernel."""
    place, results = tmp_path_factory.mktemp("patient"), []
    for i, (height, kernel) in enumerate(((6.0, "B60f"), (6.4, "B60f"), (6.2, "B30f"))):

        def edit(ds, _, kernel=kernel):
            ds.ConvolutionKernel, ds.SliceThickness, ds.StudyDate = kernel, 6.0, "20230405"

        chest = chest_maker((30, 40, 56), (height, 3.0, 3.0))
        folder = SeriesWriter(place / f"study-{i}").write(chest, edit=edit)
        result = labelled_result(read_volume(folder, with_source=True), contract)
        if i == 2:
            # The lesion of one class is gone, so that it has no segment.
            honeycombing = replace(
                result.classes["honeycombing"], volume_ml=0.0, percent_of_lung=0.0, certainty=None
            )
            result = replace(result, classes={**result.classes, "honeycombing": honeycombing})
        write_result(result, place / f"out-{i}")
        results.append(result)
    return SimpleNamespace(
        place=place,
        results=results,
        sources=[r.image.source for r in results],
        stored=[read_stored(place / f"out-{i}") for i in range(3)],
        scans=[place / f"study-{i}" / "ct" for i in range(3)],
    )


@pytest.fixture(scope="session")
def comparison(patient):
    return compare_results(patient.stored, [0, 180, 420])
