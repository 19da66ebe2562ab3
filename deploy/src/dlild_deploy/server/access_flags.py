"""Who may speak to the embedded server: TLS certificates and the API key, as Triton's own flags."""

import argparse
from dataclasses import dataclass
from pathlib import Path

from preflight import LauncherError

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
    """Certificates of the gRPC door, in PEM files.

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


def guard_flags(tls: ServerTLS | None, api_key: str | None) -> list[str]:
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


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this module to a command line.

    Parameters
    ----------
    parser : argparse.ArgumentParser
    """
    parser.add_argument("--tls-cert", type=Path, help="the server's certificate (PEM)")
    parser.add_argument("--tls-key", type=Path, help="its private key (PEM)")
    parser.add_argument("--tls-ca", type=Path, help="authority of the clients: mutual TLS (PEM)")
    parser.add_argument("--api-key-file", type=Path, help="file with the key that clients send")


def read_options(options: argparse.Namespace) -> tuple[ServerTLS | None, str | None]:
    """Read what `add_options` has added.

    Parameters
    ----------
    options : argparse.Namespace

    Returns
    -------
    tls : ServerTLS or None
    api_key : str or None

    Raises
    ------
    LauncherError
        Certificate without key or the other way round, or a key that cannot be read.
    """
    if bool(options.tls_cert) != bool(options.tls_key) or (options.tls_ca and not options.tls_cert):
        raise LauncherError("TLS needs both --tls-cert and --tls-key; --tls-ca goes with them")
    tls = None
    if options.tls_cert:
        tls = ServerTLS(options.tls_cert, options.tls_key, options.tls_ca)
    if options.api_key_file is None:
        return tls, None
    try:
        return tls, options.api_key_file.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not text"
        raise LauncherError(
            f"the API key {options.api_key_file} cannot be read ({reason}): look at the path"
        ) from None
