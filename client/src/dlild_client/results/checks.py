"""What `dlild verify` reports: one `Check` for each thing that was compared."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Check:
    """What was compared, whether it agrees, and what was found; None: it could not be compared."""

    what: str
    agrees: bool | None
    found: str


def same(what: str, expected: str, found: str) -> Check:
    """Compare two digests."""
    agrees = expected == found
    return Check(what, agrees, found[:19] if agrees else f"{found[:19]}, not {expected[:19]}")


def refers(what: str, agrees: bool) -> Check:
    """Report whether an object names the result that it lies beside."""
    return Check(what, agrees, "refers to it" if agrees else "is of another")
