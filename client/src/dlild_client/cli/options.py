"""Options that sub-commands share, in groups, and what follows from each group."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from dlild_client.results.files import Writer
    from dlild_client.results.result import Result
    from dlild_client.settings import Retries, Settings

SERVER = "Server"
ARCHIVE = "Archive"
DICOM = "DICOM objects of the result (extra [dicom])"
BY_TYPER = False
"""Typer does not check that a path is readable: it would report that as a usage error."""


def path_option(text: str, panel: str) -> typer.models.OptionInfo:
    """Make an option that is a path, in a panel of the help page."""
    return typer.Option(help=text, readable=BY_TYPER, rich_help_panel=panel)  # type: ignore[no-any-return]


def output_option(text: str, **more: Any) -> typer.models.OptionInfo:
    """Make the option ``--out``, whose path may not be empty, as by a variable that is not set."""
    return typer.Option(help=text, parser=_output_path, metavar="<path>", **more)  # type: ignore[no-any-return]


def _output_path(given: str | Path) -> Path:
    if not str(given):
        raise typer.BadParameter("the path is empty; give one, or . for this folder")
    return Path(given)


def _dicom_flag(name: str, text: str) -> typer.models.OptionInfo:
    return typer.Option(name, help=text, rich_help_panel=DICOM)  # type: ignore[no-any-return]


AsJson = Annotated[bool, typer.Option("--json", help="Print JSON to standard output.")]
ReportLanguage = Annotated[
    str, typer.Option("--language", metavar="en|zh", help="Language of the report.")
]
Anonymous = Annotated[
    bool,
    _dicom_flag("--anonymous", "Strip patient identity from every output; UIDs are replaced."),
]


@dataclass(frozen=True)
class ServerOptions:
    """Address of the server and credentials; an option overrides the variable of the same name."""

    url: Annotated[
        str | None,
        typer.Option(
            help="Address: grpc://host:port, or grpcs:// for TLS (DLILD_URL). "
            "[default: grpc://127.0.0.1:8001]",
            rich_help_panel=SERVER,
            show_default=False,
        ),
    ] = None
    tls_ca: Annotated[
        Path | None, path_option("Trusted certificate authorities, PEM (DLILD_TLS_CA).", SERVER)
    ] = None
    tls_cert: Annotated[
        Path | None, path_option("Client certificate, PEM (DLILD_TLS_CERT).", SERVER)
    ] = None
    tls_key: Annotated[
        Path | None,
        path_option("Private key of the client certificate, PEM (DLILD_TLS_KEY).", SERVER),
    ] = None
    tls_server_name: Annotated[
        str | None,
        typer.Option(
            help="Name in the server's certificate, if not the host (DLILD_TLS_SERVER_NAME).",
            rich_help_panel=SERVER,
        ),
    ] = None
    api_key_file: Annotated[
        Path | None,
        path_option(
            "File with the API key (DLILD_API_KEY_FILE; the key itself: DLILD_API_KEY).", SERVER
        ),
    ] = None

    def settings(self, retries: Retries | None = None) -> Settings:
        """Resolve the settings from the options and the environment."""
        from dlild_client.settings import find_settings  # noqa: PLC0415

        variables = dict(os.environ)
        if self.api_key_file is not None:
            variables.pop("DLILD_API_KEY", None)
        for option in fields(self):
            value = getattr(self, option.name)
            if option.name != "url" and value is not None:
                variables[f"DLILD_{option.name.upper()}"] = str(value)
        return find_settings(self.url, retries=retries, variables=variables)


@dataclass(frozen=True)
class ObjectOptions:
    """DICOM objects to write of each result."""

    seg: Annotated[
        bool, _dicom_flag("--seg", "Write seg.dcm: DICOM SEG on the scanned slices.")
    ] = False
    labelmap: Annotated[
        bool,
        _dicom_flag(
            "--labelmap", "Write seg-labelmap.dcm: SEG as LABELMAP, which few viewers read."
        ),
    ] = False
    sr: Annotated[bool, _dicom_flag("--sr", "Write sr.dcm: measurements, TID 1500.")] = False
    capture: Annotated[
        bool, _dicom_flag("--capture", "Write capture.dcm: the summary page as a picture.")
    ] = False
    pdf: Annotated[bool, _dicom_flag("--pdf", "Write pdf.dcm: the summary page as PDF.")] = False
    anonymous: Anonymous = False

    def kinds(self) -> tuple[str, ...]:
        """List the kinds asked for; raises where the extra is missing."""
        kinds = tuple(
            option.name
            for option in fields(self)
            if option.name != "anonymous" and getattr(self, option.name)
        )
        if kinds:
            from dlild_client.results.dicom.extra import load_highdicom  # noqa: PLC0415

            load_highdicom()
        return kinds


def make_files(
    result: Result, kinds: tuple[str, ...], language: str = "en", *, anonymous: bool
) -> dict[str, Writer]:
    """Make the DICOM objects of one result; return their writers by file name."""
    if not kinds:
        return {}
    from dlild_client.report.summary import summary_page  # noqa: PLC0415
    from dlild_client.results.dicom.files import object_files  # noqa: PLC0415

    page = summary_page(result, language) if {"capture", "pdf"} & set(kinds) else None
    return object_files(result, kinds, summary=page, anonymous=anonymous)


def with_groups(command: Callable[..., None]) -> Callable[..., None]:
    """Replace each parameter of a command that is a group of options by its options."""
    options: list[inspect.Parameter] = []
    groups: dict[str, Any] = {}
    for parameter in inspect.signature(command, eval_str=True).parameters.values():
        group = parameter.annotation
        if isinstance(group, type) and is_dataclass(group):
            groups[parameter.name] = group
            options += inspect.signature(group, eval_str=True).parameters.values()
        else:
            options.append(parameter)

    @wraps(command)
    def run(**given: Any) -> None:
        for name, group in groups.items():
            given[name] = group(**{option.name: given.pop(option.name) for option in fields(group)})
        command(**given)

    by_name = [option.replace(kind=inspect.Parameter.KEYWORD_ONLY) for option in options]
    run.__signature__ = inspect.Signature(by_name)  # type: ignore[attr-defined]
    run.__annotations__ = {option.name: option.annotation for option in options}
    return run
