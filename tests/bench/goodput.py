"""`make goodput`: scans that are finished a minute, at 1 to 32 times what the server can do.

The clients are our own, each scoring one scan after the other; twice as many as the server has
networks keep it busy, and up to 32 times as many ask. They are killed then, and the server must be
idle within the time of one window. All of it again with a network that is ten times as slow.

Writes OUT/bench.json and a table of docs/performance.md.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from urllib.request import urlopen

import numpy as np
from bench.report import publish, store, table, verdict
from bench.support.scan import ROOT
from bench.support.small import SmallScan, small_repository, small_scans

from dlild_client.contract import parse_contract
from dlild_deploy.server import EmbeddedServer

TIMES = (1, 2, 4, 8, 16, 32)
CLIENTS = 2
"""What keeps a server with one network busy: one scan in the network, one on its way."""
SLOWER = 10
KEPT = 0.9
RAMP_SHARE = 0.25
A_PROCESS = 16
START_S = 300.0
STEP_S = 0.02
ROUNDS = 3
SLOW_MODEL = """\
import time

from serve_unet import TritonPythonModel as Fast


class TritonPythonModel(Fast):
    def execute(self, requests):
        started = time.perf_counter()
        answers = super().execute(requests)
        time.sleep({more} * (time.perf_counter() - started))
        return answers
"""

FIXED_MODEL = """\
import time

import numpy as np
import triton_python_backend_utils as pb_utils

from contract import parse_contract


class TritonPythonModel:
    def initialize(self, args):
        import json
        parameters = json.loads(args["model_config"])["parameters"]
        self.classes = len(parse_contract(parameters["contract"]["string_value"]).classes)

    def execute(self, requests):
        return [self.respond(request) for request in requests]

    def respond(self, request):
        window = pb_utils.get_input_tensor_by_name(request, "window").as_numpy()
        lung = np.zeros((1, self.classes, *window.shape[2:]), np.float16)
        lung[:, 1] = 1
        time.sleep({seconds})
        name = np.array([["none"]], dtype=np.object_)
        tensors = [pb_utils.Tensor("probabilities", lung), pb_utils.Tensor("engine", name)]
        return pb_utils.InferenceResponse(output_tensors=tensors)
