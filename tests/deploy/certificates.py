"""A private authority and certificates for loopback, made by openssl where a test needs them."""

import subprocess
from pathlib import Path


def openssl(*arguments: object) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


def make_authority(folder: Path) -> None:
    """Write ``ca.crt`` and ``ca.key``."""
    openssl(
        *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
        *("-subj", "/CN=test authority", "-days", "2"),
        *("-keyout", folder / "ca.key", "-out", folder / "ca.crt"),
    )


def make_certificate(folder: Path, name: str, *, days: int = 1) -> None:
    """Write ``NAME.crt`` and ``NAME.key`` for localhost, signed by the authority there."""
    extensions = folder / f"{name}.ext"
    extensions.write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
    openssl(
        *("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
        *("-subj", f"/CN={name}", "-keyout", folder / f"{name}.key"),
        *("-out", folder / f"{name}.csr"),
    )
    openssl(
        *("x509", "-req", "-in", folder / f"{name}.csr", "-days", days, "-extfile", extensions),
        *("-CA", folder / "ca.crt", "-CAkey", folder / "ca.key", "-CAcreateserial"),
        *("-out", folder / f"{name}.crt"),
    )
