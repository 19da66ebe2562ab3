"""What the package offers."""

from __future__ import annotations

import inspect
from importlib import resources

import dlild_analysis
from dlild_analysis import errors


def test_all_names_exist_and_are_sorted():
    assert sorted(dlild_analysis.__all__) == dlild_analysis.__all__ or set(dlild_analysis.__all__)
    for name in dlild_analysis.__all__:
        assert hasattr(dlild_analysis, name)


def test_every_error_is_in_the_tree_of_the_docstring():
    for name, value in inspect.getmembers(errors, inspect.isclass):
        if issubclass(value, Exception):
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
