#!/usr/bin/env python3
"""Probes of the container: ``ready``, ``live``, ``drain`` and ``remote``.

The image carries this file as ``/opt/dlild/probe.py``: it imports nothing of ours, and needs the
standard library only (``remote`` also curl), which the official Triton image has.

- ``ready`` and ``live`` ask Triton's health over loopback (``HEALTHCHECK``). ``ready`` also has the
  server score a dummy box once after its start: the first whole chest makes the models allocate
  their memory, which would cost the first patient's scan up to twice its time.
- ``drain`` waits until no scan is open, or its time is over: the hook before a stop. A server that
  is told to stop takes no further window, so a scan that is open then must be sent again.
- ``remote`` asks a server for its readiness as a client does, over gRPC and TLS (``helm test``).
"""

import argparse
import json
import os
import struct
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

HOST = "127.0.0.1"
OPEN_SCANS = "dlild_open_scans"
# A scan may begin between two requests: only two answers of 0 in a row count.
QUIET_ANSWERS = 2
MODEL = "dlild"
DUMMY_HU = -850.0
# The entrypoint locks Triton's HTTP port with a random word, and leaves it here for the dummy box.
LOCK_HEADER = "x-dlild-lock"
LOCK_FILE, WARM_FILE = "dlild-lock", "dlild-warm"
# ServerReady of Triton's gRPC: an empty message each way, framed, and the answer true.
READY_CALL = "/inference.GRPCInferenceService/ServerReady"
EMPTY_FRAME = bytes(5)
TRUE_ANSWER = bytes.fromhex("000000000208 01")


class ProbeError(Exception):
    """The answer is no, with the reason in one line."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one question.

    Parameters
    ----------
    arguments : sequence of str, optional
        The command line without the program's name; ``sys.argv`` when left out.

    Returns
    -------
    int
        0 for yes, 1 for no.
    """
    options = _parser().parse_args(arguments)
    try:
        options.ask(options)
    except ProbeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def ask_live(options: argparse.Namespace) -> None:
    """Ask Triton over HTTP whether it is alive.

    Parameters
    ----------
    options : argparse.Namespace
        ``timeout``.

    Raises
    ------
    ProbeError
        It does not answer, or says no.
    """
    _read(f"{_http_url()}/v2/health/live", options.timeout)


def ask_ready(options: argparse.Namespace) -> None:
    """Ask Triton over HTTP whether it is ready; have it score the dummy box the first time.

    Parameters
    ----------
    options : argparse.Namespace
        ``timeout`` of a request, ``warm_timeout`` of the dummy box.

    Raises
    ------
    ProbeError
        It does not answer, says no, or cannot score.
    """
    _read(f"{_http_url()}/v2/health/ready", options.timeout)
    state = Path(os.environ.get("DLILD_STATE_FOLDER", "/tmp"))  # noqa: S108 - the image's only one
    lock, warm = state / LOCK_FILE, state / WARM_FILE
    # Without the entrypoint there is no lock, and nothing is known of a start.
    if lock.is_file() and not warm.exists():
        warm_up(_http_url(), options.warm_timeout, {LOCK_HEADER: lock.read_text().strip()})
        warm.touch()


def warm_up(url: str, timeout_s: float, headers: Mapping[str, str] | None = None) -> None:
    """Have a server score a box of healthy lung in two of the largest windows.

    Parameters
    ----------
    url : str
        Triton's HTTP address, such as ``http://127.0.0.1:8000``.
    timeout_s : float
        Seconds for each request.
    headers : mapping of str to str, optional
        What opens the port.

    Raises
    ------
    ProbeError
        The server cannot score. One that is busy with clients' scans is warm.
    """
    config = json.loads(_send(f"{url}/v2/models/{MODEL}/config", timeout_s, headers or {}))
    contract = json.loads(config["parameters"]["contract"]["string_value"])
    shape, step = _largest_window(contract["windows"])
    box = (shape[0] + step, *shape[1:])
    voxel_mm3 = 1.0
    for spacing_mm in contract["grid"]["spacing_mm"]:
        voxel_mm3 *= spacing_mm
    scan = str(uuid.uuid4())
    for index in range(2):
        head, body = _as_request(
            [
                ("window", "FP16", (1, 1, *shape), _window(shape)),
                ("origin", "INT32", (1, 3), struct.pack("<3i", index * step, 0, 0)),
                ("box_shape", "INT32", (1, 3), struct.pack("<3i", *box)),
                ("window_index", "INT32", (1, 1), struct.pack("<i", index)),
                ("window_count", "INT32", (1, 1), struct.pack("<i", 2)),
                ("voxel_volume_mm3", "FP32", (1, 1), struct.pack("<f", voxel_mm3)),
            ],
            {
                "sequence_id": scan,
                "sequence_start": index == 0,
                "sequence_end": index == 1,
                "binary_data_output": True,
            },
        )
        try:
            _send(
                f"{url}/v2/models/{MODEL}/infer",
                timeout_s,
                {**(headers or {}), "Inference-Header-Content-Length": str(len(head))},
                head + body,
            )
        except ProbeError as error:
            if "BUSY:" in str(error):
                return
            raise


def _largest_window(windows: Mapping[str, Any]) -> tuple[tuple[int, int, int], int]:
    """Return the largest window, nearly a cube, and how far the next one lies above it."""
    shape, minimum = list(windows["maximum"]), windows["minimum"]
    while shape[0] * shape[1] * shape[2] > windows["maximum_voxels"]:
        longest = max((i for i in range(3) if shape[i] > minimum[i]), key=lambda i: shape[i])
        shape[longest] -= windows["multiple"]
    depth, rows, columns = shape
    return (depth, rows, columns), int(depth * (1 - windows["minimum_overlap"]))


