"""`dlild doctor`: diagnoses the connection to a server."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict

import typer

from dlild_client.cli.options import AsJson, ServerOptions
from dlild_client.cli.screen import console

MARKS = {"good": "+", "doubtful": "?", "bad": "x", "left out": "-"}


def doctor(
    as_json: AsJson = False,
    *,
    server: ServerOptions,
) -> None:
    """Check address, TLS, key, readiness, contract, profile, round trip and throughput.

    Each line states a finding and, unless it is good, the remedy. Exit code 1 if a finding is bad.
    Throughput is measured with a few windows of air.
    """
    from dlild_client.doctor import examine  # noqa: PLC0415

    settings = server.settings()
    screen = console()
    findings = []
    for found in examine(settings):
        findings.append(found)
        if not as_json:
            screen.print(f"{MARKS[found.verdict]} {found.check:<11} {found.finding}")
            if found.remedy:
                screen.print(f"  {'':<11} -> {found.remedy}")
            sys.stdout.flush()
    if as_json:
        print(json.dumps([asdict(found) for found in findings], indent=2))
    if any(found.verdict == "bad" for found in findings):
        raise typer.Exit(1)
