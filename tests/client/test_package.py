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
    "AsyncClient", "BadAddress", "BadSettings", "Box", "Busy", "CancelToken", "Cancelled",
    "Client", "ConnectionFailed", "Contract", "ContractError", "DlildError", "Flag",
    "GeometryError", "InputError", "IrregularSpacing", "KeyRefused", "LabelClass", "Limits",
    "LungBox", "MissingGeometry", "MissingSlices", "MixedOrientation", "MixedShape",
    "ModelNotFound", "NoSeries", "NotCT", "NotChest", "NotHU", "NotReady", "Outcome",
    "PreparedScan", "Refused",
    "RepeatedPosition", "Result", "Retries", "ScanLost", "SeriesInfo", "SeriesRules",
    "SeriesSummary", "SeriesSurvey", "ServerError", "ServerInfo", "SeveralStudies", "TLS",
    "TLSFailed", "TimedOut", "Timeout", "Tolerances", "TooFewSlices", "TooLarge",
    "UnreadableFile", "Volume", "WindowPlan", "draw_overlay", "find_lungs", "parse_contract",
    "plan_windows", "prepare", "read_volume", "survey_series", "to_grid", "write_result",
]  # fmt: skip


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
        k for _, k in inspect.getmembers(errors, inspect.isclass) if k.__module__ == errors.__name__
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


def test_exit_codes_are_those_of_the_house():
    assert errors.DlildError("x").exit_code == 1
    assert errors.InputError("x").exit_code == errors.MissingSlices("x").exit_code == 3
    assert errors.BadAddress("x").exit_code == 2


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
