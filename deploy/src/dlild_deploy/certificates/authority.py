"""A private certificate authority in a folder, and the certificates that it issues.

Files go by the names that Compose, Helm and the proxy mount: ``ca.crt``, ``tls.crt``, ``tls.key``
and, for every client, ``client-NAME.crt`` and ``client-NAME.key``. ``ca.key`` signs them and
belongs on no server.
"""

import ipaddress
import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from dlild_deploy.certificates.certificate_files import (
    CA,
    CLIENT,
    SERVER,
    Entry,
    alternative_names,
    check_half,
    matching,
    paths,
    read_certificates,
    read_entry,
    read_key,
    remember,
    replace_pair,
    write_pair,
)
from dlild_deploy.errors import CertificateError

CLIENT_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,49}")
HOST_NAME = re.compile(
    r"(\*\.)?([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
)
# Clocks differ: a certificate is valid from a little before now.
BACKWARDS = timedelta(hours=1)


class Authority:
    """The authority of a folder; created where the folder has none.

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
        cert, key = paths(folder, CA)
        self.is_new = not cert.exists() and not key.exists()
        if self.is_new:
            write_pair(folder, CA, *_make_authority(days))
        check_half(cert, key)
        self._key = read_key(key)
        self._cert = matching(cert, self._key)
        if self._cert.not_valid_after_utc <= datetime.now(UTC):
            raise CertificateError(
                f"{cert}: the authority has ended; make one in another folder (docs/security.md)"
            )

    def issue_server(self, names: Sequence[str], days: int) -> Entry:
        """Issue ``tls.crt`` for host names and addresses.

        Raises
        ------
        CertificateError
            It exists already, no name is given, or one is not valid.
        """
        if not names:
            raise CertificateError("a server's certificate needs the names that clients call it by")
        return self._issue(SERVER, names[0], [_general_name(name) for name in names], days)

    def issue_client(self, name: str, days: int) -> Entry:
        """Issue ``client-NAME.crt``.

        Raises
        ------
        CertificateError
            It exists already, or the name is not valid.
        """
        if not CLIENT_NAME.fullmatch(name):
            raise CertificateError(
                f"{name!r} is no name for a client: use small letters, digits, and . _ -"
            )
        return self._issue(CLIENT + name, name, [], days)

    def renew(self, stem: str, days: int) -> Entry:
        """Replace a certificate by one for the same names, with a new key.

        The old pair is kept in ``old/``.

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
        cert, key = paths(self.folder, stem)
        check_half(cert, key)
        old = read_certificates(cert)[0]
        remember(self.folder, stem, old)
        (common,) = old.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        pair = self._signed(str(common.value), alternative_names(old), days)
        replace_pair(self.folder, stem, *pair)
        return read_entry(cert)

    def _issue(self, stem: str, common: str, names: list[x509.GeneralName], days: int) -> Entry:
        cert, key = paths(self.folder, stem)
        for path in (cert, key):
            if path.exists():
                raise CertificateError(f"{path} is there already: renew it with --renew {stem}")
        write_pair(self.folder, stem, *self._signed(common, names, days))
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
        # No certificate outlives its authority: the chain would fail without any message.
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
