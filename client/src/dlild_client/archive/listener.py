"""The part of a node that others call: it takes objects, requests and reports of commitment.

An object is acknowledged when it lies in its study's folder and in the queue, both flushed to the
disk. Only CT images are kept; other objects of a study are answered with a warning and dropped, so
that a result that the archive sends back does no harm.
"""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

from dlild_client.archive import dimse
from dlild_client.archive.addresses import LONGEST_UID, load_extra
from dlild_client.archive.audit import AuditLog
from dlild_client.archive.dimse import Reference
from dlild_client.archive.metrics import Metrics
from dlild_client.archive.node_settings import NodeSettings
from dlild_client.archive.queue import Queue, digest_of
from dlild_client.archive.spool import Spool
from dlild_client.errors import BadSettingsError, DlildError
from dlild_client.reading.dicom.headers import CT_CLASSES

SUCCESS = 0x0000
DROPPED = 0xB006
"""Warning "elements discarded" (PS3.4, B.2.3): the object is none that the node keeps."""
OUT_OF_RESOURCES = 0xA700
MISMATCH = 0xA900
NOT_UNDERSTOOD = 0xC000
NO_SUCH_ACTION = 0x0123
INVALID_ARGUMENT = 0x0115
NO_SUCH_EVENT = 0x0113

LONGEST_PDU = 1 << 20
"""Longest PDU that is read; peers are asked for shorter ones."""

_CHECK_EVERY = 16 << 20
"""Bytes of an object between two looks at the free space."""

LONGEST_MESSAGE = 16 << 20
"""Longest message other than an object; pynetdicom holds these in memory."""

MOST_REFERENCES = 20_000
"""Most objects of a request for commitment."""

Committed = Callable[[str, bool], None]
"""Called with a transaction UID, and whether all objects were committed."""


