"""Options shared by sub-commands, and the settings built from them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from dlild_client.settings import Retries, Settings

SERVER = "Server"
ARCHIVE = "Archive"
BY_TYPER = False
"""Typer does not check that a path is readable: it would report that as a usage error."""

Url = Annotated[
    str | None,
    typer.Option(
        help="Address: grpc://host:port, or grpcs:// for TLS (DLILD_URL). "
        "[default: grpc://127.0.0.1:8001]",
        rich_help_panel=SERVER,
        show_default=False,
    ),
]
TlsCa = Annotated[
    Path | None,
    typer.Option(
        help="Trusted certificate authorities, PEM (DLILD_TLS_CA).",
        readable=BY_TYPER,
        rich_help_panel=SERVER,
    ),
]
TlsCert = Annotated[
    Path | None,
    typer.Option(
        help="Client certificate, PEM (DLILD_TLS_CERT).",
        readable=BY_TYPER,
        rich_help_panel=SERVER,
    ),
]
TlsKey = Annotated[
    Path | None,
    typer.Option(
        help="Private key of the client certificate, PEM (DLILD_TLS_KEY).",
        readable=BY_TYPER,
        rich_help_panel=SERVER,
    ),
]
TlsServerName = Annotated[
    str | None,
    typer.Option(
        help="Name in the server's certificate, if not the host (DLILD_TLS_SERVER_NAME).",
        rich_help_panel=SERVER,
    ),
]
ApiKeyFile = Annotated[
    Path | None,
    typer.Option(
        help="File with the API key (DLILD_API_KEY_FILE; the key itself: DLILD_API_KEY).",
        readable=BY_TYPER,
        rich_help_panel=SERVER,
    ),
]
ReportLanguage = Annotated[
    str, typer.Option("--language", metavar="en|zh", help="Language of the report.")
]
DICOM = "DICOM objects of the result (extra [dicom])"
WithSeg = Annotated[
    bool,
    typer.Option(
        "--seg", help="Write seg.dcm: DICOM SEG on the scanned slices.", rich_help_panel=DICOM
    ),
]
WithLabelmap = Annotated[
    bool,
    typer.Option(
        "--labelmap",
        help="Write seg-labelmap.dcm: SEG as LABELMAP, which few viewers read.",
        rich_help_panel=DICOM,
    ),
]
WithSr = Annotated[
    bool,
    typer.Option("--sr", help="Write sr.dcm: measurements, TID 1500.", rich_help_panel=DICOM),
]
WithCapture = Annotated[
    bool,
    typer.Option(
        "--capture",
        help="Write capture.dcm: the summary page as a picture.",
        rich_help_panel=DICOM,
    ),
]
WithPdf = Annotated[
    bool,
    typer.Option("--pdf", help="Write pdf.dcm: the summary page as PDF.", rich_help_panel=DICOM),
]
Anonymous = Annotated[
    bool,
    typer.Option(
        "--anonymous",
        help="Strip patient identity from every output; UIDs are replaced.",
        rich_help_panel=DICOM,
    ),
]


def object_kinds(**wanted: bool) -> tuple[str, ...]:
    """Kinds of DICOM objects that the options ask for; raises where the extra is missing."""
    kinds = tuple(kind for kind, asked in wanted.items() if asked)
    if kinds:
        from dlild_client.results.dicom.extra import load_highdicom  # noqa: PLC0415

        load_highdicom()
    return kinds


AsJson = Annotated[bool, typer.Option("--json", help="Print JSON to standard output.")]


def make_settings(
    url: str | None,
    tls_ca: Path | None,
    tls_cert: Path | None,
    tls_key: Path | None,
    tls_server_name: str | None,
    api_key_file: Path | None,
    retries: Retries | None = None,
) -> Settings:
    """Resolve the settings; an option overrides the variable of the same name."""
    from dlild_client.settings import find_settings  # noqa: PLC0415

    options = {
        "DLILD_TLS_CA": tls_ca,
        "DLILD_TLS_CERT": tls_cert,
        "DLILD_TLS_KEY": tls_key,
        "DLILD_TLS_SERVER_NAME": tls_server_name,
        "DLILD_API_KEY_FILE": api_key_file,
    }
    variables = dict(os.environ)
    if api_key_file is not None:
        variables.pop("DLILD_API_KEY", None)
    variables |= {name: str(value) for name, value in options.items() if value is not None}
    return find_settings(url, retries=retries, variables=variables)
