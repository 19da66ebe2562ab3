"""What the server says instead of a score: the prefixes that docs/wire.md promises."""

from typing import ClassVar


class ScanError(Exception):
    """A scan ends here. The message begins with the prefix of its kind.

    - ``BusyError``: too many scans are open; send it again later, under a new id.
    - ``GoneError``: the server does not hold this scan; send it again from its start.
    - ``RefusedError``: the request is wrong; the same again will not help.
    - ``IncompleteError``: the scan ended without all its windows; send it again, under a new id.
    """

    prefix: ClassVar[str]

    def __str__(self) -> str:
        """Return the message with its prefix."""
        return f"{self.prefix}: {super().__str__()}"


class BusyError(ScanError):
    """Too many scans, or too many bytes of scans, are open."""

    prefix = "BUSY"


class GoneError(ScanError):
    """The scan was never started here, has ended, was refused, or was silent for too long."""

    prefix = "GONE"


class RefusedError(ScanError):
    """The request breaks the wire's rules."""

    prefix = "REFUSED"


class IncompleteError(ScanError):
    """The scan ended while windows were missing."""

    prefix = "INCOMPLETE"
