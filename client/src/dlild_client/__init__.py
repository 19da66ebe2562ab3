"""Light client of a DL-ILD server: a chest CT in; score, label map and picture out.

The public names are listed once, in `__init__.pyi`: the stub for type checkers, and the table from
which each name is imported at its first use, so that importing the package stays cheap.

Deprecated aliases, each with a `DeprecationWarning`: the names of the errors before they all ended
in ``Error`` (``Busy`` is `BusyError`, ``NotCT`` is `NotCTError`; see `dlild_client.errors`).
"""

from __future__ import annotations

import ast
import warnings
from importlib import import_module
from pathlib import Path
from typing import Any

_MODULES: dict[str, str] = {}
_RENAMED: dict[str, str] = {}
for _node in ast.parse(Path(__file__).with_name("__init__.pyi").read_text(encoding="utf-8")).body:
    if isinstance(_node, ast.ImportFrom) and _node.module is not None:
        for _name in _node.names:
            if _name.asname == _name.name:
                _MODULES[_name.name] = _node.module
            elif _name.asname is not None:
                _RENAMED[_name.asname] = _name.name

__all__ = [*_MODULES, "__version__"]  # noqa: PLE0604  (keys are names)


def __getattr__(name: str) -> Any:
    """Import a public name at its first use (PEP 562)."""
    if name == "__version__":
        return _version()
    if name in _RENAMED:
        new = _RENAMED[name]
        warnings.warn(
            f"dlild_client.{name} is deprecated; use dlild_client.{new}",
            DeprecationWarning,
            stacklevel=2,
        )
        return __getattr__(new)
    if name not in _MODULES:
        raise AttributeError(f"module 'dlild_client' has no attribute {name!r}")
    value = getattr(import_module(_MODULES[name]), name)
    globals()[name] = value
    return value


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415

    try:
        return version("dlild-client")
    except PackageNotFoundError:
        return "0+source"  # a checkout that is not installed


def __dir__() -> list[str]:
    """List the public names, without the deprecated ones."""
    return sorted(__all__)
