"""What holds for every task."""

import pytest

from tests import fault_corpora


@pytest.mark.parametrize("archive", fault_corpora.ARCHIVES)
def test_flipped_bit_of_an_archive_is_never_read_as_other_data(archive: str) -> None:
    count = fault_corpora.flips(archive, n=60, seed=1)
    assert count["other data"] == 0 and count["refused"] > 30