class Listener:
    """Takes associations; a thread each.

    Parameters
    ----------
    settings : NodeSettings
    spool : Spool
    queue : Queue
    metrics : Metrics
    audit : AuditLog
    committed : callable
        Called with each report of the destination.

    Raises
    ------
    BadSettingsError
        The port is taken, or pynetdicom is not installed.
    """

    def __init__(
        self,
        settings: NodeSettings,
        spool: Spool,
        queue: Queue,
        metrics: Metrics,
        audit: AuditLog,
        committed: Committed,
    ) -> None:
        self._settings, self._spool, self._queue = settings, spool, queue
        self._metrics, self._audit, self._committed = metrics, audit, committed
        self._net = load_extra("pynetdicom")
        self.closing = False
        dimse.quiet()
        # An object is written to a file while it arrives, in the spool: the move is a rename.
        self._net._config.STORE_RECV_CHUNKED_DATASET = True
        tempfile.tempdir = str(spool.incoming)
        self._entity = self._make_entity()
        self._server = self._start()
        self.port = int(self._server.server_address[1])

    def _make_entity(self) -> Any:
        entity = self._net.AE(ae_title=self._settings.title)
        entity.require_called_aet = True
        entity.require_calling_aet = list(self._settings.senders)
        entity.maximum_associations = self._settings.associations
        entity.maximum_pdu_size = 1 << 17
        entity.acse_timeout = entity.dimse_timeout = self._settings.silent_s
        entity.network_timeout = self._settings.silent_s
        syntaxes = self._net.ALL_TRANSFER_SYNTAXES
        for context in self._net.AllStoragePresentationContexts:
            entity.add_supported_context(context.abstract_syntax, syntaxes)
        entity.add_supported_context("1.2.840.10008.1.1")  # Verification: C-ECHO
        entity.add_supported_context(dimse.COMMITMENT_CLASS, scu_role=True, scp_role=True)
        return entity

    def _start(self) -> Any:
        settings, evt = self._settings, self._net.evt
        try:
            return self._entity.start_server(
                (settings.host, settings.port),
                block=False,
                ssl_context=settings.tls,
                evt_handlers=[
                    (evt.EVT_CONN_OPEN, self._on_open),
                    (evt.EVT_CONN_CLOSE, self._on_close),
                    (evt.EVT_DATA_RECV, self._on_data),
                    (evt.EVT_REJECTED, self._on_rejected),
                    (evt.EVT_C_STORE, self._on_store),
                    (evt.EVT_N_ACTION, self._on_action),
                    (evt.EVT_N_EVENT_REPORT, self._on_report),
                ],
            )
        except OSError as error:
            raise BadSettingsError(
                f"{settings.host}:{settings.port}: cannot listen there: {error.strerror}; give "
                "another --host or --port"
            ) from None

    @property
    def alive(self) -> bool:
        """Whether the port is served."""
        return self._server in self._entity._servers

    @property
    def associations(self) -> int:
        """Open associations."""
        return len(self._server.active_associations)

    def close(self) -> None:
        """Take no further associations, and no further objects on open ones."""
        if not self.closing:
            self.closing = True
            self._server.shutdown()
            tempfile.tempdir = None

    def abort(self) -> None:
        """End the associations that are still open."""
        for association in self._server.active_associations:
            association.abort()

    # ---- bounds ------------------------------------------------------------------------------

    def _on_open(self, event: Any) -> None:
        """Bound the length of PDUs, which pynetdicom reads whole, whatever they announce."""
        connection = event.assoc.dul.socket
        if connection is None or connection.socket is None:
            return
        connection.socket.settimeout(self._settings.silent_s)
        read = connection.recv

        def bounded(count: int) -> bytearray:
            if count > LONGEST_PDU:
                raise OSError("the announced PDU is too long")
            return bytearray(read(count))

        connection.recv = bounded

    def _on_close(self, event: Any) -> None:
        """Remove what has arrived of an object that is not complete, and wait for its sender.

        A sender whose association broke sends the rest of its studies later.
        """
        studies: set[str] = getattr(event.assoc, "dlild_studies", set())
        if studies and not event.assoc.is_released:
            self._queue.wait_for_senders(self._settings.quiet_s, studies)
        path = getattr(getattr(event.assoc.dimse, "message", None), "_data_set_path", None)
        if path is not None:
            path.unlink(missing_ok=True)

    def _on_data(self, event: Any) -> None:
        """Bound an object while it arrives: its length, and the disk that it fills."""
        association = event.assoc
        before = getattr(association, "dlild_bytes", 0)
        association.dlild_bytes = arrived = before + len(event.data)
        message = getattr(association.dimse, "message", None)
        to_disk = getattr(message, "_data_set_file", None) is not None
        if arrived > (self._settings.object_bytes if to_disk else LONGEST_MESSAGE) + LONGEST_PDU:
            self._refused(association, "the object is too long")
            association.abort(block=False)
        elif (
            arrived // _CHECK_EVERY > before // _CHECK_EVERY
            and self._spool.free_bytes() < self._settings.free_bytes
        ):
            self._refused(association, "the disk of the spool is full")
            association.abort(block=False)

    def _on_rejected(self, event: Any) -> None:
        self._metrics.rejected.inc()
        self._audit.write(
            "association_rejected",
            calling=repr(str(event.assoc.requestor.ae_title)),
            address=str(event.assoc.requestor.address),
        )

    # ---- objects -----------------------------------------------------------------------------

    def _on_store(self, event: Any) -> int:
        """Keep one object; the status says whether it lies on the disk."""
        event.assoc.dlild_bytes = 0
        try:
            status, outcome = self._keep(event)
        except (DlildError, OSError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            self._refused(event.assoc, reason)
            return OUT_OF_RESOURCES
        self._metrics.objects.labels(outcome).inc()
        return status

    def _keep(self, event: Any) -> tuple[int, str]:
        request = event.request
        if str(request.AffectedSOPClassUID) not in CT_CLASSES:
            return DROPPED, "dropped"
        if self.closing:
            raise DlildError("the node stops")
        size = event.dataset_path.stat().st_size
        if size > self._settings.object_bytes:
            raise DlildError("the object is too long")
        uids = _read_uids(event.dataset_path)
        if uids is None:
            self._refused(event.assoc, "the data set cannot be read, or has no valid UIDs")
            return NOT_UNDERSTOOD, "unreadable"
        study_uid, instance_uid = uids
        if instance_uid != str(request.AffectedSOPInstanceUID):
            self._refused(event.assoc, "request and data set name different objects")
            return MISMATCH, "unreadable"
        study, instance = digest_of(study_uid), digest_of(instance_uid)
        sender = str(event.assoc.requestor.ae_title)
        record = partial(self._queue.add, study, instance, size, sender)
        if self._queue.is_stored(study, instance):
            record()
            return SUCCESS, "repeat"
        known = self._queue.has(study, instance)
        self._check_space(size)
        self._spool.put(event.dataset_path, study, instance, record)
        if known:
            return SUCCESS, "repeat"
        event.assoc.dlild_studies = {*getattr(event.assoc, "dlild_studies", ()), study}
        return SUCCESS, "stored"

    def _check_space(self, size: int) -> None:
        free, stored = self._spool.free_bytes(), self._queue.stored_bytes()
        if free - size < self._settings.free_bytes:
            raise DlildError("the disk of the spool is full")
        if stored + size > self._settings.spool_bytes:
            raise DlildError("the spool holds as many bytes as it may")

    def _refused(self, association: Any, reason: str) -> None:
        self._metrics.objects.labels("refused").inc()
        calling = str(association.requestor.ae_title)
        self._audit.write("object_refused", calling=calling, reason=reason)

    # ---- commitment --------------------------------------------------------------------------

    def _on_action(self, event: Any) -> tuple[int, None]:
        """Take a request for commitment; the report follows in its own thread."""
        event.assoc.dlild_bytes = 0
        if not self._settings.report_commitment or event.action_type != dimse.REQUEST_COMMITMENT:
            return NO_SUCH_ACTION, None
        dataset = event.action_information
        transaction = str(dataset.get("TransactionUID", ""))
        references = dimse.references_of(dataset)
        if not _is_uid(transaction) or not 0 < len(references) <= MOST_REFERENCES:
            return INVALID_ARGUMENT, None
        threading.Thread(
            target=self._report,
            args=(event.assoc, transaction, references),
            name="dlild-commitment",
            daemon=True,
        ).start()
        return SUCCESS, None

    def _report(self, association: Any, transaction: str, references: list[Reference]) -> None:
        """Report what lies on the disk, to the sender's address or on its own association."""
        there = self._queue.holds([digest_of(r.instance) for r in references])
        held = [r for r, is_there in zip(references, there, strict=True) if is_there]
        missing = [r for r, is_there in zip(references, there, strict=True) if not is_there]
        title = str(association.requestor.ae_title)
        peer = self._settings.address_of(title)
        try:
            if peer is not None:
                dimse.Requestor(
                    self._settings.title, self._settings.destination_tls, self._settings.silent_s
                ).report_commitment(peer, transaction, held, missing)
            else:
                dimse.send_report(association, transaction, held, missing)
            outcome = "commitment_reported"
        except Exception as error:
            outcome = f"commitment_not_reported: {type(error).__name__}"
        self._audit.write(outcome, calling=title, held=len(held), missing=len(missing))

    def _on_report(self, event: Any) -> tuple[int, None]:
        """Take the destination's report."""
        event.assoc.dlild_bytes = 0
        if event.event_type not in {dimse.COMMITTED, dimse.NOT_COMMITTED}:
            return NO_SUCH_EVENT, None
        transaction = str(event.event_information.get("TransactionUID", ""))
        self._committed(transaction, event.event_type == dimse.COMMITTED)
        return SUCCESS, None


def _read_uids(path: Any) -> tuple[str, str] | None:
    """Read StudyInstanceUID and SOPInstanceUID; None where the data set has no valid ones."""
    from pydicom import dcmread  # noqa: PLC0415

    names = ["StudyInstanceUID", "SOPInstanceUID"]
    try:
        dataset = dcmread(path, specific_tags=names, stop_before_pixels=True)
        study, instance = (str(dataset[name].value) for name in names)
    except Exception:
        return None
    return (study, instance) if _is_uid(study) and _is_uid(instance) else None


def _is_uid(text: str) -> bool:
    return 0 < len(text) <= LONGEST_UID and all(c in "0123456789." for c in text)
