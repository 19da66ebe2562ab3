from __future__ import annotations

import pytest
from client.disks import data_set, files_of_at_most

from dlild_client.archive.spool import Spool
from dlild_client.errors import DlildError


def test_files_are_removed_only_where_the_queue_says_that_they_may_be(tmp_path):
    spool = Spool(tmp_path / "spool")
    arrived, recorded = spool.incoming / "object", []
    arrived.write_bytes(b"ct")
    spool.put(arrived, "a" * 32, "b" * 32, lambda: recorded.append("b"))
    assert (recorded, spool.instances("a" * 32)) == (["b"], {"b" * 32})
    assert not spool.remove("a" * 32, lambda: False)
    assert spool.instances("a" * 32) == {"b" * 32}
    assert spool.remove("a" * 32, lambda: True)
    assert spool.instances("a" * 32) == set()
    assert [*spool.incoming.iterdir(), *spool.folder.glob("studies/*")] == []
    assert spool.remove("a" * 32, lambda: True)


def test_a_result_that_does_not_fit_says_why_and_leaves_the_old_one_and_no_remains(tmp_path):
    spool = Spool(tmp_path / "spool")
    spool.put_result("a" * 32, [data_set(10)])
    old = [path.read_bytes() for path in spool.result("a" * 32)]
    with (
        files_of_at_most(1 << 19),
        pytest.raises(DlildError, match="the result cannot be written: File too large; look at"),
    ):
        spool.put_result("a" * 32, [data_set(20), data_set(1 << 20)])
    assert [path.read_bytes() for path in spool.result("a" * 32)] == old
    assert list(spool.incoming.iterdir()) == []
