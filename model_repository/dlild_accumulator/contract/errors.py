"""Errors of the contract. The whole tree of the client's errors is in `dlild_client.errors`."""

from __future__ import annotations

from typing import ClassVar


def printable(text: str) -> str:
    r"""Return a text that every encoding of Unicode can carry.

    Bytes of a file's name that are not UTF-8 come from the system as lone surrogates, which no
    file, JSON or terminal takes.

    Examples
    --------
    >>> print(printable(b"Pr\xe9s.nii".decode("utf-8", "surrogateescape")))
    Pr\xe9s.nii
    """
    shown = (f"\\x{ord(c) - 0xDC00:02x}" if "\udc80" <= c <= "\udcff" else c for c in text)
    return "".join(shown).encode("utf-8", "backslashreplace").decode("utf-8")


class DlildError(Exception):
    """Root of the tree.

    Attributes
    ----------
    exit_code : int
        What the command `dlild` exits with.
    retryable : bool
        True where sending the same scan again, under a new id, may help.
    """

    exit_code: ClassVar[int] = 1
    retryable: ClassVar[bool] = False

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(printable(message).split()))


class ContractError(DlildError):
    """The server's contract is not one that this client understands."""


class InputError(DlildError):
    """The scan cannot be scored."""

    exit_code = 3


class TooLarge(InputError):  # noqa: N818 - as its siblings in `dlild_client.errors`
    """More voxels or windows than the server accepts.

    Attributes
    ----------
    excess : str
        How many there are, and the limit.
    """

    def __init__(self, message: str, excess: str = "") -> None:
        super().__init__(message)
        self.excess = excess
