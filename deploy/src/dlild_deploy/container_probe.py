#!/usr/bin/env python3
"""Probes of the container: ``ready``, ``live``, ``drain`` and ``remote``.

The image carries this file as ``/opt/dlild/probe.py``: it imports nothing of ours, and needs the
standard library only (``remote`` also curl), which the official Triton image has.

- ``ready`` and ``live`` ask Triton's health over loopback (``HEALTHCHECK``).
- ``drain`` waits until no scan is open, or its time is over: the hook before a stop. A server that
  is told to stop takes no further window, so a scan that is open then must be sent again.
- ``remote`` asks a server for its readiness as a client does, over gRPC and TLS (``helm test``).
"""

import argparse
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Sequence

HOST = "127.0.0.1"
OPEN_SCANS = "dlild_open_scans"
# A scan may begin between two requests: only two answers of 0 in a row count.
QUIET_ANSWERS = 2
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


def ask_health(options: argparse.Namespace) -> None:
    """Ask Triton for its health over HTTP.

    Parameters
    ----------
    options : argparse.Namespace
        ``question`` and ``timeout``.

    Raises
    ------
    ProbeError
        It does not answer, or says no.
    """
    port = os.environ.get("DLILD_HTTP_PORT", "8000")
    _read(f"http://{HOST}:{port}/v2/health/{options.question}", options.timeout)


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


def _read(url: str, timeout_s: float) -> str:
    try:
        with urllib.request.urlopen(url, timeout=timeout_s) as answer:  # noqa: S310 - loopback
            text: str = answer.read().decode(errors="replace")
    except OSError as error:
        raise ProbeError(f"{url}: {error}") from None
    return text


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--timeout", type=float, default=4.0, help="seconds for one request")
    questions = parser.add_subparsers(dest="question", required=True)
    for name in ("ready", "live"):
        questions.add_parser(name).set_defaults(ask=ask_health)
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
