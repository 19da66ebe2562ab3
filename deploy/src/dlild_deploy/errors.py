"""Errors of operations. Each is one line: what is wrong, and what to do."""


class DeployError(Exception):
    """Anything that a command of `dlild-deploy` ends with: one line, exit code 1."""


class LauncherError(DeployError):
    """A server, the proxy or a tool cannot run, or did not start."""


class CertificateError(DeployError):
    """A certificate, a key or a name is wrong, or a file of them."""


class KeyFileError(DeployError):
    """The file of the API keys, or a name in it, is wrong."""


class BundleError(DeployError):
    """A bundle cannot be made."""
