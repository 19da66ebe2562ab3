"""Command line `dlild`: one module per sub-command, on top of the client."""

from dlild_client.cli.app import main

__all__ = ["main"]
