"""The product of an earlier checkout, in a process of its own: what has become faster since?

Both are measured in one run, in turns, so that the machine's pace hits both alike.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from dlild_deploy.server.preflight import default_server_python

PACKAGES = ("client", "export", "analysis", "deploy")
# Names that every version of the packages has had.
SCRIPT = """
import sys
from pathlib import Path
import dlild_client
from dlild_client import Client
from dlild_client.reading.read import read_volume
from dlild_deploy.server import EmbeddedServer

if Path(sys.argv[2]) not in Path(dlild_client.__file__).parents:
    sys.exit(f"{dlild_client.__file__} is not of that checkout")
volume = read_volume(Path(sys.argv[1]))
with (
    EmbeddedServer(grpc_port=0, http_port=0, metrics_port=0) as server,
    Client(server.grpc_url) as client,
):
    print("ready", flush=True)
    for _ in sys.stdin:
        print(client.score(volume).dl_ild_percent, flush=True)
"""


class EarlierCheckoutError(Exception):
    """The product of the earlier checkout did not start, or did not answer."""


@contextmanager
def earlier_product(checkout: Path, folder: Path) -> Iterator[Callable[[], float]]:
    """Serve an earlier checkout with the environments of this one.

    Parameters
    ----------
    checkout : Path
        A checkout of this project, such as ``git worktree add`` makes.
    folder : Path
        DICOM series to score.

    Yields
    ------
    callable
        In-memory volume to result, once; returns DL-ILD in percent.

    Raises
    ------
    EarlierCheckoutError
        The process ended; what it wrote to standard error is shown above.
    """
    checkout = checkout.resolve()
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(str(checkout / name / "src") for name in PACKAGES),
        "DLILD_SERVER_PYTHON": str(default_server_python()),
    }
    child = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, folder, checkout],
        cwd=checkout,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdin is not None
    assert child.stdout is not None
    asked, answers = child.stdin, child.stdout

    def read() -> str:
        line = answers.readline()
        if not line:
            raise EarlierCheckoutError(
                f"{checkout}: its product ended with code {child.wait()}; see above"
            )
        return line

    def run() -> float:
        asked.write("score\n")
        asked.flush()
        return float(read())

    try:
        read()
        yield run
    finally:
        asked.close()
        child.wait()
