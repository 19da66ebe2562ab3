"""What the package offers."""

from __future__ import annotations

import inspect
from importlib import resources

import dlild_analysis
from dlild_analysis import errors


def test_all_names_are_public_names_each_once():
    names = dlild_analysis.__all__
    assert len(set(names)) == len(names)
    assert set(names) == {
        name
        for name, value in vars(dlild_analysis).items()
        if not name.startswith("_") and not inspect.ismodule(value) and name != "annotations"
    }


def test_every_error_is_in_the_tree_of_the_docstring():
    for name, value in inspect.getmembers(errors, inspect.isclass):
        if issubclass(value, Exception):
            assert name.endswith("Error")
            assert name in (errors.__doc__ or "")
            assert value.exit_code in (1, 2, 3)


def test_package_data():
    root = resources.files("dlild_analysis")
    for name in (
        "py.typed",
        "examples/paper.toml",
        "report/templates/report.html.j2",
        "report/templates/claim.toml",
        "serving/triton-model/model.py",
    ):
        assert root.joinpath(name).is_file()