"""


@dataclass
class Level:
    """What was seen at one number of clients.

    Attributes
    ----------
    scans_a_minute : float
        Finished, after the ramp.
    useful : float
        Windows of finished scans, as a share of those that the network computed.
    window_s : float
        Seconds of the network a window.
    idle_s : float
        From the death of all clients to the end of the last window.
    errors : Counter
        Scans that clients gave up, by kind.
    """

    scans_a_minute: float
    useful: float
    window_s: float
    idle_s: float
    errors: Counter[str]


def main(arguments: list[str] | None = None) -> int:
    """Measure and return the exit code: 1 where a target is missed."""
    parser = argparse.ArgumentParser(description="Scans finished a minute under any load.")
    parser.add_argument("--out", type=Path, default=Path("out"))
    parser.add_argument("--seconds", type=float, default=30.0, help="a level")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument(
        "--fixed",
        type=float,
        help="seconds a window of a network that computes nothing: for a machine with other work",
    )
    options = parser.parse_args(arguments)
    figures: dict[str, Any] = {}
    text, kept = "", []
    with tempfile.TemporaryDirectory(prefix="dlild-goodput-") as place:
        repository = small_repository(Path(place))
        contract = parse_contract((repository / "contract.json").read_text("utf-8"))
        (scan, *_) = small_scans(2, contract)
        stored = Path(place) / "volume.npz"
        np.savez(stored, hu=scan.volume.array, spacing_mm=scan.volume.spacing_mm)
        model = repository / "ild_unet" / str(contract.model.version) / "model.py"
        for name, text_of_model, longer in _networks(options.fixed):
            if text_of_model:
                model.write_text(text_of_model, "utf-8")
            with EmbeddedServer(repository, grpc_port=0, http_port=0, metrics_port=0) as server:
                seconds, rounds = options.seconds * longer, max(1, options.rounds // longer)
                levels = _measure(server, scan, stored, seconds, rounds)
            figures[name] = {times: [vars(one) for one in found] for times, found in levels.items()}
            kept.append(min(_kept(levels).values()))
            text += f"The network {name}:\n\n{_table(levels)}\n"
    path = store(options.out, "goodput", figures)
    publish("goodput", text)
    print(f"\n{text}\nwritten: {path}, docs/performance.md")
    return 0 if min(kept) >= KEPT else 1


def _networks(fixed_s: float | None) -> list[tuple[str, str, int]]:
    """Name each network, with its code where it is not the served one, and how long to measure."""
    if fixed_s is not None:
        text = FIXED_MODEL.format(seconds=fixed_s)
        return [(f"computes nothing and takes {fixed_s:g} s a window", text, 1)]
    slow = SLOW_MODEL.format(more=SLOWER - 1)
    return [("is as it is", "", 1), (f"is {SLOWER} times as slow", slow, ROUNDS)]


def _measure(
    server: EmbeddedServer, scan: SmallScan, stored: Path, seconds: float, rounds: int
) -> dict[int, list[Level]]:
    """Measure all levels, round by round: the pace of a machine changes from minute to minute."""
    levels: dict[int, list[Level]] = {times: [] for times in TIMES}
    _load(server, scan, stored, CLIENTS, 5.0)  # the first scans of a server are slower
    for _ in range(rounds):
        for times, found in levels.items():
            found.append(_load(server, scan, stored, CLIENTS * times, seconds))
            print(f"{times:3d} x: {found[-1]}", file=sys.stderr, flush=True)
    return levels


def _load(
    server: EmbeddedServer, scan: SmallScan, stored: Path, clients: int, seconds: float
) -> Level:
    """Let so many clients score, kill them, and wait until the server is idle."""
    counts = [min(A_PROCESS, clients - first) for first in range(0, clients, A_PROCESS)]
    with contextlib.ExitStack() as files:
        outputs = [files.enter_context(tempfile.TemporaryFile("w+")) for _ in counts]
        return _watched(server, scan, stored, counts, outputs, seconds)


def _watched(
    server: EmbeddedServer,
    scan: SmallScan,
    stored: Path,
    counts: Sequence[int],
    outputs: Sequence[IO[str]],
    seconds: float,
) -> Level:
    started = time.monotonic()
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "bench.support.clients", server.grpc_url, str(stored), str(n)],
            stdout=output,
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "GRPC_VERBOSITY": "NONE"},
        )
        for n, output in zip(counts, outputs, strict=True)
    ]
    try:
        # Only when every client has prepared its first scan does the machine do what is measured.
        while sum("sent" in line for output in outputs for line in _lines(output)) < sum(counts):
            assert time.monotonic() < started + START_S, "the clients do not start"
            time.sleep(0.2)
        first = time.monotonic() + RAMP_SHARE * seconds
        time.sleep(first - time.monotonic())
        before = _network(server)
        last = first + seconds
        time.sleep(max(0.0, last - time.monotonic()))
        windows, network_s = (b - a for a, b in zip(before, _network(server), strict=True))
    finally:
        for process in processes:
            process.send_signal(signal.SIGKILL)
        for process in processes:
            process.wait()
        killed = time.monotonic()
    window_s = network_s / max(windows, 1)
    idle_s = _wait_until_idle(server, killed, window_s)
    said = [line.split() for output in outputs for line in _lines(output)]
    during = Counter(kind for when, kind in said if first <= float(when) < last)
    during.pop("sent", None)
    done = during.pop("done", 0)
    useful = done * len(scan.prepared.plan.origins) / max(windows, 1)
    return Level(60 * done / seconds, useful, window_s, idle_s, during)


def _lines(output: IO[str]) -> list[str]:
    # Another process writes at the same place: read by a handle of its own.
    text = Path(f"/proc/self/fd/{output.fileno()}").read_text()
    # The last line of a process that was killed may be half a line.
    return [line for line in text.split("\n")[:-1] if line.count(" ") == 1]


def _network(server: EmbeddedServer) -> tuple[float, float]:
    """Windows that the network has computed, and its seconds."""
    with urlopen(server.metrics_url, timeout=30) as answer:
        text = answer.read().decode()
    found = [
        re.findall(rf'^{name}{{[^}}]*model="ild_unet"[^}}]*}} (\S+)', text, re.MULTILINE)
        for name in ("nv_inference_request_success", "nv_inference_compute_infer_duration_us")
    ]
    windows, microseconds = (sum(map(float, values)) for values in found)
    return windows, microseconds / 1e6


def _wait_until_idle(server: EmbeddedServer, killed: float, window_s: float) -> float:
    """Return the seconds from the death of the clients to the end of the last window."""
    last, changed = _network(server)[0], killed
    quiet_s = max(1.0, 3 * window_s)
    while time.monotonic() - max(changed, killed) < quiet_s:
        time.sleep(STEP_S)
        now = _network(server)[0]
        if now != last:
            last, changed = now, time.monotonic()
    return max(0.0, changed - killed)


def _kept(levels: dict[int, list[Level]]) -> dict[int, float]:
    """Scans a minute, as a share of the best of the same round: the median over the rounds."""
    rounds = list(zip(*levels.values(), strict=True))
    best = [max(level.scans_a_minute for level in one) for one in rounds]
    return {
        times: statistics.median(
            level.scans_a_minute / most for level, most in zip(found, best, strict=True)
        )
        for times, found in levels.items()
    }


def _table(levels: dict[int, list[Level]]) -> str:
    kept = _kept(levels)
    rows = [
        (
            f"{times}x",
            CLIENTS * times,
            f"{statistics.median(one.scans_a_minute for one in found):.1f}",
            f"{kept[times]:.2f}",
            f"{statistics.median(one.useful for one in found):.2f}",
            f"{statistics.median(one.window_s for one in found):.2f}",
            f"{max(one.idle_s for one in found):.2f}",
            ", ".join(
                f"{n} {kind}" for kind, n in sum((o.errors for o in found), Counter()).items()
            )
            or "none",
        )
        for times, found in levels.items()
    ]
    heads = (
        "load",
        "clients",
        "scans a minute",
        "of the best",
        "windows of finished scans, of all",
        "s a window",
        "s until idle, at most",
        "given up",
    )
    least = min(kept.values())
    return (
        table(heads, rows)
        + f"\nThe least is {least:.2f} of the best ({verdict(least, KEPT, at_most=False)}).\n"
    )


if __name__ == "__main__":
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    sys.exit(main())