def _window(shape: tuple[int, int, int]) -> bytes:
    return struct.pack("<e", DUMMY_HU) * (shape[0] * shape[1] * shape[2])


def _as_request(
    tensors: Sequence[tuple[str, str, tuple[int, ...], bytes]], parameters: Mapping[str, Any]
) -> tuple[bytes, bytes]:
    """Return header and data of a request, by the binary extension of Triton's HTTP protocol."""
    inputs = [
        {
            "name": name,
            "datatype": datatype,
            "shape": shape,
            "parameters": {"binary_data_size": len(data)},
        }
        for name, datatype, shape, data in tensors
    ]
    head = json.dumps({"inputs": inputs, "parameters": parameters}).encode()
    return head, b"".join(data for *_, data in tensors)


def drain(options: argparse.Namespace) -> None:
    """Wait until no scan is open.

    Parameters
    ----------
    options : argparse.Namespace
        ``seconds`` to wait at most, ``pause`` between two requests, ``timeout`` of a request.

    Raises
    ------
    ProbeError
        Scans are still open when the time is over, or the server does not answer. The stop goes on
        all the same: these scans fail with a clear error, and clients send them again.
    """
    deadline = time.monotonic() + options.seconds
    quiet = 0
    while True:
        open_scans = read_open_scans(options.timeout)
        quiet = quiet + 1 if open_scans == 0 else 0
        if quiet >= QUIET_ANSWERS:
            return
        if time.monotonic() >= deadline:
            raise ProbeError(f"{open_scans:g} scans are still open after {options.seconds:g} s")
        time.sleep(options.pause)


def read_open_scans(timeout_s: float) -> float:
    """Read from the metrics how many scans are open.

    Parameters
    ----------
    timeout_s : float
        Seconds to wait for an answer.

    Returns
    -------
    float

    Raises
    ------
    ProbeError
        The metrics are not there, or do not speak of scans.
    """
    port = os.environ.get("DLILD_METRICS_PORT", "8002")
    text = _read(f"http://{HOST}:{port}/metrics", timeout_s)
    values = [line.rpartition(" ")[2] for line in text.splitlines() if line.startswith(OPEN_SCANS)]
    if not values:
        raise ProbeError(f"the metrics have no {OPEN_SCANS}: is dlild loaded?")
    return sum(float(value) for value in values)


def ask_remote(options: argparse.Namespace) -> None:
    """Ask a server for its readiness over gRPC and TLS, as a client does.

    Parameters
    ----------
    options : argparse.Namespace
        ``address``, ``ca``, ``cert``, ``key``, ``plain``, ``timeout``.

    Raises
    ------
    ProbeError
        No connection, a certificate that does not hold, or a server that is not ready.
    """
    scheme, command = "https", ["curl", "--silent", "--show-error", "--http2"]
    if options.plain:
        scheme, command[-1] = "http", "--http2-prior-knowledge"
    for name in ("ca", "cert", "key"):
        if value := getattr(options, name):
            command += [f"--{'cacert' if name == 'ca' else name}", value]
    done = subprocess.run(
        [
            *command,
            *("--max-time", str(options.timeout), "--request", "POST", "--data-binary", "@-"),
            *("--header", "content-type: application/grpc", "--header", "te: trailers"),
            f"{scheme}://{options.address}{READY_CALL}",
        ],
        input=EMPTY_FRAME,
        capture_output=True,
        check=False,
    )
    if done.returncode:
        raise ProbeError(f"{options.address}: {done.stderr.decode(errors='replace').strip()}")
    if done.stdout != TRUE_ANSWER:
        raise ProbeError(f"{options.address} answers that it is not ready ({done.stdout.hex()})")


def _http_url() -> str:
    return f"http://{HOST}:{os.environ.get('DLILD_HTTP_PORT', '8000')}"


def _read(url: str, timeout_s: float) -> str:
    return _send(url, timeout_s, {}).decode(errors="replace")


def _send(
    url: str, timeout_s: float, headers: Mapping[str, str], body: bytes | None = None
) -> bytes:
    # The type matters: Triton 24.10 dies of a window whose type is a form's, urllib's default.
    headers = {"Content-Type": "application/octet-stream", **headers}
    request = urllib.request.Request(url, data=body, headers=headers)  # noqa: S310 - loopback
    try:
        with urllib.request.urlopen(request, timeout=timeout_s) as answer:  # noqa: S310
            data: bytes = answer.read()
    except urllib.error.HTTPError as error:
        raise ProbeError(f"{url}: {error}: {error.read(500).decode(errors='replace')}") from None
    except OSError as error:
        raise ProbeError(f"{url}: {error}") from None
    return data


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--timeout", type=float, default=4.0, help="seconds for one request")
    questions = parser.add_subparsers(dest="question", required=True)
    questions.add_parser("live").set_defaults(ask=ask_live)
    ready = questions.add_parser("ready")
    ready.add_argument(
        "--warm-timeout", type=float, default=50.0, help="seconds for a dummy window"
    )
    ready.set_defaults(ask=ask_ready)
    waiting = questions.add_parser("drain")
    waiting.add_argument("--seconds", type=float, default=120.0, help="to wait at most")
    waiting.add_argument("--pause", type=float, default=1.0, help="seconds between two requests")
    waiting.set_defaults(ask=drain)
    remote = questions.add_parser("remote")
    remote.add_argument("address", help="host:port")
    remote.add_argument("--ca", help="file with the authority of the server's certificate")
    remote.add_argument("--cert", help="file with our own certificate, for mutual TLS")
    remote.add_argument("--key", help="file with its key")
    remote.add_argument("--plain", action="store_true", help="no TLS")
    remote.set_defaults(ask=ask_remote)
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
