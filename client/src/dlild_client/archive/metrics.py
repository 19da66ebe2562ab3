"""Metrics of a node for Prometheus, and its health, over HTTP."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from dlild_client.archive.addresses import load_extra
from dlild_client.errors import BadSettingsError

OUTCOMES = ("stored", "repeat", "dropped", "refused", "unreadable")
"""Labels of received objects."""
INPUT, OTHER = "input", "other"
"""Labels of studies that were given up: rejected by what they hold, or for any other reason."""
State = Callable[[], dict[str, Any]]
"""Returns what is measured at a scrape: see `Metrics`."""


class Metrics:
    """Counters of a node. Labels are outcomes, states and classes of errors, never identities.

    Parameters
    ----------
    state : callable
        Returns `studies` (counts by state), `oldest_seconds`, `spool_bytes`, `free_bytes`,
        `associations` and `ready` at each scrape.
    """

    def __init__(self, state: State) -> None:
        client = load_extra("prometheus_client")
        core = load_extra("prometheus_client.core")
        self.registry = client.CollectorRegistry()
        self._generate = client.generate_latest
        self.content_type = str(client.CONTENT_TYPE_LATEST)

        def counter(name: str, text: str, *labels: str) -> Any:
            return client.Counter(f"dlild_node_{name}", text, labels, registry=self.registry)

        def seconds(name: str, text: str, longest: float) -> Any:
            buckets = [b for b in (0.1, 0.5, 1, 2, 5, 10, 30, 60, 120, 300, 900) if b <= longest]
            return client.Histogram(
                f"dlild_node_{name}_seconds", text, registry=self.registry, buckets=buckets
            )

        self.objects = counter(
            "objects", "Objects received: stored, repeat, dropped (no CT), refused.", "outcome"
        )
        self.answers = counter("answers", "Results that the destination has taken.")
        self.failures = counter(
            "failures", "Failed tries by stage (receive, score, send) and error.", "stage", "error"
        )
        self.given_up = counter(
            "given_up", "Studies that ended as failed: no chest CT (input), or other.", "reason"
        )
        self.rejected = counter("rejected_associations", "Associations that were rejected.")
        self.scoring = seconds("scoring", "Time to score a study.", 900)
        self.sending = seconds("sending", "Time to send a result.", 120)

        class Scraped:
            def collect(self) -> Iterator[Any]:
                now = state()
                studies = core.GaugeMetricFamily(
                    "dlild_node_studies", "Studies in each state.", labels=["state"]
                )
                for name, count in now["studies"].items():
                    studies.add_metric([name], count)
                yield studies
                for name, text in (
                    ("oldest_seconds", "Age of the oldest study that is not finished."),
                    ("spool_bytes", "Bytes of received objects on the disk."),
                    ("free_bytes", "Free space of the disk of the spool."),
                    ("associations", "Open associations."),
                    ("ready", "Whether it is healthy: 1, or 0 where /healthz answers 503."),
                ):
                    yield core.GaugeMetricFamily(f"dlild_node_{name}", text, value=now[name])

        self.registry.register(Scraped())
        # At zero from the start: Prometheus sees no increase of a series that begins at one.
        for outcome in OUTCOMES:
            self.objects.labels(outcome)
        for reason in (INPUT, OTHER):
            self.given_up.labels(reason)

    def text(self) -> bytes:
        """Return the exposition format of Prometheus."""
        return bytes(self._generate(self.registry))


class HealthServer:
    """Answers `/healthz` and `/metrics`; nothing else.

    Parameters
    ----------
    host, port
        Where it listens; port 0 takes a free one.
    metrics : Metrics
    health : callable
        Returns what is wrong, or an empty text.

    Raises
    ------
    BadSettingsError
        The port is taken.
    """

    def __init__(self, host: str, port: int, metrics: Metrics, health: Callable[[], str]) -> None:
        class Handler(BaseHTTPRequestHandler):
            timeout = 10

            def do_GET(self) -> None:
                if self.path == "/healthz":
                    wrong = health()
                    self._answer(503 if wrong else 200, "text/plain", (wrong or "ok").encode())
                elif self.path == "/metrics":
                    self._answer(200, metrics.content_type, metrics.text())
                else:
                    self._answer(404, "text/plain", b"/healthz or /metrics")

            def _answer(self, code: int, kind: str, body: bytes) -> None:
                self.send_response(code)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_arguments: object) -> None:
                """Log no requests."""

        try:
            self._server = ThreadingHTTPServer((host, port), Handler)
        except OSError as error:
            raise BadSettingsError(
                f"port {port} for health and metrics: {error.strerror}; give another with "
                "--http-port"
            ) from None
        self._server.daemon_threads = True
        self.port = int(self._server.server_address[1])
        threading.Thread(target=self._server.serve_forever, name="dlild-http", daemon=True).start()

    def close(self) -> None:
        """Stop answering."""
        self._server.shutdown()
        self._server.server_close()
