"""What the acceptance tests share."""

from collections.abc import Iterator

import pytest

from tests.acceptance.bikes import warm


@pytest.fixture(scope="session", autouse=True)
def no_process_left() -> Iterator[None]:
    """The one that forks ends before the coverage of all processes is put together."""
    yield
    warm.stop()
