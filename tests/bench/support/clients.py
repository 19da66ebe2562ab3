"""Many clients in a process of their own, each scoring one scan after the other until it is killed.

`python -m bench.support.clients URL VOLUME.npz COUNT` prints a line a scan, with the time: `done`,
or the kind of the error; and `sent` for the first window of each client.
"""

from __future__ import annotations

import sys
import threading
import time

import numpy as np

from dlild_client import Client
from dlild_client.errors import DlildError
from dlild_client.volume import Volume


def main(url: str, path: str, count: str) -> None:
    """Score until the process ends."""
    with np.load(path) as stored:
        volume = Volume(stored["hu"], tuple(stored["spacing_mm"]))
    threads = [threading.Thread(target=_score, args=(url, volume)) for _ in range(int(count))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _score(url: str, volume: Volume) -> None:
    is_first = True

    def report(stage: str, _done: int, _whole: int) -> None:
        nonlocal is_first
        if is_first and stage == "inference":
            is_first = False
            _say("sent")

    with Client(url) as client:
        while True:
            try:
                client.score(volume, report)
                _say("done")
            except DlildError as error:
                _say(error.kind)


def _say(what: str) -> None:
    sys.stdout.write(f"{time.monotonic():.3f} {what}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
