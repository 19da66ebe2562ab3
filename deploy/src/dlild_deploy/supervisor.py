"""Programs that end with whoever started them."""

import os
import shutil
from collections.abc import Sequence

from preflight import LauncherError


def tied(command: Sequence[str]) -> list[str]:
    """Have Linux send a program SIGTERM when its parent ends, also when that is killed.

    Parameters
    ----------
    command : sequence of str
        Program and arguments.

    Returns
    -------
    list of str
        What to start in its place: util-linux's ``setpriv``, which becomes the program.

    Raises
    ------
    LauncherError
        There is no ``setpriv``.

    Notes
    -----
    Linux takes the thread for the parent. ``subprocess`` could ask for the signal itself, by a
    ``preexec_fn``; then it runs the fork handlers of every library, and gRPC's have aborted a
    process with many open channels.
    """
    setpriv = shutil.which("setpriv", path=f"{os.environ.get('PATH', '')}{os.pathsep}/usr/bin")
    if setpriv is None:
        raise LauncherError("setpriv is not installed: apt-get install util-linux")
    return [setpriv, "--pdeathsig", "TERM", "--", *command]
