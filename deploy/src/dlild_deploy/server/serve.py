"""Serve until a signal asks to stop: `dlild-deploy serve`, and the same without typer.

``python -m dlild_deploy.server`` runs in the server's own environment and in a bundle, which have
the standard library only; its options are the parameters of `serve`.
"""

import argparse
import inspect
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dlild_deploy.checkout import CACHE, MODEL_REPOSITORY
from dlild_deploy.errors import DeployError
from dlild_deploy.server.access_flags import read_access
from dlild_deploy.server.embedded_server import EmbeddedServer
from dlild_deploy.supervisor import Stopped, run_until_stopped, stop_on_signals


def serve(
    repository: Path = MODEL_REPOSITORY,
    profile: str = "embedded",
    grpc_port: int = 8001,
    http_port: int = 8000,
    metrics_port: int = 8002,
    server_python: Path | None = None,
    log: Path = CACHE / "tritonserver.log",
    ready_timeout: float = 120.0,
    tls_cert: Path | None = None,
    tls_key: Path | None = None,
    tls_ca: Path | None = None,
    api_key_file: Path | None = None,
) -> None:
    """Run the embedded server on loopback, print its addresses, and stop it on `Stopped`.

    Parameters
    ----------
    repository, profile, grpc_port, http_port, metrics_port, server_python
        As in `EmbeddedServer`.
    log : Path, optional
    ready_timeout : float, optional
        Seconds.
    tls_cert, tls_key, tls_ca, api_key_file : Path, optional
        As in `read_access`.

    Raises
    ------
    LauncherError
        The server cannot run, or has died.
    """
    tls, api_key = read_access(tls_cert, tls_key, tls_ca, api_key_file)
    server = EmbeddedServer(
        repository=repository,
        profile=profile,
        grpc_port=grpc_port,
        http_port=http_port,
        metrics_port=metrics_port,
        server_python=server_python,
        log_path=log,
        ready_timeout_s=ready_timeout,
        tls=tls,
        api_key=api_key,
    )
    try:
        with server:
            print(f"ready   {server.grpc_url}  profile {server.profile}")
            print(f"also    {server.http_url}  {server.metrics_url}")
            print(f"log     {server.log_path}")
            print(f"stop    Ctrl-C, or kill {os.getpid()}", flush=True)
            run_until_stopped(server.check_alive)
    except Stopped:
        print("stopped")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `serve` with options from the command line; return 0 when stopped on request, else 1."""
    parser = argparse.ArgumentParser(prog="python -m dlild_deploy.server")
    for name, parameter in inspect.signature(serve).parameters.items():
        parser.add_argument(
            f"--{name.replace('_', '-')}",
            type=_type_of(parameter.default),
            default=parameter.default,
        )
    stop_on_signals()
    try:
        serve(**vars(parser.parse_args(arguments)))
    except DeployError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except Stopped:
        print("stopped")
    return 0


def _type_of(default: Any) -> type:
    """Return what a word of the command line becomes; options without a default are files."""
    return Path if default is None or isinstance(default, Path) else type(default)
