"""Errors of the contract. The whole tree of the client's errors is in `dlild_client.errors`."""

from __future__ import annotations

from typing import Any, ClassVar


def printable(text: str) -> str:
    r"""Escape what UTF-8 cannot encode.

    Bytes of a file name that are not UTF-8 reach Python as lone surrogates, which no file, JSON or
    terminal accepts.

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
    kind : str
        Name of the class in `results.csv` and in JSON.
    exit_code : int
        Exit code of the command `dlild`.
    retryable : bool
        True where sending the same scan again, under a new id, may succeed.
    """

    kind: ClassVar[str] = "DlildError"
    exit_code: ClassVar[int] = 1
    retryable: ClassVar[bool] = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Derive `kind` from the class name, unless the class states its own."""
        super().__init_subclass__(**kwargs)
        if "kind" not in vars(cls):
            cls.kind = cls.__name__.removesuffix("Error")

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(printable(message).split()))


class ContractError(DlildError):
    """The server's contract is not one that this client supports."""

    kind = "ContractError"


class InputError(DlildError):
    """The scan cannot be scored."""

    kind = "InputError"
    exit_code = 3


class TooLargeError(InputError):
    """More voxels or windows than the server accepts.

    Attributes
    ----------
    excess : str
        How many there are, and the limit.
    """

    def __init__(self, message: str, excess: str = "") -> None:
        super().__init__(message)
        self.excess = excess
