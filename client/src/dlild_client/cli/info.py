"""`dlild info`: prints the metadata of a server."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from dlild_client.cli.options import AsJson, ServerOptions
from dlild_client.cli.screen import print_rows

if TYPE_CHECKING:
    from dlild_client.transport.connection import ServerInfo


def info(
    as_json: AsJson = False,
    *,
    server: ServerOptions,
) -> None:
    """Print model, version, profile of a server, and engine and precision that it computes in."""
    from dlild_client.client import Client  # noqa: PLC0415
    from dlild_client.doctor import find_engine  # noqa: PLC0415

    settings = server.settings()
    with Client.from_settings(settings) as client:
        found = client.info()
    facts = _facts(found, find_engine(settings, found.contract))
    if as_json:
        print(json.dumps(facts, indent=2))
    else:
        rows = [(name.replace("_", " "), str(value)) for name, value in facts.items()]
        print_rows("DL-ILD server", rows)


def _facts(server: ServerInfo, named: str | None) -> dict[str, object]:
    contract = server.contract
    engine, precision = server.computed_by(named)
    return {
        "url": server.url,
        "model": contract.model.name,
        "model_version": contract.model.version,
        "weights_digest": f"sha256:{contract.model.weights_sha256}",
        "profile": server.profile,
        "engine": engine,
        "precision": precision,
        "server_version": server.server_version,
        "contract_schema_version": contract.schema_version,
    }
