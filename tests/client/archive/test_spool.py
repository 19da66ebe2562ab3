from __future__ import annotations

import pytest
from client.disks import data_set, files_of_at_most

from dlild_client.archive.spool import Spool
from dlild_client.errors import DlildError


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
