"""Requests to another DICOM node: store objects, ask for storage commitment, report commitment.

DICOM PS3.4, annexes B (Storage Service Class) and J (Storage Commitment Service Class).
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlild_client.archive.addresses import Peer, load_extra
from dlild_client.errors import (
    ConnectionFailedError,
    NotReadyError,
    RefusedError,
    TLSFailedError,
    UnreadableFileError,
)

if TYPE_CHECKING:
    from pydicom import Dataset

COMMITMENT_CLASS = "1.2.840.10008.1.20.1"
"""Storage Commitment Push Model SOP Class."""

COMMITMENT_INSTANCE = "1.2.840.10008.1.20.1.1"
"""Its well-known instance."""

REQUEST_COMMITMENT = 1
"""Action type of a request."""

COMMITTED, NOT_COMMITTED = 1, 2
"""Event types of a report: all objects, or some failed."""

NO_SUCH_OBJECT = 0x0112
"""Failure reason of an object that is not there."""

_CONTEXTS = 128
"""Most presentation contexts of an association (PS3.8, 9.3.2.2)."""

_PERMANENT = 1
_OUT_OF_RESOURCES = 0xA7


@dataclass(frozen=True)
class Reference:
    """SOP class and instance of an object."""

    sop_class: str
    instance: str


@dataclass(frozen=True)
class Requestor:
    """How a node presents itself to others.

    Attributes
    ----------
    title : str
        AE title.
    tls : SSLContext or None
        For TLS with all peers.
    timeout_s : float
        Longest silence of a peer.
    """

    title: str
    tls: ssl.SSLContext | None = None
    timeout_s: float = 60.0

    def store(self, peer: Peer, files: Sequence[Path]) -> list[Reference]:
        """Store the objects of files on a peer (C-STORE).

        Returns
        -------
        list of Reference
            What was stored.

        Raises
        ------
        RefusedError
            The peer refuses this node, a kind of object, or an object.
        NotReadyError
            It has no resources now.
        ConnectionFailedError, TLSFailedError
            It does not answer, or the connection broke.
        """
        objects = [_read(path) for path in files]
        contexts = {(str(o.SOPClassUID), str(o.file_meta.TransferSyntaxUID)) for o in objects}
        references = [Reference(str(o.SOPClassUID), str(o.SOPInstanceUID)) for o in objects]
        with self._associate(peer, sorted(contexts)) as association:
            for dataset in objects:
                try:
                    status = association.send_c_store(dataset)
                except ValueError:
                    raise _not_taken(peer, str(dataset.SOPClassUID)) from None
                except RuntimeError:
                    raise _broke(peer) from None
                _check_stored(peer, status)
        return references

    def request_commitment(
        self, peer: Peer, transaction_uid: str, references: Sequence[Reference]
    ) -> None:
        """Ask a peer to commit itself to objects (N-ACTION); its report comes later.

        Raises
        ------
        DlildError
            As `store`.
        """
        request = commitment(transaction_uid, references)
        with self._associate(peer, [(COMMITMENT_CLASS, "")]) as association:
            try:
                status, _ = association.send_n_action(
                    request, REQUEST_COMMITMENT, COMMITMENT_CLASS, COMMITMENT_INSTANCE
                )
            except ValueError:
                raise RefusedError(f"{peer}: offers no storage commitment; do without") from None
            except RuntimeError:
                raise _broke(peer) from None
        code = _code(peer, status)
        if code != 0:
            raise RefusedError(f"{peer}: refuses storage commitment (status 0x{code:04X})")

    def report_commitment(
        self,
        peer: Peer,
        transaction_uid: str,
        held: Sequence[Reference],
        missing: Sequence[Reference],
    ) -> None:
        """Report to a peer which objects this node holds (N-EVENT-REPORT).

        Raises
        ------
        DlildError
            As `store`.
        """
        build_role = load_extra("pynetdicom").build_role
        role = build_role(COMMITMENT_CLASS, scp_role=True)
        with self._associate(peer, [(COMMITMENT_CLASS, "")], [role]) as association:
            send_report(association, transaction_uid, held, missing)

    @contextmanager
    def _associate(
        self, peer: Peer, contexts: Sequence[tuple[str, str]], roles: Sequence[Any] = ()
    ) -> Iterator[Any]:
        """Open an association; contexts are pairs of SOP class and transfer syntax."""
        quiet()
        entity = load_extra("pynetdicom").AE(ae_title=self.title)
        entity.connection_timeout = min(self.timeout_s, 30.0)
        entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = self.timeout_s
        for sop_class, syntax in contexts[:_CONTEXTS]:
            entity.add_requested_context(sop_class, [syntax] if syntax else None)
        association = entity.associate(
            peer.host,
            peer.port,
            ae_title=peer.title,
            ext_neg=list(roles),
            tls_args=(self.tls, peer.host) if self.tls is not None else None,
        )
        if association.is_rejected:
            raise _rejected(peer, association)
        if not association.is_established and association.rejected_contexts:
            # Where it takes none of them, pynetdicom aborts the association by itself.
            raise _not_taken(peer, str(association.rejected_contexts[0].abstract_syntax))
        if not association.is_established:
            if self.tls is not None:
                raise TLSFailedError(
                    f"{peer}: no association over TLS; look at the address, and at the "
                    "certificates of both sides"
                )
            raise ConnectionFailedError(
                f"{peer}: no association: nobody listens there, or it does not speak DICOM; "
                "look at the address"
            )
        try:
            yield association
        except BaseException:
            association.abort()
            raise
        association.release()


def quiet() -> None:
    """Silence pynetdicom, which logs identifiers of objects."""
    logging.getLogger("pynetdicom").setLevel(logging.CRITICAL + 1)
    load_extra("pynetdicom")._config.LOG_HANDLER_LEVEL = "none"


def commitment(transaction_uid: str, references: Sequence[Reference]) -> Dataset:
    """Make the data set of a request for commitment, or of a report without failures."""
    from pydicom import Dataset  # noqa: PLC0415

    dataset = Dataset()
    dataset.TransactionUID = transaction_uid
    dataset.ReferencedSOPSequence = [_item(reference) for reference in references]
    return dataset


def send_report(
    association: Any,
    transaction_uid: str,
    held: Sequence[Reference],
    missing: Sequence[Reference],
) -> None:
    """Send the report of a commitment on an open association."""
    dataset = commitment(transaction_uid, held)
    if not held:
        del dataset.ReferencedSOPSequence
    if missing:
        dataset.FailedSOPSequence = [_item(reference) for reference in missing]
        for item in dataset.FailedSOPSequence:
            item.FailureReason = NO_SUCH_OBJECT
    association.send_n_event_report(
        dataset, NOT_COMMITTED if missing else COMMITTED, COMMITMENT_CLASS, COMMITMENT_INSTANCE
    )


def references_of(dataset: Dataset, keyword: str = "ReferencedSOPSequence") -> list[Reference]:
    """Return the objects that a request or a report names."""
    items = dataset.get(keyword) or []
    return [
        Reference(str(i.get("ReferencedSOPClassUID")), str(i.get("ReferencedSOPInstanceUID")))
        for i in items
    ]


def _item(reference: Reference) -> Dataset:
    from pydicom import Dataset  # noqa: PLC0415

    item = Dataset()
    item.ReferencedSOPClassUID = reference.sop_class
    item.ReferencedSOPInstanceUID = reference.instance
    return item


def _read(path: Path) -> Dataset:
    from pydicom import dcmread  # noqa: PLC0415
    from pydicom.errors import InvalidDicomError  # noqa: PLC0415

    try:
        return dcmread(path)
    except (OSError, InvalidDicomError):
        raise UnreadableFileError(f"{path.name}: cannot be read, and is not sent") from None


def _check_stored(peer: Peer, status: Dataset) -> None:
    """Raise unless an object is stored; warnings (0xBxxx) are successes."""
    code = _code(peer, status)
    if code == 0 or code >> 12 == 0xB:
        return
    if code >> 8 == _OUT_OF_RESOURCES:
        raise NotReadyError(f"{peer}: out of resources (status 0x{code:04X})")
    raise RefusedError(f"{peer}: refuses an object (status 0x{code:04X}); look at its log")


def _code(peer: Peer, status: Dataset) -> int:
    """Return the status of a response; an empty one means that there was none."""
    if "Status" not in status:
        raise _broke(peer)
    return int(status.Status)


def _broke(peer: Peer) -> ConnectionFailedError:
    return ConnectionFailedError(f"{peer}: the association broke; look at its log")


def _not_taken(peer: Peer, sop_class: str) -> RefusedError:
    from pydicom.uid import UID  # noqa: PLC0415

    return RefusedError(
        f"{peer}: takes no {UID(sop_class).name}; permit it there, or do without (--kinds)"
    )


def _rejected(peer: Peer, association: Any) -> RefusedError | NotReadyError:
    primitive = association.acceptor.primitive
    reason = getattr(primitive, "reason_str", "") or "no reason given"
    if getattr(primitive, "result", _PERMANENT) == _PERMANENT:
        return RefusedError(
            f"{peer}: rejects the association ({reason}); register this node's AE title there"
        )
    return NotReadyError(f"{peer}: takes no association now ({reason})")
