"""Light client of a DL-ILD server: a chest CT in; score, label map and picture out.

Names are loaded when they are first used, so that importing the package costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dlild_client.async_client import (
        AsyncClient,
    )
    from dlild_client.client import (
        Client,
    )
    from dlild_client.contract import (
        Contract,
        LabelClass,
        parse_contract,
    )
    from dlild_client.core import (
        Outcome,
    )
    from dlild_client.errors import (
        BadAddress,
        BadSettings,
        Busy,
        Cancelled,
        ConnectionFailed,
        ContractError,
        DlildError,
        GeometryError,
        InputError,
        IrregularSpacing,
        KeyRefused,
        MissingGeometry,
        MissingSlices,
        MixedOrientation,
        MixedShape,
        ModelNotFound,
        NoSeries,
        NotChest,
        NotCT,
        NotHU,
        NotReady,
        Refused,
        RepeatedPosition,
        ScanLost,
        ServerError,
        SeveralStudies,
        TimedOut,
        TLSFailed,
        TooFewSlices,
        TooLarge,
        UnreadableFile,
    )
    from dlild_client.flags import (
        Flag,
    )
    from dlild_client.preparation.grid import (
        to_grid,
    )
    from dlild_client.preparation.lungs import (
        LungBox,
        find_lungs,
    )
    from dlild_client.preparation.prepare import (
        PreparedScan,
        prepare,
    )
    from dlild_client.preparation.windows import (
        Box,
        WindowPlan,
        plan_windows,
    )
    from dlild_client.reading.read import (
        read_volume,
    )
    from dlild_client.reading.series.candidates import (
        SeriesRules,
    )
    from dlild_client.reading.series.geometry import (
        Tolerances,
    )
    from dlild_client.reading.survey import (
        SeriesSummary,
        SeriesSurvey,
        survey_series,
    )
    from dlild_client.results.files import (
        write_result,
    )
    from dlild_client.results.overlay import (
        draw_overlay,
    )
    from dlild_client.results.result import (
        Result,
    )
    from dlild_client.settings import (
        Limits,
        Retries,
        Timeout,
    )
    from dlild_client.tls import (
        TLS,
    )
    from dlild_client.transport.cancel import (
        CancelToken,
    )
    from dlild_client.transport.connection import (
        ServerInfo,
    )
    from dlild_client.volume import (
        SeriesInfo,
        Volume,
    )

__all__ = [
    "TLS",
    "AsyncClient",
    "BadAddress",
    "BadSettings",
    "Box",
    "Busy",
    "CancelToken",
    "Cancelled",
    "Client",
    "ConnectionFailed",
    "Contract",
    "ContractError",
    "DlildError",
    "Flag",
    "GeometryError",
    "InputError",
    "IrregularSpacing",
    "KeyRefused",
    "LabelClass",
    "Limits",
    "LungBox",
    "MissingGeometry",
    "MissingSlices",
    "MixedOrientation",
    "MixedShape",
    "ModelNotFound",
    "NoSeries",
    "NotCT",
    "NotChest",
    "NotHU",
    "NotReady",
    "Outcome",
    "PreparedScan",
    "Refused",
    "RepeatedPosition",
    "Result",
    "Retries",
    "ScanLost",
    "SeriesInfo",
    "SeriesRules",
    "SeriesSummary",
    "SeriesSurvey",
    "ServerError",
    "ServerInfo",
    "SeveralStudies",
    "TLSFailed",
    "TimedOut",
    "Timeout",
    "Tolerances",
    "TooFewSlices",
    "TooLarge",
    "UnreadableFile",
    "Volume",
    "WindowPlan",
    "__version__",
    "draw_overlay",
    "find_lungs",
    "parse_contract",
    "plan_windows",
    "prepare",
    "read_volume",
    "survey_series",
    "to_grid",
    "write_result",
]

_HOMES = {
    "async_client": ("AsyncClient",),
    "transport.cancel": ("CancelToken",),
    "client": ("Client",),
    "transport.connection": ("ServerInfo",),
    "contract": (
        "Contract",
        "LabelClass",
        "parse_contract",
    ),
    "errors": (
        "BadAddress",
        "BadSettings",
        "Busy",
        "Cancelled",
        "ConnectionFailed",
        "ContractError",
        "DlildError",
        "GeometryError",
        "InputError",
        "IrregularSpacing",
        "KeyRefused",
        "MissingGeometry",
        "MissingSlices",
        "MixedOrientation",
        "MixedShape",
        "ModelNotFound",
        "NoSeries",
        "NotCT",
        "NotChest",
        "NotHU",
        "NotReady",
        "Refused",
        "RepeatedPosition",
        "ScanLost",
        "ServerError",
        "SeveralStudies",
        "TLSFailed",
        "TimedOut",
        "TooFewSlices",
        "TooLarge",
        "UnreadableFile",
    ),
    "flags": ("Flag",),
    "reading.series.geometry": ("Tolerances",),
    "preparation.grid": ("to_grid",),
    "preparation.lungs": (
        "LungBox",
        "find_lungs",
    ),
    "core": ("Outcome",),
    "results.files": ("write_result",),
    "results.overlay": ("draw_overlay",),
    "preparation.prepare": (
        "PreparedScan",
        "prepare",
    ),
    "reading.read": ("read_volume",),
    "results.result": ("Result",),
    "reading.series.candidates": ("SeriesRules",),
    "settings": ("Limits", "Retries", "Timeout"),
    "reading.survey": (
        "SeriesSummary",
        "SeriesSurvey",
        "survey_series",
    ),
    "tls": ("TLS",),
    "volume": (
        "SeriesInfo",
        "Volume",
    ),
    "preparation.windows": (
        "Box",
        "WindowPlan",
        "plan_windows",
    ),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    """Load a public name from its module (PEP 562)."""
    if name == "__version__":
        return _version()
    if name not in _HOME_OF:
        raise AttributeError(f"module 'dlild_client' has no attribute {name!r}")
    value = getattr(import_module(f"dlild_client.{_HOME_OF[name]}"), name)
    globals()[name] = value
    return value


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415

    try:
        return version("dlild-client")
    except PackageNotFoundError:
        return "0+source"  # run from a checkout that is not installed


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
