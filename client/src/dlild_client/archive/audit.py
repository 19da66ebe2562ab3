"""Audit log of a node: one JSON object a line, without identity.

A line says when (`at`, UTC), what (`event`), and of which study (`study`, the digest of its UID),
with figures of the event. AE titles and network addresses name machines; no name, date, identifier
or UID of a patient, study or object is ever written.
"""

from __future__ import annotations

import json
import logging
import logging.handlers
import sys
from datetime import UTC, datetime
from pathlib import Path

from dlild_client.errors import BadSettingsError

_LENGTH = 300
"""Longest text of a field."""


class AuditLog:
    """Appends events to a file, and to standard error for the log of a container.

    The file may be moved away by logrotate: it is opened again then.

    Parameters
    ----------
    path : Path or None
        None writes to standard error only.

    Raises
    ------
    BadSettingsError
        The file cannot be written.
    """

    def __init__(self, path: Path | None, *, echo: bool = True) -> None:
        self._log = logging.Logger("dlild.audit")  # in no hierarchy: nothing else reaches it
        if echo:
            self._log.addHandler(logging.StreamHandler(sys.stderr))
        if path is not None:
            try:
                path.touch(mode=0o600)
                self._log.addHandler(logging.handlers.WatchedFileHandler(path, encoding="utf-8"))
            except OSError as error:
                raise BadSettingsError(
                    f"{path.name}: the audit log cannot be written: {error.strerror}"
                ) from None

        for handler in self._log.handlers:
            handler.handleError = _ignore  # type: ignore[method-assign,assignment]

    def write(self, event: str, study: str | None = None, **facts: object) -> None:
        """Write one line; a full disk does not stop the node."""
        line: dict[str, object] = {
            "at": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "event": event,
        }
        if study is not None:
            line["study"] = study
        line |= {k: v[:_LENGTH] if isinstance(v, str) else v for k, v in facts.items()}
        self._log.info("%s", json.dumps(line))


def _ignore(_record: logging.LogRecord) -> None:
    """Go on where a line cannot be written."""
