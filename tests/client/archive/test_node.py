"""The node as a process, before a real archive; the scorer of `run_node.py` is a fake."""

from __future__ import annotations

import socket
import sqlite3
import ssl
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from contextlib import suppress

import dicom_nodes as nodes
import pytest
from certificates import Authority
from dicom_nodes import NodeProcess, send, small_ct, small_studies
from orthanc import Orthanc, free_port, storescu
from pynetdicom import evt

from dlild_client.archive.dimse import (
    COMMITMENT_CLASS,
    COMMITMENT_INSTANCE,
    Reference,
    commitment,
)
from dlild_client.archive.queue import digest_of


def answers(orthanc: Orthanc, studies) -> Counter:
    """Captures in the archive, by study."""
    ours = {objects[0].StudyInstanceUID for objects in studies}
    found = Counter(i["study_uid"] for i in orthanc.instances() if i["modality"] == "OT")
    return Counter({uid: n for uid, n in found.items() if uid in ours})


def answered_once(orthanc: Orthanc, studies) -> bool:
    return answers(orthanc, studies) == Counter({s[0].StudyInstanceUID: 1 for s in studies})


@pytest.fixture(scope="module")
def shared(orthanc, tmp_path_factory):
    """One node for the tests that leave it as it was: a process takes seconds to start."""
    folder = tmp_path_factory.mktemp("node")
    with NodeProcess(folder / "spool", orthanc.peer, report_commitment=True, http_port=0) as node:
        yield node


@pytest.mark.parametrize("kind", ["dimse", "dicomweb"])
def test_studies_are_answered_once_however_often_they_are_sent(orthanc, tmp_path, kind):
    studies = small_studies(3, 5)
    destination = orthanc.peer if kind == "dimse" else orthanc.dicomweb
    with NodeProcess(tmp_path / "spool", destination) as node:
        for objects in studies:
            assert send(node.port, objects) == [0] * 5
        node.wait_for("sent", 3)
        assert answered_once(orthanc, studies)
        for objects in studies:
            assert send(node.port, objects) == [0] * 5
        time.sleep(2)
        assert [e["event"] for e in node.audit()].count("scoring") == 3
        assert answered_once(orthanc, studies)
        assert node.stop() == 0
    assert node.audit()[-1]["event"] == "stopped"
    assert node.audit()[-1]["studies"]["done"] == 3


def test_a_study_that_grows_is_answered_anew(orthanc, tmp_path):
    (objects,) = small_studies(1, 6)
    with NodeProcess(tmp_path / "spool", orthanc.peer) as node:
        send(node.port, objects[:4])
        node.wait_for("sent", 1)
        send(node.port, objects[4:])
        node.wait_for("sent", 2)
        numbers = [o["objects"] for o in node.audit() if o["event"] == "scoring"]
    assert numbers == [4, 6]
    assert answers(orthanc, [objects])[objects[0].StudyInstanceUID] == 2


def test_late_objects_of_a_study_that_was_removed_are_not_scored_alone(orthanc, tmp_path):
    (objects,) = small_studies(1, 6)
    with NodeProcess(tmp_path / "spool", orthanc.peer, keep_s=0.0) as node:
        send(node.port, objects[:4])
        node.wait_for("removed", 1)
        send(node.port, objects[4:])
        (failed,) = node.wait_for("failed")
        assert failed["kind"] == "Incomplete"
        assert failed["error"].startswith("4 of its 6 objects are no longer here")
        assert "send the whole study again" in failed["error"]
        send(node.port, objects)
        node.wait_for("sent", 2)
        assert [o["objects"] for o in node.audit() if o["event"] == "scoring"] == [4, 6]
        node.wait_for("removed", 2)
        send(node.port, objects)
        time.sleep(2)
        assert [o["event"] for o in node.audit()].count("scoring") == 2
    assert answers(orthanc, [objects])[objects[0].StudyInstanceUID] == 2


