"""`dlild info`: prints the metadata of a server."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from dlild_client.cli.options import (
    ApiKeyFile,
    AsJson,
    TlsCa,
    TlsCert,
    TlsKey,
    TlsServerName,
    Url,
    make_settings,
)
from dlild_client.cli.screen import print_rows

if TYPE_CHECKING:
    from dlild_client.transport.connection import ServerInfo


def info(
    as_json: AsJson = False,
    url: Url = None,
    tls_ca: TlsCa = None,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    tls_server_name: TlsServerName = None,
    api_key_file: ApiKeyFile = None,
) -> None:
    """Print model, version, profile and engine of a server."""
    from dlild_client.client import Client  # noqa: PLC0415

    settings = make_settings(url, tls_ca, tls_cert, tls_key, tls_server_name, api_key_file)
    with Client.from_settings(settings) as client:
        facts = _facts(client.info())
    if as_json:
        print(json.dumps(facts, indent=2))
    else:
        rows = [(name.replace("_", " "), str(value)) for name, value in facts.items()]
        print_rows("DL-ILD server", rows)


def _facts(server: ServerInfo) -> dict[str, object]:
    contract = server.contract
    return {
        "url": server.url,
        "model": contract.model.name,
        "model_version": contract.model.version,
        "weights_digest": f"sha256:{contract.model.weights_sha256}",
        "profile": server.profile,
        "engine": server.engine.engine,
        "precision": server.engine.precision,
        "server_version": server.server_version,
        "contract_schema_version": contract.schema_version,
    }
