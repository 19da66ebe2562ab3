"""A whole scan through an in-process server, and everything that can go wrong on the way."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2

from dlild_client.client import Client
from dlild_client.errors import (
    BadAddressError,
    BusyError,
    ConnectionFailedError,
    ContractError,
    DlildError,
    NotChestError,
    RefusedError,
    ScanLostError,
    ServerError,
    TimedOutError,
    UnreadableFileError,
)
from dlild_client.preparation.prepare import prepare
from dlild_client.preparation.surroundings import in_voxels
from dlild_client.settings import Retries, Timeout
from dlild_client.transport.failures import from_server_message

ONCE = Retries(attempts=1)
QUICK = Timeout(connect_s=5, answer_s=1.0, scan_s=20)


def error(text):
    return service_pb2.ModelStreamInferResponse(error_message=text)


def test_a_scan_is_scored_as_its_voxels_say(server, chest):
    contract = server.contract
    stages = []
    with Client(server.url) as client:
        result = client.score(chest, progress=lambda *step: stages.append(step))
    prepared = prepare(chest, contract)
    inside = tuple(slice(a, b) for a, b in zip(prepared.box.start, prepared.box.stop, strict=True))
    hu = np.full(prepared.grid.shape, 2000, dtype=np.int16)
    hu[inside] = prepared.grid.array[inside]
    seen = prepared.seen
    hu[in_voxels(seen.outside, seen.factors, hu.shape)] = contract.hu.padding
    expected = np.where(hu <= -950, 0, np.where(hu < -600, 1, np.where(hu < -200, 2, 0)))
    np.testing.assert_array_equal(result.labels.array, expected)
    assert result.labels.origin_mm == prepared.grid.origin_mm
    lung, lesion = (expected > 0).sum(), (expected > 1).sum()
    assert result.dl_ild_percent == pytest.approx(100 * lesion / lung)
    assert result.lung_volume_ml == pytest.approx(lung * 3.375 / 1000)
    assert result.model.engine == "openvino"
    assert result.model.precision == "bf16"
    assert result.windows == len(prepared.plan.origins) > contract.windows.in_flight
    assert stages[-1] == ("inference", result.windows, result.windows)
    assert [s for s, done, _ in stages if done == 0] == ["read", "resample", "lungs", "inference"]
    assert server.most_in_flight <= contract.windows.in_flight


def test_two_scans_at_once_give_what_they_give_one_after_the_other(server, chest):
    other = chest.with_array(np.where(chest.array == -820, -500, chest.array).astype(np.int16))
    with Client(server.url) as client:
        apart = [client.score(scan).dl_ild_percent for scan in (chest, other)]
        with ThreadPoolExecutor(2) as pool:
            together = [r.dl_ild_percent for r in pool.map(client.score, (chest, other))]
    assert apart == together
    assert apart[0] != apart[1]
    assert len(set(server.sequence_ids)) == 4


def test_a_scan_shorter_than_a_window_is_padded(server, chest_maker):
    contract = server.contract
    short = chest_maker(shape=(32, 60, 80), spacing=(4.0, 5.0, 4.5))
    with Client(server.url) as client:
        result = client.score(short)
    assert result.labels.shape == result.image.shape
    assert result.image.shape[0] < contract.windows.minimum[0]
    assert result.grid.box_stop[0] == result.image.shape[0]
    assert "labels_beyond_scan" not in result.flags


def faulty(server, chest, fault, kind, words, timeout=QUICK):
    server.fault = fault
    with (
        Client(server.url, timeout=timeout, retries=ONCE) as client,
        pytest.raises(kind, match=words) as caught,
    ):
        client.score(chest)
    # The stream is closed, so nothing of this scan is left on the server or in this process.
    assert server.cancelled.wait(5)
    deadline = time.monotonic() + 5
    while any(t.name == "dlild-answers" for t in threading.enumerate()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return caught.value


def test_a_lost_answer_is_no_score(server, chest):
    faulty(
        server, chest, lambda i, r: None if i == 3 else [r], ServerError, "after 11 of 12 answers"
    )


def test_a_server_that_falls_silent_ends_in_a_time_out(server, chest):
    silent = faulty(
        server, chest, lambda i, r: None if i >= 3 else [r], TimedOutError, "no answer .* 1 s"
    )
    assert silent.retryable


def test_a_lost_last_answer_ends_in_a_time_out(server, chest):
    faulty(
        server,
        chest,
        lambda i, r: [r] if not r.infer_response.outputs[1].shape[1] else None,
        TimedOutError,
        "no answer",
    )


@pytest.mark.parametrize(
    ("text", "kind", "retryable"),
    [
        ("in ensemble 'dlild', BUSY: 12 scans are open", BusyError, True),
        ("GONE: this scan was dropped", ScanLostError, True),
        ("REFUSED: window has NaN", RefusedError, False),
        ("INCOMPLETE: windows 3 are missing", ScanLostError, True),
        ("FAILED: KeyError in dlild, see the server's log", ServerError, False),
        (
            "in ensemble 'dlild', must specify the START flag on the first request of the sequence",
            ScanLostError,
            True,
        ),
        ("must specify a non-zero or non-empty correlation ID", RefusedError, False),
        ("CUDA error: out of memory", ServerError, False),
        ("Exceeds maximum queue size", BusyError, True),
    ],
)
def test_a_refusal_of_the_server_is_distinguished(server, chest, text, kind, retryable):
    refusal = faulty(server, chest, lambda i, r: [error(text)] if i == 2 else [r], kind, "server")
    assert type(refusal) is kind
    assert refusal.retryable is retryable
    assert text.split(", ")[-1] in str(refusal)


def test_only_whole_words_count_as_prefix():
    assert type(from_server_message("model BUSYBOX failed")) is ServerError


def test_an_answer_twice_is_no_score(server, chest):
    faulty(server, chest, lambda i, r: [r, r] if i == 1 else [r], ServerError, "window 1 twice")


def test_the_last_answer_twice_is_no_score(server, chest):
    def fault(i, r):
        return [r, r] if r.infer_response.outputs[1].shape[1] else [r]

    faulty(server, chest, fault, ServerError, "more often than")


def test_a_score_before_the_end_is_no_score(server, chest, contract):
    kept = []

    def fault(i, r):
        kept.append(r)
        if i == 4:
            final = server._final(np.ones((2, 2, 2), np.uint8), 3.375)
            whole = {"windows_received": np.array([[5]], dtype="<i4"), **final}
            return [
                service_pb2.ModelStreamInferResponse(infer_response=server._message("4", whole))
            ]
        return [r]

    faulty(server, chest, fault, ServerError, r"a score after 5 of \d+ answers")


def test_a_score_from_too_few_windows_is_no_score(server, chest):
    def change(outputs):
        outputs["windows_received"] = outputs["windows_received"] - 1

    server.change_final = change
    faulty(server, chest, None, ServerError, r"a score from \d+ of \d+ windows")


def test_all_windows_answered_without_a_score_is_no_score(server, chest):
    def change(outputs):
        outputs["dl_ild_percent"] = np.zeros((1, 0))

    server.change_final = change
    faulty(server, chest, None, ServerError, "without a score")


@pytest.mark.parametrize(
    "name", ["dl_ild_percent", "class_volumes_ml", "zone_volumes_ml", "labels"]
)
def test_a_last_answer_that_does_not_add_up_is_no_score(server, chest, name):
    def change(outputs):
        changed = outputs[name].copy()
        if name == "labels":
            changed[0, 5, 5, :40] = 5
        else:
            changed.reshape(-1)[0] += 1
        outputs[name] = changed

    server.change_final = change
    faulty(server, chest, None, ServerError, "agree|not that of its volumes")


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("labels", np.zeros((1, 4, 4, 4), np.uint8), "shape"),
        ("class_volumes_ml", np.zeros((1, 3)), "classes"),
        ("zone_volumes_ml", np.zeros((1, 5, 2)), "zones"),
        ("labels", np.zeros((1, 4, 4, 4), "<i4"), "INT32"),
    ],
)
def test_a_last_answer_of_another_shape_is_no_score(server, chest, name, value, words):
    server.change_final = lambda outputs: outputs.update({name: value})
    faulty(server, chest, None, ServerError, words)


def test_an_unknown_label_is_no_score(server, chest):
    def change(outputs):
        outputs["labels"] = outputs["labels"].copy()
        outputs["labels"][0, 0, 0, 0] = 9

    server.change_final = change
    faulty(server, chest, None, ServerError, "label 9")


@pytest.mark.parametrize(("axis", "flagged"), [(0, True), (1, True), (2, True), (None, False)])
def test_lung_on_a_face_of_the_box_is_flagged(server, chest, axis, flagged):
    def change(outputs):
        labels = np.zeros_like(outputs["labels"][0])
        labels[40:80, 40:80, 40:80] = 1
        if axis is not None:
            np.moveaxis(labels, axis, 0)[40:, 40:60, 40:60] = 1  # 9 cm2 of the last face
        outputs.update(server._final(labels, 3.375))

    server.change_final = change
    with Client(server.url) as client:
        result = client.score(chest)
    assert ("lungs_at_box_edge" in result.flags) is flagged


def test_no_lung_at_all_is_no_score(server, chest):
    def change(outputs):
        labels = np.zeros_like(outputs["labels"][0])
        outputs.update(server._final(labels, 3.375))

    server.change_final = change
    faulty(server, chest, None, NotChestError, "no lung")


def test_a_missing_output_is_no_score(server, chest):
    def fault(i, r):
        del r.infer_response.outputs[4:]
        return [r]

    faulty(server, chest, fault, ServerError, "lacks labels")


def test_a_truncated_tensor_is_no_score(server, chest):
    def fault(i, r):
        r.infer_response.raw_output_contents[0] = b"\1"
        return [r]

    faulty(server, chest, fault, ServerError, "carries 1 bytes")


def test_a_stream_that_the_server_ends_is_an_error_at_once(server, chest):
    patient = replace(QUICK, answer_s=600)

    def fault(i, r):
        if i == 2:
            server.context.abort(grpc.StatusCode.UNAVAILABLE, "Socket closed")
        return [r]

    faulty(server, chest, fault, ConnectionFailedError, "connection to the server broke", patient)


def test_a_stream_that_just_ends_is_an_error_at_once(server, chest):
    def fault(i, r):
        if i == 2:
            raise StopIteration
        return [r]

    patient = replace(QUICK, answer_s=600)
    faulty(server, chest, fault, (ConnectionFailedError, ServerError), "server", patient)


def test_a_server_that_dies_mid_scan_is_an_error_at_once(server, chest):
    def fault(i, r):
        if i == 2:
            threading.Thread(target=server.stop, daemon=True).start()
            return []
        return [r]

    patient = replace(QUICK, answer_s=600)
    faulty(server, chest, fault, ConnectionFailedError, "server", patient)


def test_a_scan_over_its_time_limit_ends(server, chest):
    server.delay_s = 0.2
    faulty(server, chest, None, TimedOutError, "time limit", Timeout(5, 60, 0.7))


def stop(stage, done, whole):
    if stage == "inference" and done == 2:
        raise KeyboardInterrupt


def test_an_error_of_the_caller_closes_the_stream(server, chest):
    with Client(server.url) as client, pytest.raises(KeyboardInterrupt):
        client.score(chest, progress=stop)
    assert server.cancelled.wait(5)


def test_a_cancelled_scan_frees_its_slot(server, chest):
    with Client(server.url) as client, pytest.raises(KeyboardInterrupt):
        client.score(chest, progress=stop)
    assert server.aborts == server.sequence_ids


@pytest.mark.parametrize("text", ["BUSY: full", "REFUSED: NaN", "FAILED: see the log"])
def test_a_refused_scan_frees_its_slot(server, chest, text):
    faulty(server, chest, lambda i, r: [error(text)] if i == 2 else [r], DlildError, text)
    assert server.aborts == server.sequence_ids


def test_a_scan_whose_stream_broke_frees_its_slot(server, chest):
    def fault(i, r):
        if i == 2:
            server.context.abort(grpc.StatusCode.INTERNAL, "broke")
        return [r]

    faulty(server, chest, fault, ServerError, "broke")
    assert server.aborts == server.sequence_ids


def test_a_scan_that_was_sent_to_its_end_needs_no_abort_request(server, chest):
    with Client(server.url) as client:
        client.score(chest)
    server.fault = lambda i, r: [error("INCOMPLETE: 3")] if i == 11 else [r]
    with Client(server.url, retries=ONCE) as client, pytest.raises(ScanLostError):
        client.score(chest)
    assert server.aborts == []


def test_the_next_scan_after_a_failure_is_scored(server, chest):
    with Client(server.url, timeout=QUICK, retries=ONCE) as client:
        server.fault = lambda i, r: [error("BUSY: full")]
        with pytest.raises(BusyError):
            client.score(chest)
        server.fault = None
        assert client.score(chest).windows > 1


def test_info_reports_contract_version_and_profile(server):
    contract = server.contract
    with Client(server.url) as client:
        info = client.info()
    assert info.contract == contract
    assert info.profile == "embedded"
    assert info.engine.engine == "openvino"
    assert info.model_version == contract.model.version
    assert info.server_version == "2.51.0"


def test_a_model_that_is_not_ready_is_reported(server):
    server.ready = False
    with Client(server.url) as client, pytest.raises(ServerError, match="not ready"):
        client.info()


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({}, "no contract"),
        (
            {"contract": '{"schema_version": 7}', "profile": "embedded"},
            "7, this client understands 1",
        ),
        ({"profile": "turbo"}, "'turbo'"),
    ],
)
def test_another_contract_is_refused_before_anything_is_sent(server, chest, parameters, words):
    server.parameters = {**server.parameters, **parameters} if parameters else {}
    with Client(server.url) as client, pytest.raises(ContractError, match=words):
        client.score(chest)
    assert server.sequence_ids == []


def test_an_absent_server_is_named_with_what_to_try(server):
    server.stop()
    with (
        Client(server.url, timeout=QUICK) as client,
        pytest.raises(ConnectionFailedError, match="is it running") as caught,
    ):
        client.info()
    assert server.url in str(caught.value)


def test_an_absent_file_is_named_before_an_absent_server(server, tmp_path):
    server.stop()
    with Client(server.url, timeout=QUICK) as client:
        with pytest.raises(UnreadableFileError, match="absent: no such file"):
            client.score(tmp_path / "absent")
        (outcome,) = client.score_many([str(tmp_path / "absent")])
        assert isinstance(outcome.error, UnreadableFileError)


@pytest.mark.parametrize(
    "url",
    ["http://host:8001", "host:8001", "grpc://", "grpc://h:99999", "grpc://h/p", "", "grpc://u@h"],
)
def test_an_address_of_another_kind_is_refused(url):
    with pytest.raises(BadAddressError, match="grpc://host:8001"):
        Client(url)


def test_tls_to_a_plain_server_does_not_hang(server):
    with (
        Client(server.url.replace("grpc:", "grpcs:"), timeout=QUICK) as client,
        pytest.raises(ConnectionFailedError),
    ):
        client.info()


@pytest.mark.parametrize("times", [(0, 1, 1), (1, -1, 1), (1, 1, 0)])
def test_times_must_be_positive(times):
    with pytest.raises(ValueError, match="positive"):
        Timeout(*times)
