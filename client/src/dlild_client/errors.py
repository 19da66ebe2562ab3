"""Every exception that this package raises on purpose, in one tree.

::

    DlildError                       the scan got no score                             exit 1
    ├── BadSettingsError             an argument or a DLILD_* variable is wrong        exit 2
    │   └── BadAddressError          the server's address is malformed
    ├── ConnectionFailedError        no server answers, or the connection broke        retryable
    │   └── TLSFailedError           the TLS handshake failed
    ├── TimedOutError                no answer within the time limit                   retryable
    ├── BusyError                    the server is at its limit of open scans          retryable
    ├── RefusedError                 the server refused the request
    │   └── KeyRefusedError          the API key is missing or wrong
    ├── ContractError                the server's contract is another than this client's
    ├── ServerError                  the server failed, or its answers are inconsistent
    │   ├── NotReadyError            the server is starting or stopping                retryable
    │   │   └── ModelNotFoundError   the server has no such model (yet)                retryable
    │   └── ScanLostError            the server dropped the scan before its end        retryable
    ├── CancelledError               the caller cancelled the scan                     exit 130
    ├── WorkerLostError              a scan took down its Dask workers (`dlild batch --dask`)
    └── InputError                   the scan cannot be scored                         exit 3
        ├── UnreadableFileError      no such path, not an image, or it cannot be decoded
        ├── NoSeriesError            a folder without any image series
        ├── SeveralStudiesError      more than one study could be meant
        ├── NotCTError               another modality, a localizer, a capture, a reformat
        ├── NotHUError               grey values that cannot be converted to HU
        ├── NotChestError            no lungs, or hardly any
        ├── TooFewSlicesError        not enough slices or coverage for a pair of lungs
        ├── NotComparableError       results of different models, or of one scan
        ├── TooLargeError            more voxels or windows than the server accepts
        └── GeometryError            the slices do not form a volume
            ├── MissingGeometryError     no position, orientation or pixel spacing
            ├── MixedOrientationError    slices of different orientation
            ├── MixedShapeError          slices of different size or pixel spacing
            ├── RepeatedPositionError    different images at one position
            ├── MissingSlicesError       a gap as wide as one or more slices
            └── IrregularSpacingError    steps that differ for another reason

A message is one line: what is wrong, where, with which value, and what to do. It may contain the
base name of a file, never a folder, a patient or an identifier of one.

`kind` names the class in `results.csv` and in JSON (``NotCT`` for `NotCTError`); it stays the same
when a class is renamed. Up to version 0.1 the classes that do not describe a branch of the tree had
no ``Error`` at the end of their names. `dlild_client` still exports those names (``Busy``,
``NotCT``, ...) as deprecated aliases: each is the new class, and using it emits a
`DeprecationWarning`.
"""

from __future__ import annotations

from dlild_client.contract.errors import ContractError as ContractError  # noqa: PLC0414
from dlild_client.contract.errors import DlildError as DlildError  # noqa: PLC0414
from dlild_client.contract.errors import InputError as InputError  # noqa: PLC0414
from dlild_client.contract.errors import TooLargeError as TooLargeError  # noqa: PLC0414
from dlild_client.contract.errors import printable as printable  # noqa: PLC0414


class BadSettingsError(DlildError, ValueError):
    """An argument, an option or a `DLILD_*` variable is wrong; nothing was sent."""

    exit_code = 2


class BadAddressError(BadSettingsError):
    """The server's address is malformed."""


class ConnectionFailedError(DlildError):
    """No server answers at this address, or the connection broke."""

    retryable = True


class TLSFailedError(ConnectionFailedError):
    """The TLS handshake failed: certificates, names, or no TLS on one side."""

    retryable = False


class TimedOutError(DlildError):
    """No answer within the time limit."""

    retryable = True


class BusyError(DlildError):
    """The server is at its limit of open scans.

    Attributes
    ----------
    retry_after_s : float or None
        When the server expects to take the scan; None where it does not say.
    """

    retryable = True

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class RefusedError(DlildError):
    """The server refused the request; sending the same again will not help."""


class KeyRefusedError(RefusedError):
    """The API key is missing or wrong."""


class ServerError(DlildError):
    """The server failed, or its answers are inconsistent."""

    kind = "ServerError"


class NotReadyError(ServerError):
    """The server is starting or stopping: its model takes no scans now."""

    retryable = True


class ModelNotFoundError(NotReadyError):
    """The server answers, but has no such model: it is still starting, or is another server."""


class ScanLostError(ServerError):
    """The server dropped the scan before its end."""

    retryable = True


class CancelledError(DlildError):
    """The caller cancelled the scan with a `CancelToken`; the server was notified."""

    exit_code = 130


class WorkerLostError(DlildError):
    """A scan took down every Dask worker that tried it: most likely their memory is too small."""


class UnreadableFileError(InputError):
    """No such path, not an image, or it cannot be decoded."""


class NoSeriesError(InputError):
    """A folder without any image series."""


class SeveralStudiesError(InputError):
    """More than one study could be meant."""


class NotCTError(InputError):
    """Another modality, a localizer, a capture or a reformat."""


class NotHUError(InputError):
    """Grey values that cannot be converted to HU."""


class NotChestError(InputError):
    """No lungs, or hardly any."""


class TooFewSlicesError(InputError):
    """Not enough slices or coverage for a pair of lungs."""


class NotComparableError(InputError):
    """Results of different models or weights, or of one scan given twice."""


class GeometryError(InputError):
    """The slices do not form a volume."""

    kind = "GeometryError"


class MissingGeometryError(GeometryError):
    """No position, orientation or pixel spacing."""


class MixedOrientationError(GeometryError):
    """Slices of different orientation."""


class MixedShapeError(GeometryError):
    """Slices of different size or pixel spacing."""


class RepeatedPositionError(GeometryError):
    """Different images at one position."""


class MissingSlicesError(GeometryError):
    """A gap as wide as one or more slices."""


class IrregularSpacingError(GeometryError):
    """Steps between slices that differ without a slice being missing."""
