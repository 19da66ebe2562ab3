"""Every error that this package raises on purpose, in one tree.

::

    DlildError                  something stands between the scan and its score   exit 1
    ├── BadSettings             an argument or a DLILD_* variable is wrong        exit 2
    │   └── BadAddress          the address is not one at all
    ├── ConnectionFailed        nobody answers here, or the line broke            retryable
    │   └── TLSFailed           the two sides do not trust or understand each other
    ├── TimedOut                the server is silent for too long                 retryable
    ├── Busy                    the server holds as many scans as it may          retryable
    ├── Refused                 the server refuses what was sent
    │   └── KeyRefused          the API key is missing or wrong
    ├── ContractError           the server speaks another contract than this client
    ├── ServerError             the server failed, or its answers do not add up
    │   ├── NotReady            the server starts or stops                        retryable
    │   │   └── ModelNotFound       it has no such model: it starts, or is another    retryable
    │   └── ScanLost            the server dropped the scan before its end        retryable
    ├── Cancelled               the caller stopped the scan                       exit 130
    └── InputError              the scan cannot be scored                         exit 3
        ├── UnreadableFile      no such path, not an image, or it cannot be decoded
        ├── NoSeries            a folder without any image series
        ├── SeveralStudies      more than one study could be meant
        ├── NotCT               another modality, a localizer, a capture, a reformat
        ├── NotHU               grey values that cannot be turned into HU
        ├── NotChest            no lungs, or hardly any
        ├── TooFewSlices        not enough slices or coverage for a pair of lungs
        ├── TooLarge            more voxels or windows than the server accepts
        └── GeometryError       the slices do not add up to a volume
            ├── MissingGeometry     no position, orientation or pixel spacing
            ├── MixedOrientation    slices that look in different directions
            ├── MixedShape          slices of different size or pixel spacing
            ├── RepeatedPosition    different images at one position
            ├── MissingSlices       a gap as wide as one or more slices
            └── IrregularSpacing    steps that differ for another reason

A message is one line that says what is wrong, where, with which value, and what to do. It may name
the base name of a file, never a folder, a patient or an identifier of one.
"""

# ruff: noqa: N818, PLC0414  (the names read as what happened; the tree says that they are errors)

from __future__ import annotations

from dlild_client.contract.errors import ContractError as ContractError
from dlild_client.contract.errors import DlildError as DlildError
from dlild_client.contract.errors import InputError as InputError
from dlild_client.contract.errors import TooLarge as TooLarge
from dlild_client.contract.errors import printable as printable


class BadSettings(DlildError, ValueError):
    """An argument, an option or a `DLILD_*` variable is wrong; nothing was sent."""

    exit_code = 2


class BadAddress(BadSettings):
    """The address is not one at all."""


class ConnectionFailed(DlildError):
    """Nobody answers at this address, or the line broke."""

    retryable = True


class TLSFailed(ConnectionFailed):
    """The two sides do not trust or understand each other: certificates, names, or no TLS."""

    retryable = False


class TimedOut(DlildError):
    """The server is silent for too long."""

    retryable = True


class Busy(DlildError):
    """The server holds as many open scans as it may."""

    retryable = True


class Refused(DlildError):
    """The server refuses what was sent; sending the same again will not help."""


class KeyRefused(Refused):
    """The API key is missing or wrong."""


class ServerError(DlildError):
    """The server failed, or its answers do not add up."""


class NotReady(ServerError):
    """The server starts or stops: its model takes no scans now."""

    retryable = True


class ModelNotFound(NotReady):
    """The server answers, but knows no such model: it still starts, or it is another server."""


class ScanLost(ServerError):
    """The server dropped the scan before its end."""

    retryable = True


class Cancelled(DlildError):
    """The caller stopped the scan through a `CancelToken`; the server was told."""

    exit_code = 130


class UnreadableFile(InputError):
    """No such path, not an image, or it cannot be decoded."""


class NoSeries(InputError):
    """A folder without any image series."""


class SeveralStudies(InputError):
    """More than one study could be meant."""


class NotCT(InputError):
    """Another modality, a localizer, a capture or a reformat."""


class NotHU(InputError):
    """Grey values that cannot be turned into HU."""


class NotChest(InputError):
    """No lungs, or hardly any."""


class TooFewSlices(InputError):
    """Not enough slices or coverage for a pair of lungs."""


class GeometryError(InputError):
    """The slices do not add up to a volume."""


class MissingGeometry(GeometryError):
    """No position, orientation or pixel spacing."""


class MixedOrientation(GeometryError):
    """Slices that look in different directions."""


class MixedShape(GeometryError):
    """Slices of different size or pixel spacing."""


class RepeatedPosition(GeometryError):
    """Different images at one position."""


class MissingSlices(GeometryError):
    """A gap as wide as one or more slices."""


class IrregularSpacing(GeometryError):
    """Steps between slices that differ without a slice being missing."""
