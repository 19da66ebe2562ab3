"""TLS and the API key of the embedded server, as flags of tritonserver."""

from dataclasses import dataclass
from pathlib import Path

from dlild_deploy.errors import LauncherError

KEY_HEADER = "x-ild-key"
# All that Triton can close but `health`, which probes ask without a key.
GUARDED = (
    "metadata",
    "inference",
    "shared-memory",
    "model-config",
    "model-repository",
    "statistics",
    "trace",
    "logging",
)


@dataclass(frozen=True)
class ServerTLS:
    """Certificates of the gRPC port, in PEM files.

    Attributes
    ----------
    cert, key : Path
        What the server shows.
    ca : Path, optional
        Authorities that must vouch for every client (mutual TLS).
    """

    cert: Path
    key: Path
    ca: Path | None = None


def access_flags(tls: ServerTLS | None, api_key: str | None) -> list[str]:
    """Make the flags of tritonserver.

    Parameters
    ----------
    tls : ServerTLS, optional
    api_key : str, optional

    Returns
    -------
    list of str

    Raises
    ------
    LauncherError
        A file is missing, or the key holds a character that a flag or a header cannot carry.

    Notes
    -----
    Triton takes the key on its command line only, where every user of the machine can read it: on
    a machine with other users put a proxy before it that checks the key.
    """
    flags: list[str] = []
    if tls is not None:
        for name, path in (("certificate", tls.cert), ("key", tls.key), ("authority", tls.ca)):
            if path is not None and not path.is_file():
                raise LauncherError(f"the TLS {name} {path} is not there: look at the path")
        flags += [
            "--grpc-use-ssl=1",
            f"--grpc-server-cert={tls.cert}",
            f"--grpc-server-key={tls.key}",
        ]
        if tls.ca is not None:
            flags += ["--grpc-use-ssl-mutual=1", f"--grpc-root-cert={tls.ca}"]
    if api_key is not None:
        if not api_key or not all("!" <= c <= "~" for c in api_key):
            raise LauncherError(
                "the API key is empty or holds a space or a character beyond ASCII: make another"
            )
        flags.append(f"--grpc-restricted-protocol={','.join(GUARDED)}:{KEY_HEADER}={api_key}")
    return flags


def read_access(
    cert: Path | None, key: Path | None, ca: Path | None, api_key_file: Path | None
) -> tuple[ServerTLS | None, str | None]:
    """Read the options ``--tls-cert``, ``--tls-key``, ``--tls-ca`` and ``--api-key-file``.

    Parameters
    ----------
    cert, key : Path, optional
        The server's certificate and private key (PEM).
    ca : Path, optional
        Authority of the clients: mutual TLS.
    api_key_file : Path, optional

    Returns
    -------
    tls : ServerTLS or None
    api_key : str or None

    Raises
    ------
    LauncherError
        Certificate without key or the other way round, or a key that cannot be read.
    """
    if bool(cert) != bool(key) or (ca and not cert):
        raise LauncherError("TLS needs both --tls-cert and --tls-key; --tls-ca goes with them")
    tls = ServerTLS(cert, key, ca) if cert and key else None
    if api_key_file is None:
        return tls, None
    try:
        return tls, api_key_file.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not text"
        raise LauncherError(
            f"the API key {api_key_file} cannot be read ({reason}): look at the path"
        ) from None
