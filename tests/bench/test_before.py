"""The product of an earlier checkout, where there is none."""

from pathlib import Path

import pytest
from bench.support.before import EarlierCheckoutError, earlier_product


def test_a_folder_without_the_product_is_refused_and_not_measured(tmp_path: Path):
    """The packages of this checkout are importable there, and must not be taken for it."""
    with (
        pytest.raises(EarlierCheckoutError, match="ended with code 1"),
        earlier_product(tmp_path, tmp_path),
    ):
        pass