def test_an_archive_that_is_away_loses_nothing(tmp_path):
    studies = small_studies(4, 3)
    archive = Orthanc(tmp_path / "orthanc").start()
    with NodeProcess(tmp_path / "spool", archive.peer) as node:
        send(node.port, studies[0])
        node.wait_for("sent", 1)
        archive.stop()
        for objects in studies[1:]:
            send(node.port, objects)
        again = node.wait_for("again", 2)
        assert {e["kind"] for e in again} == {"ConnectionFailed"}
        archive.start()
        node.wait_for("sent", 4)
        assert answered_once(archive, studies)
    archive.stop()


def test_a_node_that_is_killed_goes_on_where_it_was(orthanc, tmp_path):
    studies = small_studies(4, 5)
    with NodeProcess(tmp_path / "spool", orthanc.peer) as node:
        killed_while_sending(node, studies, kills=1, every_s=0.3)
        deadline = time.monotonic() + 60
        while not answered_once(orthanc, studies):
            assert time.monotonic() < deadline, node.audit()[-5:]
            time.sleep(0.2)
        node.stop()
    assert answered_once(orthanc, studies)


@pytest.mark.slow
def test_a_thousand_objects_while_the_node_is_killed_ten_times(orthanc, tmp_path):
    studies = small_studies(50, 20)
    with NodeProcess(tmp_path / "spool", orthanc.peer, quiet_s=6.0) as node:
        killed_while_sending(node, studies, kills=10, every_s=3.0)
        deadline = time.monotonic() + 240
        while not answered_once(orthanc, studies):
            assert time.monotonic() < deadline, node.audit()[-5:]
            time.sleep(1)
        time.sleep(7)
        assert answered_once(orthanc, studies)
        assert node.stop() == 0
    with sqlite3.connect(tmp_path / "spool" / "queue.sqlite3") as db:
        assert db.execute("SELECT state, answers, COUNT(*) FROM studies").fetchall() == [
            ("done", 1, 50)
        ]
        assert db.execute("SELECT COUNT(*) FROM objects").fetchone() == (1000,)


