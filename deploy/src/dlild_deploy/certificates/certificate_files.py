"""Certificate and key files of a private authority; nothing is overwritten half-way."""

import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from dlild_deploy.errors import CertificateError

CA, SERVER, CLIENT = "ca", "tls", "client-"


@dataclass(frozen=True)
class Entry:
    """A certificate of the folder.

    Attributes
    ----------
    path : Path
    ends : datetime
        UTC.
    names : tuple of str
        Host names and addresses that it is for.
    """

    path: Path
    ends: datetime
    names: tuple[str, ...]

    @property
    def days_left(self) -> int:
        """Whole days until it ends; below 0 it has ended."""
        return (self.ends - datetime.now(UTC)).days


def entries(folder: Path) -> list[Entry]:
    """Read every certificate of a folder, the authority's first.

    Raises
    ------
    CertificateError
        The folder has no certificate, or a file is not one.
    """
    found = sorted(
        folder.glob("*.crt"), key=lambda path: (path.stem != CA, path.stem != SERVER, path)
    )
    if not found:
        raise CertificateError(f"{folder} has no certificates: run `make certs`")
    return [read_entry(path) for path in found]


def read_entry(path: Path) -> Entry:
    """Read a certificate; of several in one file (authorities) the one that ends first.

    Raises
    ------
    CertificateError
        The file is not a certificate.
    """
    first = min(read_certificates(path), key=lambda certificate: certificate.not_valid_after_utc)
    names = tuple(str(name.value) for name in alternative_names(first))
    return Entry(path, first.not_valid_after_utc, names)


def alternative_names(certificate: x509.Certificate) -> list[x509.GeneralName]:
    """Names and addresses that a certificate is for; none for a client's."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return []
    return list(found.value)


def paths(folder: Path, stem: str) -> tuple[Path, Path]:
    """Name the files of a certificate and its key."""
    return folder / f"{stem}.crt", folder / f"{stem}.key"


def check_half(cert: Path, key: Path) -> None:
    """Raise CertificateError where one of the two is missing."""
    for there, missing in ((cert, key), (key, cert)):
        if not missing.exists():
            beside = f" beside {there}" if there.exists() else ""
            raise CertificateError(f"{missing} is missing{beside}: bring it back from your backup")


def read_certificates(path: Path) -> list[x509.Certificate]:
    """Read all certificates of a file; raises CertificateError."""
    try:
        return x509.load_pem_x509_certificates(path.read_bytes())
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "no certificate in PEM form"
        raise CertificateError(f"{path}: {reason}") from None


def read_key(path: Path) -> ec.EllipticCurvePrivateKey:
    """Read a private key that `write_pair` has written; raises CertificateError."""
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), None)
    except (OSError, ValueError, TypeError) as error:
        reason = getattr(error, "strerror", None) or "no private key in PEM form, or encrypted"
        raise CertificateError(f"{path}: {reason}") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise CertificateError(f"{path} is not a key that `make certs` has made")
    return key


def matching(path: Path, key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    """Find the certificate of a key in a file that may hold several; raises CertificateError."""
    for certificate in read_certificates(path):
        if certificate.public_key() == key.public_key():
            return certificate
    raise CertificateError(f"{path} and its key do not belong together: bring both from one backup")


def remember(folder: Path, stem: str, certificate: x509.Certificate) -> None:
    """Copy a pair to ``old/``, so that a renewal can be taken back."""
    old = folder / "old"
    old.mkdir(mode=0o700, exist_ok=True)
    for path, mode in zip(paths(folder, stem), (0o644, 0o600), strict=True):
        copy = old / f"{stem}-{certificate.serial_number:x}{path.suffix}"
        if not copy.exists():
            _write_new(copy, path.read_bytes(), mode)


def _pem(
    cert: x509.Certificate, key: ec.EllipticCurvePrivateKey
) -> tuple[tuple[bytes, int], tuple[bytes, int]]:
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return (cert.public_bytes(serialization.Encoding.PEM), 0o644), (private, 0o600)


def write_pair(
    folder: Path, stem: str, cert: x509.Certificate, key: ec.EllipticCurvePrivateKey
) -> None:
    """Write a certificate and its key as new files; raises CertificateError."""
    for path, (content, mode) in zip(paths(folder, stem), _pem(cert, key), strict=True):
        _write_new(path, content, mode)


def replace_pair(
    folder: Path, stem: str, cert: x509.Certificate, key: ec.EllipticCurvePrivateKey
) -> None:
    """Replace a certificate and its key, each file atomically."""
    for path, (content, mode) in zip(paths(folder, stem), _pem(cert, key), strict=True):
        fresh = path.with_name(f".{path.name}.new")
        fresh.unlink(missing_ok=True)
        _write_new(fresh, content, mode)
        fresh.replace(path)


def _write_new(path: Path, content: bytes, mode: int) -> None:
    """Write a file that is not there yet; nobody else can read it in between."""
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            file.write(content)
    except OSError as error:
        raise CertificateError(f"{path}: {error.strerror}") from None
