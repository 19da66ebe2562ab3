"""The command `dlild`: thin glue between a terminal and the client, a module a sub-command."""

from dlild_client.cli.app import main

__all__ = ["main"]
