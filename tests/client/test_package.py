from __future__ import annotations

import doctest
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import dlild_client
from dlild_client import errors
from dlild_client.results.files import write_nifti
from dlild_client.settings import VARIABLES

README = Path(__file__).parents[2] / "client" / "README.md"
SOURCE = Path(inspect.getfile(dlild_client)).parents[1]

PUBLIC = [
    "AsyncClient", "BadAddressError", "BadSettingsError", "Box", "BusyError", "CancelToken",
    "CancelledError", "Client", "ConnectionFailedError", "Contract", "ContractError",
    "DlildError", "Flag", "GeometryError", "InputError", "IrregularSpacingError",
    "KeyRefusedError", "LabelClass", "Limits", "LungBox", "MissingGeometryError",
    "MissingSlicesError", "MixedOrientationError", "MixedShapeError", "ModelNotFoundError",
    "NoSeriesError", "NotCTError", "NotChestError", "NotComparableError", "NotHUError",
    "NotReadyError", "Outcome",
    "PreparedScan", "RefusedError", "RepeatedPositionError", "Result", "Retries",
    "ScanLostError", "SeriesInfo", "SeriesRules", "SeriesSummary", "SeriesSurvey",
    "ServerError", "ServerInfo", "SeveralStudiesError", "TLS", "TLSFailedError",
    "TimedOutError", "Timeout", "Tolerances", "TooFewSlicesError", "TooLargeError",
    "UnreadableFileError", "Volume", "WindowPlan", "draw_overlay", "find_lungs",
    "parse_contract", "plan_windows", "prepare", "read_volume", "survey_series", "to_grid",
    "write_result",
]  # fmt: skip

RENAMED = [
    "BadAddress", "BadSettings", "Busy", "Cancelled", "ConnectionFailed", "IrregularSpacing",
    "KeyRefused", "MissingGeometry", "MissingSlices", "MixedOrientation", "MixedShape",
    "ModelNotFound", "NoSeries", "NotCT", "NotChest", "NotHU", "NotReady", "Refused",
    "RepeatedPosition", "ScanLost", "SeveralStudies", "TLSFailed", "TimedOut", "TooFewSlices",
    "TooLarge", "UnreadableFile",
]  # fmt: skip
"""Errors that had no Error at the end of their names."""


def test_the_public_names_are_these_and_no_others():
    assert sorted(set(dlild_client.__all__) - {"__version__"}) == sorted(PUBLIC)
    assert dir(dlild_client) == sorted(dlild_client.__all__)


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_is_there_and_documented(name):
    assert inspect.getdoc(getattr(dlild_client, name))


def test_no_public_name_is_that_of_a_module():
    """A module that is loaded becomes an attribute of the package, in the place of the name."""
    modules = {path.stem for path in Path(inspect.getfile(dlild_client)).parent.iterdir()}
    assert not modules & set(dlild_client.__all__)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="nonsense"):
        _ = dlild_client.nonsense


@pytest.mark.parametrize("name", RENAMED)
def test_the_old_name_of_an_error_is_a_deprecated_alias(name):
    with pytest.warns(DeprecationWarning, match=rf"dlild_client\.{name} .*\b{name}Error"):
        old = getattr(dlild_client, name)
    assert old is getattr(errors, f"{name}Error")
    assert old.kind == name


def test_every_error_ends_in_error_and_has_a_kind_of_its_own():
    kinds = [k for _, k in inspect.getmembers(errors, inspect.isclass)]
    assert all(k.__name__.endswith("Error") for k in kinds)
    assert len({k.kind for k in kinds}) == len(kinds)


def test_importing_the_package_loads_nothing_heavy():
    script = (
        "import sys, dlild_client; "
        "print([m for m in ('numpy', 'grpc', 'pydicom', 'SimpleITK', 'PIL') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        cwd=str(inspect.getfile(dlild_client)).rsplit("/", 2)[0],
    )
    assert done.stdout == "[]\n"


def test_the_error_tree_in_the_docstring_is_the_tree():
    kinds = [
        k
        for _, k in inspect.getmembers(errors, inspect.isclass)
        if issubclass(k, errors.DlildError)
    ]
    tree = errors.__doc__
    depth: dict[str, int] = {}
    for line in tree.splitlines():
        match = re.match(r"    ([ │├└─]*)(\w+)  +\S", line)
        if match:
            depth[match.group(2)] = len(match.group(1)) // 4
    assert set(depth) == {k.__name__ for k in kinds}
    for kind in kinds:
        assert depth[kind.__name__] == len([b for b in kind.__mro__ if b in kinds]) - 1
        assert kind.__doc__


def test_exit_codes_are_those_of_all_commands():
    assert errors.DlildError("x").exit_code == 1
    assert errors.InputError("x").exit_code == errors.MissingSlicesError("x").exit_code == 3
    assert errors.BadAddressError("x").exit_code == 2


def test_a_message_is_always_one_line():
    assert str(errors.InputError("a\nb\t c")) == "a b c"


def test_importing_the_package_is_quick():
    script = (
        "import time; t = time.perf_counter(); import dlild_client; print(time.perf_counter() - t)"
    )
    times = [
        float(subprocess.run([sys.executable, "-c", script], capture_output=True, text=True,
                             check=True, cwd=SOURCE).stdout)
        for _ in range(3)
    ]  # fmt: skip
    assert min(times) < 0.5


def test_the_examples_of_the_readme_hold(server, chest, tmp_path, monkeypatch, series_writer):
    """With a server at the README's address, wherever it listens here."""
    write_nifti(chest, tmp_path / "scan.nii.gz")
    series_writer.write(chest, "patient-1")
    series_writer.folder.rename(tmp_path / "scans")
    (tmp_path / "scans" / "letter.txt").write_text("Dear all")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DLILD_URL", server.url)
    text = README.read_text(encoding="utf-8").replace("grpc://127.0.0.1:8001", server.url)
    test = doctest.DocTestParser().get_doctest(text, {}, "README.md", str(README), 0)
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    runner.run(test)
    assert len(test.examples) > 10
    assert runner.summarize(verbose=False).failed == 0


def test_the_readme_names_every_variable_and_every_error():
    text = README.read_text(encoding="utf-8")
    named = set(re.findall(r"`(\w+)`", text))
    assert set(VARIABLES) <= named
    kinds = {name for name, k in inspect.getmembers(errors, inspect.isclass)}
    assert kinds & set(dlild_client.__all__) <= named
