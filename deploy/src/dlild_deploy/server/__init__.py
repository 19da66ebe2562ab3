"""The embedded server: tritonserver out of the ``nvidia-pytriton`` wheel, on loopback."""

from dlild_deploy.errors import LauncherError
from dlild_deploy.server.access_flags import ServerTLS
from dlild_deploy.server.embedded_server import EmbeddedServer

__all__ = ["EmbeddedServer", "LauncherError", "ServerTLS"]
