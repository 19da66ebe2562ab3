"""A private certificate authority in a folder: what it issues, and when that ends.

Files go by the names that Compose, Helm and the proxy mount: ``ca.crt``, ``tls.crt``, ``tls.key``
and, for every client, ``client-NAME.crt`` and ``client-NAME.key``. ``ca.key`` signs them and
belongs on no server.
"""

import ipaddress
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

CA, SERVER, CLIENT = "ca", "tls", "client-"
CLIENT_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,49}")
HOST_NAME = re.compile(
    r"(\*\.)?([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
)
# Clocks differ: a certificate is good from a little before now.
BACKWARDS = timedelta(hours=1)


class CertificateError(Exception):
    """One line: what is wrong with which file or name, and what to do."""


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


class Authority:
    """The authority of a folder; made when there is none yet.

    Parameters
    ----------
    folder : Path
        Made where it is missing.
    days : int, optional
        Life of a new authority.

    Raises
    ------
    CertificateError
        Half of the authority is missing or cannot be read, or its life is over.
    """

    def __init__(self, folder: Path, days: int = 3650) -> None:
        self.folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CertificateError(f"{folder}: {error.strerror}; give another folder") from None
        cert, key = _paths(folder, CA)
        self.is_new = not cert.exists() and not key.exists()
        if self.is_new:
            _write_pair(folder, CA, *_make_authority(days))
        _check_half(cert, key)
        self._key = _read_key(key)
        self._cert = _matching(cert, self._key)
        if self._cert.not_valid_after_utc <= datetime.now(UTC):
            raise CertificateError(
                f"{cert}: the authority has ended; make one in another folder (docs/security.md)"
            )

    def issue_server(self, names: Sequence[str], days: int) -> Entry:
        """Issue ``tls.crt`` for host names and addresses.

        Raises
        ------
        CertificateError
            It is there already, no name is given, or one of them is none.
        """
        if not names:
            raise CertificateError("a server's certificate needs the names that clients call it by")
        return self._issue(SERVER, names[0], [_general_name(name) for name in names], days)

    def issue_client(self, name: str, days: int) -> Entry:
        """Issue ``client-NAME.crt``.

        Raises
        ------
        CertificateError
            It is there already, or the name is none.
        """
        if not CLIENT_NAME.fullmatch(name):
            raise CertificateError(
                f"{name!r} is no name for a client: use small letters, digits, and . _ -"
            )
        return self._issue(CLIENT + name, name, [], days)

    def renew(self, stem: str, days: int) -> Entry:
        """Replace a certificate by one for the same names, with a new key.

        The old pair goes to ``old/``.

        Parameters
        ----------
        stem : str
            ``tls`` or ``client-NAME``.
        days : int
            Life of the new one.

        Raises
        ------
        CertificateError
            There is no such certificate, or it is the authority's own.
        """
        if stem == CA:
            raise CertificateError(
                "the authority is not renewed but replaced: see docs/security.md"
            )
        cert, key = _paths(self.folder, stem)
        _check_half(cert, key)
        old = _read_certificates(cert)[0]
        _remember(self.folder, stem, old)
        (common,) = old.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        pair = self._signed(str(common.value), _alternative_names(old), days)
        _replace_pair(self.folder, stem, *pair)
        return read_entry(cert)

    def _issue(self, stem: str, common: str, names: list[x509.GeneralName], days: int) -> Entry:
        cert, key = _paths(self.folder, stem)
        for path in (cert, key):
            if path.exists():
                raise CertificateError(f"{path} is there already: renew it with --renew {stem}")
        _write_pair(self.folder, stem, *self._signed(common, names, days))
        return read_entry(cert)

    def _signed(
        self, common: str, names: list[x509.GeneralName], days: int
    ) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
        if days < 1:
            raise CertificateError(
                f"a certificate of {days} days has ended already: give 1 or more"
            )
        key = ec.generate_private_key(ec.SECP256R1())
        now = datetime.now(UTC)
        # None outlives its authority: the chain would break without a word.
        ends = min(now + timedelta(days=days), self._cert.not_valid_after_utc)
        purpose = ExtendedKeyUsageOID.SERVER_AUTH if names else ExtendedKeyUsageOID.CLIENT_AUTH
        builder = (
            x509.CertificateBuilder()
            .subject_name(_name(common))
            .issuer_name(self._cert.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(max(now - BACKWARDS, self._cert.not_valid_before_utc))
            .not_valid_after(ends)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False
            )
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()),
                critical=False,
            )
        )
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(self._key, hashes.SHA256()), key


