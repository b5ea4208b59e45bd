"""What the status tells."""

import pytest

from prefork.master.status import most_of_each


@pytest.mark.parametrize(
    ("busy", "most"), [([], None), ([2048], None), ([2000, 49], 1024), ([4096] * 4, 512), ([3] * 3000, 1)]
)
def test_so_many_requests_are_told_of_each_worker_that_the_master_is_not_held_up(
    busy: list[int], most: int | None
) -> None:
    assert most_of_each(busy) == most
