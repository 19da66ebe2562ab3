"""Mutated files raise nothing but the tree, in bounded time and memory.

`DLILD_MUTANTS` says how many are tried in the default suite; the slow test tries 10,000. A mutant
is made from its number alone, so a failure names all that it takes to make it again.
"""

from __future__ import annotations

import os
import resource
import time
import warnings
from contextlib import suppress
from pathlib import Path

import numpy as np
import pydicom
import pytest
from client.mutants import mutate
from client.writers import LOSSLESS, to_unsigned, transcode, write_enhanced

from dlild_client.errors import DlildError
from dlild_client.reading.read import read_volume
from dlild_client.reading.series.candidates import SeriesRules
from dlild_client.reading.survey import survey_series
from dlild_client.volume import Volume

SLICES = 4
RULES = SeriesRules(minimum_slices=2, minimum_coverage_mm=1)
LONGEST_S = 5.0
LARGEST_BYTES = 2 << 30


@pytest.fixture(scope="module")
def breeders(tmp_path_factory) -> list[list[bytes]]:
    """Small series to mutate: one in each transfer syntax, and Enhanced CT as a single file."""
    from client.conftest import SeriesWriter  # noqa: PLC0415

    writer = SeriesWriter(tmp_path_factory.mktemp("breeders"))
    z, y, x = np.mgrid[:SLICES, :64, :64]
    array = 700 * np.sin(x / 9 + z) * np.cos(y / 7) - 300 + (x * 7 + y * 13 + z * 5) % 11
    scan = Volume(np.rint(array).astype(np.int16), (5.0, 1.0, 1.0))
    out = [_contents(writer.write(scan, "plain"))]
    for uid in LOSSLESS:
        for signed in (True, False):
            folder = writer.write(
                scan,
                f"{uid}-{signed}",
                edit=None if signed else lambda ds, i: to_unsigned(ds, scan.array[i]),
            )
            for path in folder.iterdir():
                transcode(path, uid)
            out.append(_contents(folder))
    for compress in (None, pydicom.uid.RLELossless):
        folder = writer.write(scan, f"frames-{compress}")
        path = write_enhanced(folder, writer.folder / f"{compress}.dcm", uid=compress)
        out.append([path.read_bytes()])
    return out


def _contents(folder: Path) -> list[bytes]:
    return [path.read_bytes() for path in sorted(folder.iterdir())]


def try_mutant(number: int, breeders: list[list[bytes]], folder: Path) -> str:
    """Read a series with mutants in it; return what came of it, or raise what must not come."""
    series = breeders[number % len(breeders)]
    for i, content in enumerate(series):
        bent = len(series) == 1 or i % 2 == number % 2
        (folder / f"{i}.dcm").write_bytes(mutate(content, number * SLICES + i) if bent else content)
    start = time.process_time()
    try:
        if number % 5 == 0:
            survey_series(folder, RULES)
        read_volume(folder, RULES)
        outcome = "read"
    except DlildError as error:
        outcome = type(error).__name__
    spent = time.process_time() - start
    assert spent < LONGEST_S, f"mutant {number} took {spent:.1f} s"
    for i in range(len(series)):
        (folder / f"{i}.dcm").unlink()
    return outcome


def try_mutants(numbers: range, breeders: list[list[bytes]], folder: Path) -> dict[str, int]:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    outcomes: dict[str, int] = {}
    for number in numbers:
        try:
            outcome = try_mutant(number, breeders, folder)
        except BaseException as error:
            error.add_note(f"mutant {number}")
            raise
        outcomes[outcome] = outcomes.get(outcome, 0) + 1
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    assert grown < LARGEST_BYTES
    return outcomes


def test_mutants_raise_nothing_but_the_tree(breeders, tmp_path, recwarn, caplog):
    recwarn.clear()
    outcomes = try_mutants(range(int(os.environ.get("DLILD_MUTANTS", "150"))), breeders, tmp_path)
    # The mutator is worth its name: most mutants are refused, for many reasons; some survive.
    assert len(outcomes) > 5
    assert outcomes["read"] > 10
    assert not [w for w in recwarn.list if "pydicom" in w.filename]
    assert not caplog.text


@pytest.mark.slow
def test_ten_thousand_mutants_raise_nothing_but_the_tree(breeders, tmp_path):
    outcomes = try_mutants(range(10_000), breeders, tmp_path)
    assert sum(outcomes.values()) == 10_000


@pytest.mark.slow
def test_mutants_of_real_files_raise_nothing_but_the_tree(shared_data, tmp_path):
    places = ("ct-transfer-syntaxes", "enhanced-ct", "dicom-faults")
    real = [
        p.read_bytes() for place in places for p in sorted((shared_data / place).rglob("*.dcm"))
    ]
    outcomes = try_mutants(range(2000), [[content] for content in real], tmp_path)
    assert sum(outcomes.values()) == 2000


@pytest.mark.parametrize(
    "tags",
    [
        {"Rows": 65535, "Columns": 65535},
        {"Rows": 4096, "Columns": 4096},
        {"NumberOfFrames": 2**31 - 1},
        {"NumberOfFrames": -1},
        {"BitsAllocated": 1},
        {"BitsAllocated": 64},
        {"BitsAllocated": 16, "BitsStored": 17},
        {"BitsStored": 0},
        {"HighBit": 99},
        {"SamplesPerPixel": 60000},
        {"SamplesPerPixel": 0},
        {"PixelRepresentation": 7},
    ],
    ids=str,
)
def test_hostile_sizes_are_refused_before_anything_is_allocated(series_writer, scan, tags):
    def edit(ds, i):
        for name, value in tags.items():
            setattr(ds, name, value)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        folder = series_writer.write(scan, edit=edit)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.process_time()
    with suppress(DlildError):
        read_volume(folder)
    assert time.process_time() - start < LONGEST_S
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < 200_000_000
