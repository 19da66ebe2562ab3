"""What a server answers instead of a score: the codes that docs/wire.md promises."""

from __future__ import annotations

from typing import ClassVar


class ScanError(Exception):
    """The scan ends here. The message begins with the code of its kind and a colon.

    - ``BusyError``: too many scans are open; send it again later, under a new id.
    - ``GoneError``: the server does not hold this scan; send it again from its start.
    - ``RefusedError``: the request is wrong; the same again will not help.
    - ``IncompleteError``: the scan ended without all its windows; send it again, under a new id.
    - ``CancelledError``: the client went away.
    - ``FailedError``: a fault of the server; its log says why.
    """

    code: ClassVar[str]

    def __str__(self) -> str:
        """Return the message behind its code."""
        return f"{self.code}: {super().__str__()}"


class BusyError(ScanError):
    """Too many scans, or too many bytes of scans, are open."""

    code = "BUSY"


class GoneError(ScanError):
    """The scan was never started here, has ended, was refused, or was silent for too long."""

    code = "GONE"


class RefusedError(ScanError):
    """The request breaks the wire's rules."""

    code = "REFUSED"


class IncompleteError(ScanError):
    """The scan ended while windows were missing."""

    code = "INCOMPLETE"


class CancelledError(ScanError):
    """The client cancelled its request, or its connection broke."""

    code = "CANCELLED"


class FailedError(ScanError):
    """A fault of the server itself."""

    code = "FAILED"