def entries(folder: Path) -> list[Entry]:
    """Read every certificate of a folder, the authority's first.

    Raises
    ------
    CertificateError
        There is none, or a file is no certificate.
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
        It is none.
    """
    first = min(_read_certificates(path), key=lambda certificate: certificate.not_valid_after_utc)
    names = tuple(str(name.value) for name in _alternative_names(first))
    return Entry(path, first.not_valid_after_utc, names)


def _make_authority(days: int) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(UTC)
    name = _name(f"DL-ILD authority {now:%Y-%m-%d %H:%M:%S}")
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKWARDS)
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    return builder.sign(key, hashes.SHA256()), key


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs,
        key_cert_sign=signs,
        crl_sign=signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _name(common: str) -> x509.Name:
    # A common name ends at 64 characters; what counts are the alternative names.
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common[:64])])


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        pass
    if not HOST_NAME.fullmatch(name) or len(name) > 253 or re.fullmatch(r"[\d.]+", name):
        raise CertificateError(
            f"{name!r} is neither a host name nor an address: give such as dlild.hospital.example"
        )
    return x509.DNSName(name)


def _alternative_names(certificate: x509.Certificate) -> list[x509.GeneralName]:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return []
    return list(found.value)


def _paths(folder: Path, stem: str) -> tuple[Path, Path]:
    return folder / f"{stem}.crt", folder / f"{stem}.key"


def _check_half(cert: Path, key: Path) -> None:
    for there, missing in ((cert, key), (key, cert)):
        if not missing.exists():
            beside = f" beside {there}" if there.exists() else ""
            raise CertificateError(f"{missing} is missing{beside}: bring it back from your backup")


def _read_certificates(path: Path) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(path.read_bytes())
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "no certificate in PEM form"
        raise CertificateError(f"{path}: {reason}") from None


def _read_key(path: Path) -> ec.EllipticCurvePrivateKey:
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), None)
    except (OSError, ValueError, TypeError) as error:
        reason = getattr(error, "strerror", None) or "no private key in PEM form, or encrypted"
        raise CertificateError(f"{path}: {reason}") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise CertificateError(f"{path} is not a key that `make certs` has made")
    return key


def _matching(path: Path, key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    for certificate in _read_certificates(path):
        if certificate.public_key() == key.public_key():
            return certificate
    raise CertificateError(f"{path} and its key do not belong together: bring both from one backup")


def _remember(folder: Path, stem: str, certificate: x509.Certificate) -> None:
    """Copy a pair to ``old/``, so that a renewal can be taken back."""
    place = folder / "old"
    place.mkdir(mode=0o700, exist_ok=True)
    for path, mode in zip(_paths(folder, stem), (0o644, 0o600), strict=True):
        copy = place / f"{stem}-{certificate.serial_number:x}{path.suffix}"
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


def _write_pair(
    folder: Path, stem: str, cert: x509.Certificate, key: ec.EllipticCurvePrivateKey
) -> None:
    for path, (content, mode) in zip(_paths(folder, stem), _pem(cert, key), strict=True):
        _write_new(path, content, mode)


def _replace_pair(
    folder: Path, stem: str, cert: x509.Certificate, key: ec.EllipticCurvePrivateKey
) -> None:
    """Put new files in the place of old ones, each at one stroke."""
    for path, (content, mode) in zip(_paths(folder, stem), _pem(cert, key), strict=True):
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
