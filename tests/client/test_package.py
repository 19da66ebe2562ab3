from __future__ import annotations

import inspect
import re
import subprocess
import sys

import pytest

import dlild_client
from dlild_client import errors

PUBLIC = [
    "AsyncClient", "BadAddress", "BadSettings", "Box", "Busy", "CancelToken", "Cancelled",
    "Client", "ConnectionFailed", "Contract", "ContractError", "DlildError", "Flag",
    "GeometryError", "InputError", "IrregularSpacing", "KeyRefused", "LabelClass", "Limits",
    "LungBox", "MissingGeometry", "MissingSlices", "MixedOrientation", "MixedShape", "NoSeries",
    "NotCT", "NotChest", "NotHU", "NotReady", "Outcome", "PreparedScan", "Refused",
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
