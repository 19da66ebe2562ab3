"""DICOMweb service: search (QIDO-RS), retrieve (WADO-RS) and store (STOW-RS), DICOM PS3.18.

Settings beside the address are variables, or options of the same name:

=====================================  ==========================================================
variable                               meaning
=====================================  ==========================================================
``DLILD_DICOMWEB_TOKEN_FILE``          file with a bearer token (the token: ``..._TOKEN``)
``DLILD_DICOMWEB_USER``                user, with the password in the next file
``DLILD_DICOMWEB_PASSWORD_FILE``       file with the password (the password: ``..._PASSWORD``)
``DLILD_DICOMWEB_CA``                  trusted authorities, PEM; default: those of `certifi`
``DLILD_DICOMWEB_CERT``, ``..._KEY``   client certificate and its key, PEM
``DLILD_DICOMWEB_TIMEOUT_S``           longest silence of the service, 60 s
=====================================  ==========================================================

Messages never quote a URL of a request, which would hold UIDs.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlild_client.archive.addresses import WebAddress, load_extra
from dlild_client.errors import (
    BadSettingsError,
    ConnectionFailedError,
    DlildError,
    KeyRefusedError,
    NoSeriesError,
    NotCTError,
    NotReadyError,
    RefusedError,
    ServerError,
    TimedOutError,
    TLSFailedError,
    TooLargeError,
)
from dlild_client.reading.sources import MAXIMUM_FILE_BYTES, MAXIMUM_FILES
from dlild_client.settings import read_key
from dlild_client.tls import TLS

if TYPE_CHECKING:
    from pydicom import Dataset

MAXIMUM_SERIES = 2_000
"""Most series of a study that are listed."""

FREE_BYTES = 256 << 20
"""Space that retrieval leaves free on the disk of the temporary folder."""

_CHUNK_BYTES = 1 << 20
_STORED_SYNTAX = (("application/dicom", "*"),)
"""Objects as the archive holds them, without transcoding."""

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class WebSettings:
    """Settings of a DICOMweb service. Secrets are left out of `repr`.

    Attributes
    ----------
    address : WebAddress
    token : str or None
        Bearer token.
    user, password : str or None
        For HTTP basic authentication.
    tls : TLS
    timeout_s : float
        Longest silence of the service.

    Raises
    ------
    BadSettingsError
        Token and user are both given, only one of user and password is, or a secret would be sent
        to another machine without TLS.
    """

    address: WebAddress
    token: str | None = field(default=None, repr=False)
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: TLS = field(default_factory=TLS)
    timeout_s: float = 60.0

    def __post_init__(self) -> None:
        """Check that the credentials are complete and are not sent in clear text."""
        if self.token is not None and self.user is not None:
            raise BadSettingsError("both a token and a user for DICOMweb; give one of them")
        if (self.user is None) != (self.password is None):
            raise BadSettingsError("DICOMweb needs both user and password, or neither")
        secret = self.token if self.token is not None else self.password
        if secret is None:
            return
        if not self.address.secure and not self.address.is_loopback:
            raise BadSettingsError(
                f"a secret would be sent to {self.address} without encryption; use dicomweb+https://"
            )
        if any(c < " " or c == "\x7f" for c in f"{secret}{self.user or ''}"):
            raise BadSettingsError(
                "user, password or token for DICOMweb holds a control character; look at where it "
                "comes from"
            )


def find_web_settings(
    address: WebAddress, variables: Mapping[str, str] | None = None
) -> WebSettings:
    """Resolve the settings of a DICOMweb service from variables; an empty one counts as unset.

    Raises
    ------
    BadSettingsError
        A variable is wrong, or a file cannot be read; secrets are not quoted.
    """
    variables = os.environ if variables is None else variables

    def given(name: str) -> str | None:
        return variables.get(f"DLILD_DICOMWEB_{name}") or None

    def secret(name: str) -> str | None:
        path = given(f"{name}_FILE")
        return read_key(path) if path is not None else given(name)

    tls = TLS(ca=given("CA"), cert=given("CERT"), key=given("KEY"))
    if not address.secure and any((tls.ca, tls.cert)):
        raise BadSettingsError(
            f"{address} does not use TLS, yet certificates are given; use dicomweb+https://"
        )
    text = given("TIMEOUT_S") or "60"
    try:
        timeout_s = float(text)
    except ValueError:
        timeout_s = 0.0
    if not 0 < timeout_s < float("inf"):
        raise BadSettingsError(
            f"DLILD_DICOMWEB_TIMEOUT_S is {text!r}, not a positive number of seconds"
        )
    return WebSettings(
        address,
        token=secret("TOKEN"),
        user=given("USER"),
        password=secret("PASSWORD"),
        tls=tls,
        timeout_s=timeout_s,
    )


@dataclass(frozen=True)
class FoundSeries:
    """One series of a study, as the service lists it.

    Attributes
    ----------
    uid : str
    number : str
        SeriesNumber; empty where missing.
    modality : str
        Empty where missing.
    images : int or None
        Number of its objects, where the service states it.
    """

    uid: str
    number: str
    modality: str
    images: int | None


class DicomWeb:
    """A DICOMweb service.

    Parameters
    ----------
    settings : WebSettings

    Raises
    ------
    BadSettingsError
        `dicomweb-client` is not installed, or a certificate cannot be read.
    """

    def __init__(self, settings: WebSettings) -> None:
        self._settings = settings
        for name in ("dicomweb_client", "retrying", "urllib3"):
            # They log URLs, which hold UIDs.
            logging.getLogger(name).setLevel(logging.CRITICAL + 1)
        self._requests = load_extra("requests")
        self._errors = load_extra("requests.exceptions")
        self._bound = _Bound()
        # `requests` reports a certificate that cannot be read as a failed connection.
        settings.tls.context()
        client = load_extra("dicomweb_client.api").DICOMwebClient(
            settings.address.url,
            session=self._session(),
            callback=self._bound.watch,
            chunk_size=_CHUNK_BYTES,
            timeout=settings.timeout_s,
        )
        client.set_http_retry_params(retry=False)
        self._client = client

    def _session(self) -> Any:
        """Make a session; variables of the environment cannot replace its authorities."""
        settings, session = self._settings, self._requests.Session()
        session.trust_env = False
        session.proxies = self._requests.utils.get_environ_proxies(settings.address.url)
        session.max_redirects = 3
        if settings.tls.ca is not None:
            session.verify = str(settings.tls.ca)
        if settings.tls.cert is not None:
            session.cert = (str(settings.tls.cert), str(settings.tls.key))
        if settings.user is not None and settings.password is not None:
            session.auth = (settings.user.encode(), settings.password.encode())
        if settings.token is not None:
            session.headers["Authorization"] = f"Bearer {settings.token}"
        return session

    def find_series(self, study: str) -> list[FoundSeries]:
        """List the series of a study (QIDO-RS).

        Raises
        ------
        NoSeriesError
            The archive has no such study.
        DlildError
            It does not answer, or refuses.
        """
        found: dict[str, FoundSeries] = {}
        read = 0
        while len(found) < MAXIMUM_SERIES:
            with self._translated("search"):
                rows = self._client.search_for_series(study_instance_uid=study, offset=read)
                page = [_found(row) for row in rows]
            read += len(page)
            # A service that ignores the offset lists the same series again.
            fresh = {row.uid: row for row in page if row.uid and row.uid not in found}
            if not fresh:
                break
            found |= fresh
        if not found:
            raise NoSeriesError(
                f"{self._settings.address}: no study with this UID in the archive; look at --study"
            )
        return list(found.values())

    def retrieve(
        self,
        study: str,
        folder: Path,
        series: str | None = None,
        progress: Progress | None = None,
    ) -> int:
        """Retrieve the CT series of a study, or one of its series, into a folder (WADO-RS).

        Parameters
        ----------
        study : str
            StudyInstanceUID.
        folder : Path
            An existing folder; files in it are numbered.
        series : str, optional
            UID or number of the series. Default: all CT series, so that the readers can choose
            as they do from a folder.
        progress : callable, optional
            Called as ``progress("retrieve", done, whole)``, in images.

        Returns
        -------
        int
            Images that were retrieved.

        Raises
        ------
        NoSeriesError, NotCTError
            The study has no such series, or no CT at all.
        TooLargeError
            More images than a study may have, or an image that is too long.
        DlildError
            The archive does not answer, refuses, or ends early; the disk is full.
        """
        wanted = self._choose(self.find_series(study), series)
        whole = sum(s.images or 0 for s in wanted)
        done = 0
        for one in wanted:
            got = 0
            for dataset in self._images(study, one.uid):
                _write(dataset, folder / f"{done:06d}.dcm")
                got, done = got + 1, done + 1
                if progress is not None:
                    progress("retrieve", done, max(whole, done))
                if done > MAXIMUM_FILES:
                    raise TooLargeError(
                        f"more than {MAXIMUM_FILES} images in this study; give --series"
                    )
            if one.images is not None and got < one.images:
                raise ConnectionFailedError(
                    f"{self._settings.address}: {got} of the {one.images} images of a series "
                    "arrived; try again"
                )
        return done

    def _choose(self, found: Sequence[FoundSeries], series: str | None) -> list[FoundSeries]:
        where = self._settings.address
        if series is not None:
            wanted = [s for s in found if series in {s.uid, s.number}]
            if not wanted:
                raise NoSeriesError(
                    f"{where}: none of {len(found)} series of the study has this UID or number; "
                    "look at --series"
                )
            return wanted
        wanted = [s for s in found if s.modality in {"", "CT"}]
        if not wanted:
            kinds = ", ".join(sorted({s.modality for s in found}))[:80]
            raise NotCTError(f"{where}: the study has no CT series (only {kinds}); give a chest CT")
        return wanted

    def _images(self, study: str, series: str) -> Iterator[Dataset]:
        """Yield the objects of a series; only one at a time is in memory."""
        with self._translated("retrieve"):
            stream = self._client.iter_series(study, series, media_types=_STORED_SYNTAX)
            for dataset in stream:
                self._bound.reset()
                yield dataset

    def store(self, objects: Sequence[Dataset]) -> None:
        """Store objects (STOW-RS). Objects that are there already are left as they are.

        Raises
        ------
        RefusedError
            The archive stored none, or not all of them.
        DlildError
            It does not answer.
        """
        with self._translated("store"):
            answer = self._client.store_instances(list(objects))
            failed = list(answer.get("FailedSOPSequence", None) or [])
        if failed:
            reason = getattr(failed[0], "FailureReason", None)
            code = f" (failure reason 0x{int(reason):04X})" if reason is not None else ""
            raise RefusedError(
                f"{self._settings.address}: the archive refused {len(failed)} of {len(objects)} "
                f"objects{code}; look at its log"
            )

    @contextmanager
    def _translated(self, act: str) -> Iterator[None]:
        """Raise errors of HTTP and of broken answers as errors of the tree, without a URL."""
        where, errors = self._settings.address, self._errors
        self._bound.reset()
        try:
            yield
        except DlildError:
            raise
        except errors.SSLError as error:
            raise TLSFailedError(
                f"{where}: the TLS handshake fails: {_tls_reason(error)}; look at "
                "DLILD_DICOMWEB_CA, DLILD_DICOMWEB_CERT and the archive's certificate"
            ) from None
        except errors.HTTPError as error:
            raise _refusal(where, act, error.response) from None
        except errors.Timeout:
            raise TimedOutError(
                f"{where}: the archive did not answer within {self._settings.timeout_s:g} s"
            ) from None
        except errors.TooManyRedirects:
            raise ServerError(
                f"{where}: the archive redirects in a circle; look at the address"
            ) from None
        except (errors.ConnectionError, errors.ChunkedEncodingError) as error:
            raise ConnectionFailedError(
                f"{where}: {_connection_reason(error)}; look at the address and whether the "
                "archive is running"
            ) from None
        except (errors.RequestException, *_broken_answers()) as error:
            raise ServerError(
                f"{where}: the answer is not that of a DICOMweb service "
                f"({type(error).__name__}); look at the path of the address"
            ) from None


class _Bound:
    """Bounds the bytes that are buffered for one object of an answer."""

    def __init__(self) -> None:
        self._bytes = 0

    def reset(self) -> None:
        """Begin to count anew: an object is complete."""
        self._bytes = 0

    def watch(self, response: Any, *_arguments: Any, **_options: Any) -> Any:
        """Count what is read from a response; a hook of `requests`."""
        read = response.iter_content

        def counted(*arguments: Any, **options: Any) -> Iterator[bytes]:
            for chunk in read(*arguments, **options):
                self._bytes += len(chunk)
                if self._bytes > MAXIMUM_FILE_BYTES:
                    raise TooLargeError(
                        f"the archive sends an object of more than {MAXIMUM_FILE_BYTES / 1e9:.1f} "
                        "GB; give --series with the UID of a chest CT"
                    )
                yield chunk

        response.iter_content = counted
        return response


def _broken_answers() -> tuple[type[Exception], ...]:
    """Errors that an answer raises which is not DICOMweb."""
    from pydicom.errors import BytesLengthException, InvalidDicomError  # noqa: PLC0415

    return (
        AttributeError,
        EOFError,
        KeyError,
        TypeError,
        ValueError,
        BytesLengthException,
        InvalidDicomError,
        NotImplementedError,
    )


def _found(row: Mapping[str, Any]) -> FoundSeries:
    """Parse a series of the DICOM JSON model (PS3.18, F)."""

    def first(tag: str) -> Any:
        values = row.get(tag, {}).get("Value") or [None]
        return values[0]

    images = first("00201209")
    number = first("00200011")
    return FoundSeries(
        uid=str(first("0020000E") or ""),
        number="" if number is None else str(number),
        modality=str(first("00080060") or ""),
        images=None if images is None else int(images),
    )


def _write(dataset: Dataset, path: Path) -> None:
    """Write one retrieved object; space for other programs is left on the disk."""
    try:
        dataset.save_as(path, enforce_file_format=False)
        free = shutil.disk_usage(path.parent).free
    except OSError as error:
        raise _cannot_keep(error.strerror or "input/output error") from None
    if free < FREE_BYTES:
        raise _cannot_keep(f"less than {FREE_BYTES >> 20} MiB are free")


def _cannot_keep(reason: str) -> DlildError:
    return DlildError(
        f"the temporary folder cannot hold the study: {reason}; set TMPDIR to a folder with space"
    )


_STATUS: dict[int, tuple[type[DlildError], str]] = {
    401: (KeyRefusedError, "user, password or token is missing or wrong"),
    403: (KeyRefusedError, "this user or token is not permitted to"),
    408: (TimedOutError, "the archive gave up waiting"),
    413: (RefusedError, "the archive takes no message of this size"),
    429: (NotReadyError, "the archive takes no more requests now"),
}


def _refusal(where: WebAddress, act: str, response: Any) -> DlildError:
    """Translate an HTTP status."""
    code = int(response.status_code)
    text = f"HTTP status {code} to {act}"
    if code == 404 and act == "retrieve":
        return NoSeriesError(f"{where}: the archive has no such study or series ({text})")
    if code == 404:
        return ServerError(
            f"{where}: no DICOMweb service at this path, or no such study ({text}); look at the "
            "address"
        )
    if code in _STATUS:
        kind, reason = _STATUS[code]
        return kind(f"{where}: {reason} ({text})")
    if code >= 500:
        return NotReadyError(f"{where}: the archive fails ({text}); look at its log, or try later")
    return RefusedError(f"{where}: the archive refuses ({text}); look at its log")


def _tls_reason(error: Exception) -> str:
    """Reason of a failed handshake, without the URL that the error quotes, too."""
    found = re.search(r"\[SSL[^\]]*\] ([^()\[\]]{1,120})", str(error))
    return found[1].strip() if found else "certificate or protocol"


def _connection_reason(error: Exception) -> str:
    """Say how a connection failed, without the URL."""
    text = str(error)
    for words, reason in (
        ("refused", "connection refused"),
        ("Name or service", "no host of this name"),
        ("resolve", "no host of this name"),
        ("No route", "no route to this host"),
        ("timed out", "no answer in time"),
    ):
        if words in text:
            return reason
    return "the connection broke"