def killed_while_sending(node: NodeProcess, studies, kills: int, every_s: float) -> None:
    """Send studies by four senders while the node is killed; each resends what it must."""
    faults: list[BaseException] = []

    def sender(share) -> None:
        try:
            for objects in share:
                send(node.port, objects, patience_s=240)
        except BaseException as error:
            faults.append(error)

    threads = [threading.Thread(target=sender, args=(studies[i::4],)) for i in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(kills):
        time.sleep(every_s)
        node.kill()
        node.start()
    for thread in threads:
        thread.join(300)
    assert not faults


CAPTURE = "1.2.840.10008.5.1.4.1.1.7"


@pytest.mark.parametrize(
    ("fault", "kind", "words"),
    [
        ("title", "Refused", "register this node's AE title there"),
        ("class", "Refused", "takes no Secondary Capture Image Storage"),
        ("full", "NotReady", "out of resources (status 0xA700)"),
        ("object", "Refused", "refuses an object (status 0x0124)"),
    ],
)
def test_a_destination_that_refuses_is_one_line_and_gets_the_result_later(
    tmp_path, fault, kind, words
):
    (objects,) = small_studies(1, 2)
    stored: list[str] = []
    heals = threading.Event()

    def on_store(event):
        if not heals.is_set() and fault in {"full", "object"}:
            return 0xA700 if fault == "full" else 0x0124
        stored.append(event.request.AffectedSOPInstanceUID)
        return 0

    def serve(port: int, *, healthy: bool):
        entity = nodes.AE("PACS")
        entity.add_supported_context(
            CAPTURE if healthy or fault != "class" else "1.2.840.10008.1.1"
        )
        if fault == "title" and not healthy:
            entity.require_calling_aet = ["OTHER"]
        return entity.start_server(
            ("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_C_STORE, on_store)]
        )

    port = free_port()
    archive = serve(port, healthy=False)
    try:
        with NodeProcess(tmp_path / "spool", f"PACS@127.0.0.1:{port}") as node:
            send(node.port, objects)
            again = node.wait_for("again", 2)
            assert {e["kind"] for e in again} == {kind}
            assert words in again[0]["error"]
            assert "\n" not in again[0]["error"]
            assert stored == []
            archive.shutdown()
            heals.set()
            archive = serve(port, healthy=True)
            node.wait_for("sent")
            assert node.stop() == 0
            assert node.audit()[-1]["studies"]["done"] == 1
    finally:
        archive.shutdown()
    assert len(stored) == 1


# ---- refusals -----------------------------------------------------------------------------------


def test_unknown_titles_are_rejected_and_counted(shared):
    for calling, called in (("STRANGER", "DLILD"), ("SENDER", "OTHER")):
        entity = nodes.AE(calling)
        entity.add_requested_context("1.2.840.10008.1.1")
        association = entity.associate("127.0.0.1", shared.port, ae_title=called)
        assert association.is_rejected
    rejected = shared.wait_for("association_rejected", 2)
    assert rejected[0]["calling"] == "'STRANGER'"
    # One that is known is taken afterwards.
    entity = nodes.AE("SENDER")
    entity.add_requested_context("1.2.840.10008.1.1")
    association = entity.associate("127.0.0.1", shared.port, ae_title="DLILD")
    assert association.send_c_echo().Status == 0
    association.release()


def test_what_is_no_chest_ct_fails_in_one_line_and_other_objects_are_dropped(shared):
    (head,), (report,) = small_studies(1, 1), small_studies(1, 1)
    head[0].BodyPartExamined = "HEAD"
    report[0].SOPClassUID = "1.2.840.10008.5.1.4.1.1.88.33"
    report[0].file_meta.MediaStorageSOPClassUID = report[0].SOPClassUID
    assert send(shared.port, head) == [0]
    assert send(shared.port, report) == [0xB006]
    (failed,) = shared.wait_for("failed", study=head[0])
    assert failed["kind"] == "NotChest"
    assert failed["error"] == "no lungs; give a chest CT"
    assert not (shared.spool / "studies" / digest_of(report[0].StudyInstanceUID)).exists()


def test_hostile_objects_are_refused_and_leave_nothing_behind(orthanc, tmp_path):
    (objects,) = small_studies(1, 5)
    objects[0].StudyInstanceUID = "../../../etc/passwd"
    del objects[1].StudyInstanceUID
    objects[3].PixelData = bytes(3 << 20)
    with NodeProcess(tmp_path / "spool", orthanc.peer, object_bytes=1 << 20) as node:
        assert send(node.port, objects[:1]) == [0xC000]
        assert send(node.port, objects[1:2]) == [0xC000]
        with pytest.raises(AssertionError, match="not acknowledged"):
            send(node.port, objects[3:4], patience_s=2)
        assert send(node.port, objects[4:]) == [0]
        node.wait_for("sent")
        reasons = {e["reason"] for e in node.audit() if e["event"] == "object_refused"}
        assert reasons == {
            "the data set cannot be read, or has no valid UIDs",
            "the object is too long",
        }
        assert len(list((tmp_path / "spool" / "studies").iterdir())) == 1
        deadline = time.monotonic() + 10
        while list((tmp_path / "spool" / "incoming").iterdir()):
            assert time.monotonic() < deadline
            time.sleep(0.1)


def test_a_full_disk_refuses_and_loses_nothing(orthanc, tmp_path):
    (first, second) = small_studies(2, 3)
    size = 3 * 1500
    with NodeProcess(tmp_path / "spool", orthanc.peer, spool_bytes=size, keep_s=0.0) as node:
        send(node.port, first)
        # Taken once the first is answered, and removed to make space.
        send(node.port, second, patience_s=40)
        node.wait_for("sent", 2)
    assert answered_once(orthanc, [first, second])
    assert any(e["event"] == "object_refused" for e in node.audit())


def test_a_peer_that_announces_a_pdu_of_4_gb_is_cut_off(shared):
    with socket.create_connection(("127.0.0.1", shared.port), 5) as peer:
        peer.sendall(b"\x01\x00\xff\xff\xff\xff" + bytes(1 << 16))
        peer.settimeout(10)
        with suppress(ConnectionError):
            while peer.recv(4096):  # raises TimeoutError where the node goes on reading
                pass
    (objects,) = small_studies(1, 2)
    send(shared.port, objects)
    shared.wait_for("sent", study=objects[0])


def test_a_message_that_is_no_object_is_not_held_in_memory_without_end(shared):
    request = commitment("1.2.3.4", [Reference("1.2.840.10008.5.1.4.1.1.2", "1.2.3")])
    request.add_new((0x0009, 0x1001), "OB", bytes(20 << 20))
    entity = nodes.AE("SENDER")
    entity.add_requested_context(COMMITMENT_CLASS)
    association = entity.associate("127.0.0.1", shared.port, ae_title="DLILD")
    status, _ = association.send_n_action(request, 1, COMMITMENT_CLASS, COMMITMENT_INSTANCE)
    assert "Status" not in status
    assert shared.wait_for("object_refused")[-1]["reason"] == "the object is too long"


def test_logs_names_and_queue_hold_no_identity(orthanc, tmp_path):
    (objects,) = small_studies(1, 3)
    with NodeProcess(tmp_path / "spool", orthanc.peer) as node:
        send(node.port, objects)
        node.wait_for("sent")
        node.stop()
    texts = [str(p) for p in (tmp_path / "spool").rglob("*")]
    texts += [(tmp_path / "spool" / "audit.jsonl").read_text(), (tmp_path / "node.log").read_text()]
    texts += ["".join(sqlite3.connect(tmp_path / "spool" / "queue.sqlite3").iterdump())]
    secrets = ("Doe", "4711", *(o.SOPInstanceUID for o in objects), objects[0].StudyInstanceUID)
    assert not [s for s in secrets if any(s in text for text in texts)]
    assert (tmp_path / "spool").stat().st_mode & 0o077 == 0


def test_storescu_sends_to_the_node(orthanc, shared, tmp_path):
    (objects,) = small_studies(1, 4)
    folder = tmp_path / "files"
    folder.mkdir()
    for i, ds in enumerate(objects):
        ds.save_as(folder / f"{i}.dcm", enforce_file_format=True)
    storescu(shared.port, folder, title="DLILD")
    shared.wait_for("sent", study=objects[0])
    assert answered_once(orthanc, [objects])


def test_one_node_a_spool(shared):
    with pytest.raises(AssertionError, match="another node uses"):
        NodeProcess(shared.spool, shared.settings["destination"]).start()


# ---- storage commitment, TLS, metrics ---------------------------------------------------------


def test_the_archive_commits_itself_to_each_result(tmp_path):
    (objects,) = small_studies(1, 3)
    port = free_port()
    # Orthanc reports to the address that it has of the node.
    modalities = {"dlild": ["DLILD", "127.0.0.1", port]}
    with (
        Orthanc(tmp_path / "orthanc", modalities=modalities) as archive,
        NodeProcess(tmp_path / "spool", archive.peer, port=port, request_commitment=True) as node,
    ):
        send(node.port, objects)
        node.wait_for("committed")
        (sent,) = node.wait_for("sent")
        assert sent["state"] == "committing"
        node.stop()
        assert node.audit()[-1]["studies"]["done"] == 1
        assert answered_once(archive, [objects])


def test_a_sender_learns_which_objects_the_node_holds(shared):
    (objects,) = small_studies(1, 2)
    missing = small_ct(objects[0].StudyInstanceUID, "1.2.3", 99)
    send(shared.port, objects)
    assert commitment_of(shared.port, objects) == (1, 2, 0)
    assert commitment_of(shared.port, [*objects, missing]) == (2, 2, 1)


def test_without_the_option_the_node_commits_itself_to_nothing(orthanc, tmp_path):
    (objects,) = small_studies(1, 2)
    with (
        NodeProcess(tmp_path / "spool", orthanc.peer) as node,
        pytest.raises(AssertionError, match="0x0123"),
    ):
        commitment_of(node.port, objects)


def commitment_of(port: int, objects) -> tuple[int, int, int]:
    """Ask for commitment; the event type of the report, and objects held and missing."""
    report: list[tuple[int, int, int]] = []
    there = threading.Event()

    def on_report(event):
        ds = event.event_information
        held, failed = (
            len(ds.get(k) or []) for k in ("ReferencedSOPSequence", "FailedSOPSequence")
        )
        report.append((event.event_type, held, failed))
        there.set()
        return 0, None

    entity = nodes.AE("SENDER")
    entity.add_requested_context(COMMITMENT_CLASS)
    association = entity.associate(
        "127.0.0.1", port, ae_title="DLILD", evt_handlers=[(evt.EVT_N_EVENT_REPORT, on_report)]
    )
    references = [Reference(o.SOPClassUID, o.SOPInstanceUID) for o in objects]
    status, _ = association.send_n_action(
        commitment("1.2.3.4", references), 1, COMMITMENT_CLASS, COMMITMENT_INSTANCE
    )
    assert status.Status == 0, hex(status.Status).replace("0x", "0x0")
    assert there.wait(20)
    association.release()
    return report[0]


def test_associations_over_tls_need_a_certificate(orthanc, tmp_path):
    authority, stranger = Authority(tmp_path / "a"), Authority(tmp_path / "b", "Stranger")
    pair, mine = authority.issue("node"), authority.issue("sender")
    foreign = stranger.issue("sender")
    (objects,) = small_studies(1, 2)
    tls = {"cert": str(pair.cert), "key": str(pair.key), "ca": str(authority.ca)}
    with NodeProcess(tmp_path / "spool", orthanc.peer, listen_tls=tls) as node:
        # One that connects and sends nothing keeps nobody out.
        with socket.create_connection(("127.0.0.1", node.port), 5):
            assert send_tls(node.port, objects, authority.ca, mine)
        assert not send_tls(node.port, objects, authority.ca, foreign)
        entity = nodes.AE("SENDER")
        entity.add_requested_context("1.2.840.10008.1.1")
        entity.acse_timeout = entity.network_timeout = 3
        assert not entity.associate("127.0.0.1", node.port, ae_title="DLILD").is_established
        node.wait_for("sent")


def send_tls(port: int, objects, ca, pair) -> bool:
    context = ssl.create_default_context(cafile=str(ca))
    context.load_cert_chain(pair.cert, pair.key)
    entity = nodes.AE("SENDER")
    entity.acse_timeout = entity.network_timeout = 10
    entity.add_requested_context(objects[0].SOPClassUID, "1.2.840.10008.1.2.1")
    association = entity.associate(
        "127.0.0.1", port, ae_title="DLILD", tls_args=(context, "localhost")
    )
    if not association.is_established:
        return False
    statuses = [association.send_c_store(ds).Status for ds in objects]
    association.release()
    return statuses == [0] * len(objects)


def test_health_and_metrics(shared):
    (objects,) = small_studies(1, 3)
    port = shared.wait_for("started")[0]["http_port"]

    def get(path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
            return answer.read().decode()

    def values() -> dict[str, float]:
        rows = [line.rpartition(" ") for line in get("/metrics").splitlines() if line[0] != "#"]
        return {name: float(value) for name, _, value in rows}

    assert get("/healthz") == "ok"
    before = values()
    send(shared.port, [*objects, objects[0]])
    shared.wait_for("sent", study=objects[0])
    after = values()
    for name, grown in (
        ('dlild_node_objects_total{outcome="stored"}', 3),
        ('dlild_node_objects_total{outcome="repeat"}', 1),
        ("dlild_node_answers_total", 1),
        ('dlild_node_studies{state="done"}', 1),
        ("dlild_node_scoring_seconds_count", 1),
        ("dlild_node_sending_seconds_count", 1),
    ):
        assert after[name] - before.get(name, 0) == grown, name
    assert after["dlild_node_free_bytes"] > 0
    assert objects[0].StudyInstanceUID not in get("/metrics")


def test_the_disk_is_full_says_health(orthanc, tmp_path):
    with NodeProcess(tmp_path / "spool", orthanc.peer, http_port=0, free_bytes=1 << 60) as node:
        port = node.wait_for("started")[0]["http_port"]
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=10)
        assert caught.value.code == 503
        assert caught.value.read() == b"the disk of the spool is full"
