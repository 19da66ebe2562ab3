"""Child processes of operations: started, watched, and stopped with everything that they started.

tritonserver, HAProxy and a cluster of both run under this module. A child gets a process group, a
log file and a private folder of its own; Linux sends it SIGTERM when its parent ends, however that
ends (the parent-death signal, PDEATHSIG).
"""

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import NoReturn

from dlild_deploy.errors import LauncherError

POLL_S = 0.5


class SupervisedProcess:
    """One program, from `start` to `stop`.

    Parameters
    ----------
    name : str
        What messages call it, such as ``the server``.
    prefix : str
        Of the private folder's name.
    stop_timeout_s : float
        Seconds between SIGTERM and SIGKILL.
    log_path : Path, optional
        Where its output goes; by default into the private folder, with which it is removed.

    Attributes
    ----------
    folder : Path or None
        The private folder, between `make_folder` and `stop`.
    """

    def __init__(
        self, name: str, *, prefix: str, stop_timeout_s: float, log_path: Path | None = None
    ) -> None:
        self.name = name
        self.log_path = log_path
        self.folder: Path | None = None
        self._prefix = prefix
        self._stop_timeout_s = stop_timeout_s
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """Process id while it runs."""
        return self._process.pid if self._process is not None else None

    def make_folder(self) -> Path:
        """Make the private folder, before the start, for what the program is to find there."""
        self.folder = Path(tempfile.mkdtemp(prefix=self._prefix))
        return self.folder

    def start(
        self,
        command: Sequence[str],
        variables: Mapping[str, str],
        inherited: Sequence[int] = (),
    ) -> None:
        """Start the program in a process group of its own.

        Parameters
        ----------
        command : sequence of str
        variables : mapping of str to str
            Its whole environment.
        inherited : sequence of int, optional
            File descriptors that it and its own children keep open.

        Raises
        ------
        LauncherError
            There is no ``setpriv``.
        """
        assert self.folder is not None, "make_folder comes first"
        if self.log_path is None:
            self.log_path = self.folder / "log"
        self.log_path.parent.mkdir(parents=True, exist_ok=True)
        with self.log_path.open("wb") as log:
            self._process = subprocess.Popen(
                with_parent_death_signal(command),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=variables,
                pass_fds=tuple(inherited),
                # Ctrl-C in a terminal must not reach the child: its parent stops it in order.
                start_new_session=True,
            )

    def stop(self) -> None:
        """Stop the program and remove its folder. May be called twice, and before a start."""
        process = self._process
        try:
            if process is not None and process.poll() is None:
                process.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(self._stop_timeout_s)
        finally:
            if process is not None:
                # What the program started is in its group as well, whatever became of itself.
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            self._process = None
            self._remove_folder()

    def send_signal(self, number: int) -> None:
        """Send the program, not its group, a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    def check_alive(self, details: Callable[[], str]) -> None:
        """Raise when the program has ended.

        Parameters
        ----------
        details : callable
            Returns what the log says, to follow the message.

        Raises
        ------
        LauncherError
        """
        if self._process is None or self._process.poll() is not None:
            code = None if self._process is None else self._process.returncode
            raise LauncherError(f"{self.name} ended with code {code}{details()}")

    def wait_until(
        self,
        ready: Callable[[], bool],
        timeout_s: float,
        pause_s: float,
        details: Callable[[], str],
    ) -> None:
        """Ask until the program is ready.

        Parameters
        ----------
        ready : callable
            Asks the program; an OSError counts as no.
        timeout_s, pause_s : float
            Seconds to wait at most, and between two questions.
        details : callable
            As in `check_alive`.

        Raises
        ------
        LauncherError
            It has ended, or the time is over.
        """
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            self.check_alive(details)
            with contextlib.suppress(OSError):
                if ready():
                    return
            time.sleep(pause_s)
        raise LauncherError(f"{self.name} was not ready after {timeout_s:g} s{details()}")

    def log_lines(self) -> list[str]:
        """Return the lines of the log; none where there is no log."""
        if self.log_path is None or not self.log_path.is_file():
            return []
        return self.log_path.read_text("utf-8", errors="replace").splitlines()

    def _remove_folder(self) -> None:
        if self.folder is not None:
            if self.log_path is not None and self.log_path.is_relative_to(self.folder):
                self.log_path = None
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder = None


def with_parent_death_signal(command: Sequence[str]) -> list[str]:
    """Have Linux send a program SIGTERM when its parent ends, also when that is killed.

    Parameters
    ----------
    command : sequence of str
        Program and arguments.

    Returns
    -------
    list of str
        What to start instead: util-linux's ``setpriv``, which becomes the program.

    Raises
    ------
    LauncherError
        There is no ``setpriv``.

    Notes
    -----
    Linux counts the thread, not the process, as the parent. ``subprocess`` could ask for the signal
    itself, by a ``preexec_fn``; then it runs the fork handlers of every library, and gRPC's have
    aborted a process with many open channels.
    """
    setpriv = shutil.which("setpriv", path=f"{os.environ.get('PATH', '')}{os.pathsep}/usr/bin")
    if setpriv is None:
        raise LauncherError("setpriv is not installed: apt-get install util-linux")
    return [setpriv, "--pdeathsig", "TERM", "--", *command]


class Stopped(BaseException):
    """A signal asked to stop. Not an Exception: nothing on the way may swallow it."""


def run_until_stopped(check: Callable[[], None]) -> NoReturn:
    """Check again and again that everything runs, until a signal asks to stop.

    Parameters
    ----------
    check : callable
        Raises what ends the run.

    Raises
    ------
    Stopped
        By Ctrl-C or SIGTERM, after `stop_on_signals`.
    """
    while True:
        check()
        time.sleep(POLL_S)


def stop_on_signals() -> None:
    """Have Ctrl-C and SIGTERM raise ``Stopped`` in the main thread, once."""
    for kind in (signal.SIGINT, signal.SIGTERM):
        signal.signal(kind, _stop)


def _stop(number: int, frame: FrameType | None) -> NoReturn:  # noqa: ARG001
    # The first signal is enough: a second one must not interrupt the stopping.
    for kind in (signal.SIGINT, signal.SIGTERM):
        signal.signal(kind, signal.SIG_IGN)
    raise Stopped
