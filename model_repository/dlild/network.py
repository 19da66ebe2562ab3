"""What the network's failures mean for the scan whose window it was."""

import re

from contract.refusals import (
    BusyError,
    CancelledError,
    FailedError,
    GoneError,
    IncompleteError,
    RefusedError,
    ScanError,
)

_KINDS = {
    kind.code: kind
    for kind in (
        BusyError,
        CancelledError,
        FailedError,
        GoneError,
        IncompleteError,
        RefusedError,
    )
}
_PREFIX = re.compile(rf"\b({'|'.join(_KINDS)}): (.*)", flags=re.DOTALL)
# What Triton says of a queue that is full, or in which a window has waited for too long.
_FULL = ("maximum queue size", "timeout expired")
# What it says while it stops, and of a model whose process has ended and is started again.
_AWAY = ("not ready", "stopping", "exiting", "unloaded", "not healthy", "no available versions")


def network_error(message: str) -> ScanError:
    """Return the refusal for a window that the network did not compute.

    Parameters
    ----------
    message : str
        Of Triton, or of `ild_unet`, whose own refusals begin with a code.

    Returns
    -------
    ScanError
    """
    if found := _PREFIX.search(message):
        return _KINDS[found.group(1)](found.group(2))
    words = message.lower()
    if any(said in words for said in _FULL):
        return BusyError("the queue of the network is full; send it again later")
    if any(said in words for said in _AWAY):
        return GoneError("the network is stopping or starting; send the scan again from its start")
    return FailedError("the network failed, see the server's log")
