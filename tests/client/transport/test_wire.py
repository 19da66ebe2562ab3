from __future__ import annotations

import uuid

import numpy as np

from dlild_client.preparation.prepare import prepare
from dlild_client.preparation.surroundings import in_voxels
from dlild_client.transport.exchange import window_requests


def test_requests_say_what_docs_wire_says(chest, contract):
    prepared = prepare(chest, contract)
    messages = [r.message() for r in window_requests(prepared, contract)]
    ids = {m.parameters["sequence_id"].string_param for m in messages}
    assert len(ids) == 1
    assert str(uuid.UUID(next(iter(ids)))) in ids
    assert [m.parameters["sequence_start"].bool_param for m in messages] == [True] + [False] * (
        len(messages) - 1
    )
    assert [m.parameters["sequence_end"].bool_param for m in messages] == [False] * (
        len(messages) - 1
    ) + [True]
    first = messages[0]
    assert first.model_name == "dlild"
    told = [(t.name, t.datatype, list(t.shape)) for t in first.inputs]
    assert told == [
        ("window", "FP16", [1, 1, *prepared.plan.shape]),
        ("origin", "INT32", [1, 3]),
        ("box_shape", "INT32", [1, 3]),
        ("window_index", "INT32", [1, 1]),
        ("window_count", "INT32", [1, 1]),
        ("voxel_volume_mm3", "FP32", [1, 1]),
    ]
    raw = first.raw_input_contents
    start = prepared.box.start
    hu = np.frombuffer(raw[0], "<f2").reshape(prepared.plan.shape)
    place = tuple(slice(a, a + p) for a, p in zip(start, prepared.plan.shape, strict=True))
    grid, seen = prepared.grid.array, prepared.seen
    beside = in_voxels(seen.outside, seen.factors, grid.shape)
    sent = np.where(beside, contract.hu.padding, grid)[place]
    np.testing.assert_array_equal(hu, sent.astype(np.float16))
    assert tuple(np.frombuffer(raw[2], "<i4")) == prepared.box.shape
    assert np.frombuffer(raw[4], "<i4")[0] == len(messages)
    assert np.frombuffer(raw[5], "<f4")[0] == np.float32(3.375)
    assert [np.frombuffer(m.raw_input_contents[3], "<i4")[0] for m in messages] == list(
        range(len(messages))
    )


def test_each_sending_has_an_id_of_its_own(chest, contract):
    prepared = prepare(chest, contract)
    assert (
        next(window_requests(prepared, contract)).sequence_id
        != next(window_requests(prepared, contract)).sequence_id
    )
